// SPDX-License-Identifier: Apache-2.0
// Evidence: one stream with its blobs, proved to be in the tree of one signed checkpoint, in one
// file that anybody can verify without the journal. docs/journal.md describes it to the byte.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "journal/checkpoint.h"
#include "journal/journal.h"

namespace aether::journal {

/// What a file of evidence holds, in its order.
struct Evidence {
  std::string key;  ///< The verifier's key, as text.
  std::string stream;
  std::vector<std::string> lines;  ///< Of the stream's events: event_line().
  std::vector<Blob> blobs;         ///< All that the events name, in the order of their first use.
  std::vector<Hash> proof;         ///< bundle_proof() of the events' positions.
  std::string note;                ///< The signed checkpoint.
  bool operator==(Evidence const&) const = default;
};
[[nodiscard]] std::string evidence_text(Evidence const& evidence);
/// Strict: evidence_text() of the result is `text`. Says nothing of whether it is true.
[[nodiscard]] Result<Evidence> parse_evidence(std::string_view text);

/// The evidence of a stream. The checkpoint must be later than the stream's last event: make one
/// with sign_checkpoint(). NotFound if there is no such stream.
[[nodiscard]] Result<Evidence> export_evidence(Journal& journal, std::string_view stream,
                                               std::string const& note, VerifierKey const& key);

/// What a file proves.
struct Verified {
  std::string stream;
  std::vector<Event> events;
  std::uint64_t blobs = 0;
  std::uint64_t blobs_erased = 0;
  Checkpoint checkpoint;
  std::string key;  ///< Compare it with the one you got from elsewhere, or give that one.
};
/// EvidenceInvalid says what is wrong, and at which position if one event is.
/// @param trusted The key that must have signed; empty: the one in the file, which proves that the
///   file is whole, but not who made it.
[[nodiscard]] Result<Verified> verify_evidence(std::string_view text, std::string_view trusted);
[[nodiscard]] Result<Verified> verify_evidence_file(std::string const& path,
                                                    std::string_view trusted);

}  // namespace aether::journal
