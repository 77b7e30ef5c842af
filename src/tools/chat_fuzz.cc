// SPDX-License-Identifier: Apache-2.0
// Any bytes as the body of a model's answer: read or refused, within limits, and the same however
// they are cut.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <boost/json/value.hpp>

#include "base/check.h"
#include "base/json.h"
#include "tools/chat.h"

using namespace aether;

namespace {

struct Heard {
  std::optional<tools::ChatAnswer> answer;
  std::string text;
};

Heard hear(std::string_view bytes, std::size_t piece) {
  tools::ChatAssembler assembler;
  Heard heard;
  while (!bytes.empty()) {
    auto const added = assembler.feed(bytes.substr(0, piece));
    if (!added) return heard;
    heard.text += *added;
    bytes.remove_prefix(std::min(piece, bytes.size()));
  }
  if (auto answer = std::move(assembler).finish()) heard.answer = std::move(*answer);
  return heard;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  if (size == 0) return 0;
  std::string_view const bytes(reinterpret_cast<char const*>(data + 1), size - 1);
  Heard const whole = hear(bytes, bytes.size() + 1);
  Heard const cut = hear(bytes, std::size_t{1} + data[0] % 16U);
  AETHER_CHECK(whole.answer == cut.answer);
  if (!whole.answer) return 0;
  AETHER_CHECK(whole.text == cut.text);
  AETHER_CHECK(whole.text.empty() || whole.text == whole.answer->content);
  AETHER_CHECK(parse_json(canonical_json(tools::chat_value(*whole.answer)), "value").has_value());
  return 0;
}
