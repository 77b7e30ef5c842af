// SPDX-License-Identifier: Apache-2.0
// Growth: that the journal of one checkpoint is the journal of an older one with more at its end,
// in one file that anybody can verify who kept the older one. docs/journal.md describes it.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "journal/checkpoint.h"
#include "journal/journal.h"

namespace aether::journal {

/// What https://c2sp.org/tlog-witness sends to a witness: the body of `add-checkpoint`.
struct Growth {
  std::uint64_t old_size = 0;
  std::vector<Hash> proof;  ///< consistency_proof().
  std::string note;         ///< The later checkpoint, signed.
  bool operator==(Growth const&) const = default;
};
[[nodiscard]] bool is_growth(std::string_view text);
[[nodiscard]] std::string growth_text(Growth const& growth);
/// Strict: growth_text() of the result is `text`. Says nothing of whether it is true.
[[nodiscard]] Result<Growth> parse_growth(std::string_view text);

/// From the checkpoint of that size to the one in the note, which is of this journal as it is now
/// or was. EvidenceInvalid if the journal never was that large: it was set back.
[[nodiscard]] Result<Growth> prove_growth(Journal& journal, std::uint64_t old_size,
                                          std::string const& note, VerifierKey const& key);

/// The note in any file that has one: a checkpoint, a growth, or evidence.
[[nodiscard]] Result<std::string> note_in(std::string_view text);

struct VerifiedGrowth {
  Checkpoint from;
  Checkpoint to;
};
/// @param kept The older checkpoint, or a file that has one: note_in(). EvidenceInvalid says which
///   of the two is not as it should be, and why.
[[nodiscard]] Result<VerifiedGrowth> verify_growth(std::string_view text, std::string_view kept,
                                                   std::string_view trusted);

}  // namespace aether::journal
