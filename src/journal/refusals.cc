// SPDX-License-Identifier: Apache-2.0
#include "journal/refusals.h"

#include <string>

namespace aether::journal {

std::optional<Refusal> refused_check(StreamCheck const& check, StreamState const& state) {
  using enum Refusal::Why;
  auto const refuse = [&](Refusal::Why why, std::uint64_t current) {
    return Refusal{.why = why, .stream = check.stream, .name = {}, .current = current};
  };
  if (check.expected && *check.expected != state.last)
    return refuse(SequenceMoved, state.last.value);
  if (check.held && *check.held != state.fence) return refuse(FenceStale, state.fence.value);
  if (check.raised && *check.raised <= state.fence)
    return refuse(FenceNotHigher, state.fence.value);
  return std::nullopt;
}

std::optional<Refusal> refused_cause(NewEvent const& event, Position at) {
  if (!event.cause || (event.cause->value > 0 && *event.cause < at)) return std::nullopt;
  return Refusal{.why = Refusal::Why::CauseAhead,
                 .stream = event.stream,
                 .name = {},
                 .current = event.cause->value};
}

Refusal unknown_blob(BlobHash const& hash) {
  return {.why = Refusal::Why::BlobUnknown, .stream = {}, .name = text_of(hash), .current = 0};
}

std::optional<Refusal> KeysTaken::take(NewEvent const& event, std::string_view key,
                                       std::optional<Position> stored, Position at) {
  auto const [mine, is_new] = here_.try_emplace(key, at);
  if (!is_new) stored = mine->second;
  if (!stored) return std::nullopt;
  return Refusal{.why = Refusal::Why::KeyTaken,
                 .stream = event.stream,
                 .name = std::string(key),
                 .current = stored->value};
}

}  // namespace aether::journal
