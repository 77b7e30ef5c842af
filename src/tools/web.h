// SPDX-License-Identifier: Apache-2.0
// Inside of this room: one HTTP exchange of a tool, and what it proves about what was done.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "async/task.h"
#include "base/time.h"
#include "http/client.h"
#include "http/tls.h"
#include "http/url.h"
#include "tools/outcome.h"
#include "tools/resolver.h"

namespace aether::tools {

/// Of an answer's body; `max_bytes` may raise it as far as kAnswerBytesMost.
inline constexpr std::size_t kAnswerBytesUsual = std::size_t{1} * 1024 * 1024;
inline constexpr std::size_t kAnswerBytesMost = std::size_t{16} * 1024 * 1024;

struct WebCall {
  http::Url url;
  http::Request request;
  Duration timeout{};
  std::size_t body_bytes_max = kAnswerBytesUsual;
  http::ChunkSink on_chunk = {};  ///< As FetchOptions.
};
/// What is known of a call.
struct Verdict {
  EffectOutcome outcome = EffectOutcome::Ok;
  bool retryable = false;
  friend bool operator==(Verdict const&, Verdict const&) = default;
};
struct WebAnswer {
  std::optional<http::Response> response;  ///< Whole, or cut where it was too long.
  bool cut = false;
  Verdict failed;     ///< Without a response: NotExecuted if nothing was sent, else Unknown.
  std::string error;  ///< Then: what was tried, and what happened.
};

/// No proxies, no redirects, one connection a call.
class WebCaller {
 public:
  /// @param ca_file Of the authorities that count; empty: the system's.
  explicit WebCaller(std::string ca_file) : ca_file_(std::move(ca_file)) {}
  /// Throws nothing for what the other side does. A cancelled call is a failed one.
  [[nodiscard]] async::Task<WebAnswer> perform(WebCall call);

 private:
  async::Task<void> exchange(WebCall* call, http::FetchTrail* trail, WebAnswer* answer);
  http::TlsContext const* tls();

  std::string ca_file_;
  Resolver resolver_;
  std::optional<http::TlsContext> tls_;  ///< From the first https call on.
};

/// What a status says about a call by that method (RFC 9110, 15). 2xx and 303: done. 502 and 504
/// come from somebody between, who does not know; and a request that changes something may have
/// been done before a 301 or 302. Everything else is a "no".
[[nodiscard]] Verdict judge_status(std::string_view method, int status);
/// GET and HEAD: they change nothing, so a redirect may be followed.
[[nodiscard]] bool is_safe_method(std::string_view method);
/// The Retry-After of an answer, if it is in seconds.
[[nodiscard]] std::optional<Duration> retry_after(http::Response const& response);
/// Where a redirect leads (RFC 3986, 5.2, without dot segments). AddressInvalid: nowhere.
[[nodiscard]] Result<http::Url> redirect_target(http::Url const& from, std::string_view location);
/// Whether an entry is the URL's host: "api.example.com", "*.example.com", "127.0.0.1:8080".
/// Without entries every host is.
[[nodiscard]] bool is_host_allowed(std::vector<std::string> const& hosts, http::Url const& url);
/// "POST http://host/path", without the query: it may hold secrets.
[[nodiscard]] std::string describe_request(std::string_view method, http::Url const& url);
/// Whether a Content-Type is JSON's (RFC 6839 suffixes too).
[[nodiscard]] bool is_json_type(std::string_view content_type);

}  // namespace aether::tools
