// SPDX-License-Identifier: Apache-2.0
// ControlClient: the command line's side of the API: over the control socket, or over TCP with a
// token.
#pragma once
#include <functional>
#include <string>
#include <string_view>

#include <boost/json/fwd.hpp>

#include "base/result.h"
#include "base/time.h"
#include "cli/globals.h"
#include "http/client.h"

namespace aether::cli {

/// Answers that Aether gives at once.
inline constexpr Duration kAnswerLimit = std::chrono::seconds(10);
/// Verdicts: every phase of a swap has its own deadline, this one only ends a wait for nothing.
inline constexpr Duration kVerdictLimit = std::chrono::hours(24);

/// Something that runs.
struct Named {
  enum class Kind : unsigned char { Service, Function } kind = Kind::Service;
  std::string name;

  [[nodiscard]] bool is_function() const { return kind == Kind::Function; }
  /// "/v1/services/NAME" or "/v1/functions/NAME".
  [[nodiscard]] std::string path() const;
};

class ControlClient {
 public:
  /// Finds the running Aether that `globals` mean. NotRunning, or UsageInvalid if it is unclear;
  /// with --url, what is wrong with it or with the token's file.
  [[nodiscard]] static Result<ControlClient> find(Globals const& globals);

  /// Asks, and returns the JSON answer. A problem+json answer is returned as its Error.
  [[nodiscard]] Result<boost::json::value> call(std::string_view method, std::string target,
                                                std::string body = {},
                                                Duration deadline = kAnswerLimit,
                                                http::Headers const& headers = {}) const;
  /// Passes on each piece of an endless answer until it ends.
  [[nodiscard]] Status follow(std::string target,
                              std::function<void(std::string_view)> on_piece) const;
  /// The service or function of that name (the service if both have it), or the only one there is.
  /// ServiceUnknown if there is none; UsageInvalid if it is unclear which.
  [[nodiscard]] Result<Named> find_named(std::string const& named) const;
  /// The named service, or the only one there is. UsageInvalid if it is unclear which.
  [[nodiscard]] Result<std::string> service_or_only(std::string const& named) const;
  /// Where its machine is reached: an IP address.
  [[nodiscard]] std::string host() const { return is_remote() ? endpoint_.host : "127.0.0.1"; }
  /// It runs elsewhere: its process numbers mean nothing here.
  [[nodiscard]] bool is_remote() const { return endpoint_.unix_path.empty(); }

 private:
  ControlClient(http::Endpoint endpoint, std::string token)
      : endpoint_(std::move(endpoint)), token_(std::move(token)) {}
  [[nodiscard]] http::Request request_of(std::string_view method, std::string target,
                                         std::string body) const;

  http::Endpoint endpoint_;
  std::string token_;  ///< Empty: none is sent.
};

}  // namespace aether::cli
