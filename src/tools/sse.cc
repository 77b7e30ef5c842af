// SPDX-License-Identifier: Apache-2.0
#include "tools/sse.h"

#include <utility>

#include <fmt/format.h>

namespace aether::tools {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

void SseParser::end_line(std::vector<std::string>& events) {
  std::string const line = std::exchange(line_, {});
  std::string_view text = line;
  if (!std::exchange(began_, true) && text.starts_with(kByteOrderMark))
    text.remove_prefix(kByteOrderMark.size());
  if (text.empty()) {
    if (std::exchange(has_data_, false)) events.push_back(std::exchange(data_, {}));
    return;
  }
  std::size_t const colon = text.find(':');
  if (text.substr(0, colon) != "data") return;
  std::string_view value =
      colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (std::exchange(has_data_, true)) data_ += '\n';
  data_ += value;
}

Result<std::vector<std::string>> SseParser::feed(std::string_view bytes) {
  std::vector<std::string> events;
  for (char const c : bytes) {
    bool const after_return = std::exchange(after_return_, c == '\r');
    if (c == '\n' && after_return) continue;
    if (c == '\n' || c == '\r') {
      end_line(events);
      continue;
    }
    if (line_.size() + data_.size() >= kSseEventBytesMax) {
      return fail(ErrorCode::LimitReached,
                  fmt::format("an event of the stream is longer than {} bytes", kSseEventBytesMax));
    }
    line_ += c;
  }
  return events;
}

}  // namespace aether::tools
