// SPDX-License-Identifier: Apache-2.0
// URLs and request targets, parsed strictly. Pure.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace aether::http {

/// "http://host:port/path?query". No user, no fragment.
struct Url {
  std::string host;  ///< Without brackets: "::1" for "[::1]".
  std::uint16_t port = 80;
  std::string target = "/";  ///< Path and query, as they go on the request line.
  bool secure = false;       ///< https
  friend bool operator==(Url const&, Url const&) = default;

  /// "host:port", with brackets around IPv6; without the scheme's own port: the Host header.
  [[nodiscard]] std::string authority() const;
  /// All of it again.
  [[nodiscard]] std::string text() const;
};
/// Only http.
[[nodiscard]] Result<Url> parse_url(std::string_view text);
/// http or https.
[[nodiscard]] Result<Url> parse_web_url(std::string_view text);

/// The target of a request line: origin form ("/a?b=c"), absolute form, or "*".
struct Target {
  std::string path;  ///< Percent-decoded. No control characters.
  std::vector<std::pair<std::string, std::string>> query;  ///< Decoded; '+' is a space.
  friend bool operator==(Target const&, Target const&) = default;
};
[[nodiscard]] Result<Target> parse_target(std::string_view text);

/// Nothing outside A-Z a-z 0-9 - . _ ~ stays as it is: for one path segment or query value.
[[nodiscard]] std::string percent_encode(std::string_view text);

}  // namespace aether::http
