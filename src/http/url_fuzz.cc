// SPDX-License-Identifier: Apache-2.0
// Any bytes: URLs and targets parse or are refused; what parses keeps what it promises.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "http/ascii.h"
#include "http/url.h"

using namespace aether;

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::string_view const text(reinterpret_cast<char const*>(data), size);
  if (auto const url = http::parse_url(text)) {
    AETHER_CHECK(!url->host.empty() && url->port != 0);
    AETHER_CHECK(url->target.starts_with('/') && http::is_visible(url->target));
    auto const again = http::parse_url("http://" + url->authority() + url->target);
    AETHER_CHECK(again && *again == *url);
  }
  if (auto const target = http::parse_target(text)) {
    AETHER_CHECK(target->path == "*" || target->path.starts_with('/'));
    AETHER_CHECK(http::is_field_value(target->path));
  }
  auto const escaped = http::parse_target("/?v=" + http::percent_encode(text));
  if (escaped) AETHER_CHECK(escaped->query.size() == 1 && escaped->query[0].second == text);
  return 0;
}
