// SPDX-License-Identifier: Apache-2.0
#include "http/problem.h"

#include <string>

#include <fmt/format.h>

namespace aether::http {
namespace {

// The details are ours, but some quote what a client sent.
std::string json_escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (char const c : text) {
    auto const byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7f) {
      out += fmt::format("\\u{:04x}", byte);
    } else {
      if (c == '"' || c == '\\') out.push_back('\\');
      out.push_back(c);
    }
  }
  return out;
}

}  // namespace

Response problem(int status, std::string_view detail) {
  std::string body =
      fmt::format(R"({{"type":"about:blank","title":"{}","status":{},"detail":"{}"}})",
                  reason_phrase(status), status, json_escape(detail));
  return {.status = status,
          .headers = {{"Content-Type", "application/problem+json"}},
          .body = std::move(body)};
}

}  // namespace aether::http
