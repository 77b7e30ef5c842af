// SPDX-License-Identifier: Apache-2.0
#include "answer.h"

#include <strings.h>

#include <algorithm>
#include <cstdlib>

namespace aether::load {

bool is_complete(std::string_view answer) {
  std::size_t const head = answer.find("\r\n\r\n");
  if (head == std::string_view::npos) return false;
  std::string_view const length = header(answer, "content-length");
  std::size_t const size = length.empty() ? 0 : std::strtoull(length.data(), nullptr, 10);
  return answer.size() >= head + 4 + size;
}

std::string_view header(std::string_view answer, std::string_view name) {
  std::string_view const head = answer.substr(0, answer.find("\r\n\r\n"));
  for (std::size_t at = head.find("\r\n"); at != std::string_view::npos;
       at = head.find("\r\n", at + 2)) {
    std::string_view const line = head.substr(at + 2);
    if (line.size() <= name.size() || line[name.size()] != ':') continue;
    if (::strncasecmp(line.data(), name.data(), name.size()) != 0) continue;
    std::string_view value = line.substr(name.size() + 1);
    value = value.substr(0, value.find("\r\n"));
    return value.substr(std::min(value.find_first_not_of(' '), value.size()));
  }
  return {};
}

std::string_view body(std::string_view answer) {
  std::size_t const head = answer.find("\r\n\r\n");
  return head == std::string_view::npos ? std::string_view{} : answer.substr(head + 4);
}

bool is_success(std::string_view answer) {
  return answer.starts_with("HTTP/1.1 2") || answer.starts_with("HTTP/1.0 2");
}

bool wants_close(std::string_view answer) {
  std::string_view const value = header(answer, "connection");
  return value.size() >= 5 && ::strncasecmp(value.data(), "close", 5) == 0;
}

}  // namespace aether::load
