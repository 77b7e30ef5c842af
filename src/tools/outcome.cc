// SPDX-License-Identifier: Apache-2.0
#include "tools/outcome.h"

#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace aether::tools {
namespace {

// In the order of the enumerators.
constexpr std::array<std::string_view, 4> kPolicies = {"once", "read", "keyed", "lookup"};
constexpr std::array<std::string_view, 4> kOutcomes = {"ok", "error", "not_executed", "unknown"};

template <class E>
Result<E> parse(std::array<std::string_view, 4> const& words, std::string_view what,
                std::string_view text) {
  for (std::size_t at = 0; at < words.size(); ++at) {
    if (words[at] == text) return static_cast<E>(at);
  }
  return fail(ErrorCode::RequestInvalid,
              fmt::format("'{}' is not {}: write one of {}", text.substr(0, 64), what,
                          fmt::join(words, ", ")));
}

}  // namespace

std::string_view text_of(Policy value) {
  return kPolicies.at(static_cast<std::size_t>(value));
}

std::string_view text_of(EffectOutcome value) {
  return kOutcomes.at(static_cast<std::size_t>(value));
}

Result<Policy> parse_policy(std::string_view text) {
  return parse<Policy>(kPolicies, "a policy", text);
}

Result<EffectOutcome> parse_effect_outcome(std::string_view text) {
  return parse<EffectOutcome>(kOutcomes, "an outcome of a call", text);
}

}  // namespace aether::tools
