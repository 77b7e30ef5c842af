// SPDX-License-Identifier: Apache-2.0
// Policy and outcome of a call: the words by which tools and jobs understand each other.
#pragma once
#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace aether::tools {

/// What happens after a crash between the call and its record (JOBS: "At most once, by default").
enum class Policy : std::uint8_t {
  Once,    ///< Never again: a person says what happened. The default.
  Read,    ///< Again: nothing is changed by it.
  Keyed,   ///< Again with the same Idempotency-Key: the other side dedupes.
  Lookup,  ///< The other side is asked by key what happened.
};
enum class EffectOutcome : std::uint8_t {
  Ok,
  Error,        ///< It answered: no.
  NotExecuted,  ///< Proved that nothing was sent, or that nothing was done.
  Unknown,      ///< It may have happened.
};
[[nodiscard]] std::string_view text_of(Policy value);
[[nodiscard]] std::string_view text_of(EffectOutcome value);
[[nodiscard]] Result<Policy> parse_policy(std::string_view text);
[[nodiscard]] Result<EffectOutcome> parse_effect_outcome(std::string_view text);

}  // namespace aether::tools
