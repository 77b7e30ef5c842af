// SPDX-License-Identifier: Apache-2.0
#include "journal/growth.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include <fmt/format.h>

#include "journal/evidence.h"
#include "journal/merkle.h"

namespace aether::journal {
namespace {

constexpr std::string_view kFirstWord = "old ";
constexpr std::string_view kEvidenceBegin = "aether-evidence/";
/// A tree of 2^64 leaves has no longer proof.
constexpr std::size_t kProofMax = 65;

Failure no_growth(std::string_view what) {
  return fail(ErrorCode::EvidenceInvalid, fmt::format("verifying that a journal grew: {}", what));
}

Status check_proof(Growth const& growth, TreeHead const& from, TreeHead const& to) {
  if (to.size < from.size) {
    return no_growth(
        fmt::format("the later checkpoint has {} events, and the one that was kept "
                    "has {}: the journal was set back, or the two were swapped",
                    to.size, from.size));
  }
  if (growth.old_size != from.size) {
    return no_growth(
        fmt::format("it is a proof from size {} on, and the checkpoint that was kept "
                    "has size {}",
                    growth.old_size, from.size));
  }
  bool const follows =
      from.size == 0 ? growth.proof.empty() && from.root == kEmptyRoot
                     : verify_consistency(from.size, from.root, to.size, to.root, growth.proof);
  if (follows) return {};
  return no_growth(
      fmt::format("the tree of size {} does not begin with the tree of size {} that "
                  "was kept: what was recorded before is not the same, or the proof "
                  "was changed",
                  to.size, from.size));
}

}  // namespace

bool is_growth(std::string_view text) {
  return text.starts_with(kFirstWord);
}

std::string growth_text(Growth const& growth) {
  std::string text = fmt::format("{}{}\n", kFirstWord, growth.old_size);
  for (Hash const& hash : growth.proof) text += text_of(hash) + "\n";
  return text + "\n" + growth.note;
}

Result<Growth> parse_growth(std::string_view text) {
  Growth growth;
  std::size_t const split = text.find("\n\n");
  std::string_view head = text.substr(0, std::min(split, text.size()));
  bool good = is_growth(text) && split != std::string_view::npos;
  std::size_t at = std::min(head.find('\n'), head.size());
  std::string_view const size = head.substr(0, at);
  if (good) {
    auto const [end, error] = std::from_chars(size.data() + kFirstWord.size(),
                                              size.data() + size.size(), growth.old_size);
    good = error == std::errc();
  }
  while (good && at < head.size() && growth.proof.size() < kProofMax) {
    head.remove_prefix(at + 1);
    at = std::min(head.find('\n'), head.size());
    std::optional<Hash> const hash = hash_of_text(head.substr(0, at));
    good = hash.has_value();
    growth.proof.push_back(hash.value_or(Hash{}));
  }
  if (good) growth.note = text.substr(split + 2);
  if (good && growth_text(growth) == text) return growth;
  return no_growth("its text is not \"old SIZE\", hashes, an empty line and a checkpoint");
}

Result<Growth> prove_growth(Journal& journal, std::uint64_t old_size, std::string const& note,
                            VerifierKey const& key) {
  TRY_ASSIGN(Checkpoint const checkpoint, open_checkpoint(note, key));
  if (old_size > checkpoint.head.size) {
    return fail(ErrorCode::EvidenceInvalid,
                fmt::format("proving that the journal grew: it has {} events, and had {} when the "
                            "older checkpoint was signed: it was set back to an older copy, or is "
                            "another one",
                            checkpoint.head.size, old_size));
  }
  Growth growth{.old_size = old_size, .proof = {}, .note = note};
  if (old_size > 0) {
    TRY_ASSIGN(growth.proof, consistency_proof(journal, old_size, checkpoint.head.size));
  }
  return growth;
}

Result<std::string> note_in(std::string_view text) {
  if (text.starts_with(kEvidenceBegin)) {
    TRY_ASSIGN(Evidence evidence, parse_evidence(text));
    return std::move(evidence.note);
  }
  if (!is_growth(text)) return std::string(text);
  TRY_ASSIGN(Growth growth, parse_growth(text));
  return std::move(growth.note);
}

Result<VerifiedGrowth> verify_growth(std::string_view text, std::string_view kept,
                                     std::string_view trusted) {
  TRY_ASSIGN(VerifierKey const key, VerifierKey::parse(trusted));
  TRY_ASSIGN(std::string const old_note, note_in(kept));
  TRY_ASSIGN(Growth const growth, parse_growth(text));
  VerifiedGrowth found;
  TRY_ASSIGN(found.from, open_checkpoint(old_note, key));
  TRY_ASSIGN(found.to, open_checkpoint(growth.note, key));
  // A line of a stranger's could be changed without notice.
  TRY_ASSIGN(SignedNote const note, parse_note(growth.note));
  if (note.signatures.size() != 1) return no_growth("the checkpoint has more than one signature");
  TRY(check_proof(growth, found.from.head, found.to.head));
  return found;
}

}  // namespace aether::journal
