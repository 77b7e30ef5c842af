// SPDX-License-Identifier: Apache-2.0
// Inside of this room: the arguments of a call, read strictly. Pure. Each mistake names its member.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/json/fwd.hpp>

#include "base/result.h"
#include "base/time.h"

namespace aether::tools {

/// One object of arguments. Borrows the value. The first mistake is kept; what is read after it is
/// empty.
class Arguments {
 public:
  using Pairs = std::vector<std::pair<std::string, std::string>>;

  /// @param what Begins each message: "http", "http: lookup".
  Arguments(boost::json::value const& args, std::string what);

  /// A member that is none of these is a mistake: it would be ignored, and nobody would know.
  void only(std::initializer_list<std::string_view> names);
  /// Null if it is not there.
  [[nodiscard]] boost::json::value const* find(std::string_view name) const;

  [[nodiscard]] std::string required_text(std::string_view name);
  [[nodiscard]] std::string text(std::string_view name, std::string_view otherwise = {});
  [[nodiscard]] std::optional<std::uint64_t> number(std::string_view name, std::uint64_t least,
                                                    std::uint64_t most);
  [[nodiscard]] std::optional<double> real(std::string_view name, double least, double most);
  [[nodiscard]] bool flag(std::string_view name, bool otherwise);
  [[nodiscard]] std::vector<std::string> texts(std::string_view name);
  /// An object whose values are strings, numbers or booleans.
  [[nodiscard]] Pairs pairs(std::string_view name);
  [[nodiscard]] std::optional<Duration> duration(std::string_view name);

  void refuse(std::string_view name, std::string_view why);
  [[nodiscard]] Status const& status() const { return status_; }

 private:
  boost::json::value const* args_;
  std::string what_;
  Status status_;
};

/// A body as bytes: a string as it is, anything else as JSON. Null and absent: nothing.
[[nodiscard]] std::string body_bytes(boost::json::value const* value);
/// Bytes of the world as a value: what is JSON as JSON, if `may_be_json`; else text, valid UTF-8.
[[nodiscard]] boost::json::value value_of_bytes(std::string_view bytes, bool may_be_json);

}  // namespace aether::tools
