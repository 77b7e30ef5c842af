// SPDX-License-Identifier: Apache-2.0
#include "journal/evidence.h"

#include <algorithm>
#include <unordered_set>

#include <fmt/format.h>

#include "journal/laws.h"
#include "journal/limits.h"
#include "os/file.h"

namespace aether::journal {
namespace {

/// Of one file: what one process can hold.
constexpr std::size_t kEvidenceBytesMax = std::size_t{1} << 30U;

Failure no_evidence(std::string what) {
  return fail(ErrorCode::EvidenceInvalid, "verifying evidence: " + std::move(what));
}

/// The addresses that the events name, each once, in the order of their first use.
std::vector<BlobHash> blobs_of(std::vector<Event> const& events) {
  std::vector<BlobHash> found;
  std::unordered_set<BlobHash> seen;
  for (Event const& event : events) {
    std::ranges::copy_if(event.blobs, std::back_inserter(found),
                         [&](BlobHash const& hash) { return seen.insert(hash).second; });
  }
  return found;
}

Result<std::vector<Event>> whole_stream(Journal& journal, std::string_view stream) {
  std::vector<Event> events;
  while (true) {
    TRY_ASSIGN(std::vector<Event> some,
               journal.read_stream(stream, Sequence{events.size() + 1}, kReadEventsMax));
    if (some.empty()) return events;
    std::ranges::move(some, std::back_inserter(events));
  }
}

Result<std::vector<Event>> lawful_events(Evidence const& evidence) {
  if (evidence.lines.empty()) return no_evidence("there are no events");
  Laws laws(Laws::Positions::Ascending);
  std::vector<Event> events;
  for (std::string const& line : evidence.lines) {
    Result<Event> event = parse_event_line(line);
    if (!event) {
      return no_evidence(
          fmt::format("the {}. event was changed: it is not written as one", events.size() + 1));
    }
    if (event->stream != evidence.stream) {
      return no_evidence(fmt::format("position {}: it is of another stream", event->position));
    }
    std::vector<Breach> const breaches = laws.take(*event);
    if (!breaches.empty()) {
      return no_evidence(
          fmt::format("position {}: {}", event->position, text_of(breaches.front())));
    }
    events.push_back(std::move(*event));
  }
  return events;
}

Status check_blobs(Evidence const& evidence, std::vector<Event> const& events) {
  std::vector<BlobHash> hashes;
  for (Blob const& blob : evidence.blobs) {
    hashes.push_back(blob.hash);
    if (blob.content && blob_hash(blob.salt, *blob.content) != blob.hash) {
      return no_evidence(fmt::format("the blob {} was changed", text_of(blob.hash)));
    }
  }
  if (hashes != blobs_of(events))
    return no_evidence("the blobs are not those that the events name");
  return {};
}

Status check_proof(Evidence const& evidence, std::vector<Event> const& events,
                   TreeHead const& head) {
  std::vector<NumberedLeaf> leaves;
  for (std::size_t at = 0; at < events.size(); ++at) {
    leaves.push_back(
        {.number = events[at].position.value - 1, .hash = leaf_hash(evidence.lines[at])});
  }
  if (bundle_root(leaves, head.size, evidence.proof) == head.root) return {};
  return no_evidence(
      fmt::format("the events and their proof do not give the root that was signed for "
                  "the tree of size {}: an event or the proof was changed, left out or "
                  "moved",
                  head.size));
}

}  // namespace

Result<Evidence> export_evidence(Journal& journal, std::string_view stream, std::string const& note,
                                 VerifierKey const& key) {
  TRY_ASSIGN(Checkpoint const checkpoint, open_checkpoint(note, key));
  TRY_ASSIGN(std::vector<Event> const events, whole_stream(journal, stream));
  if (events.empty()) {
    return fail(ErrorCode::NotFound, fmt::format("exporting {}: there is no such stream", stream));
  }
  if (events.back().position.value > checkpoint.head.size) {
    return fail(ErrorCode::RequestInvalid,
                fmt::format("exporting {}: its last event, at {}, is later than the checkpoint of "
                            "size {}; make a new one",
                            stream, events.back().position, checkpoint.head.size));
  }
  Evidence evidence{.key = key.text(),
                    .stream = std::string(stream),
                    .lines = {},
                    .blobs = {},
                    .proof = {},
                    .note = note};
  std::vector<std::uint64_t> leaves;
  for (Event const& event : events) {
    evidence.lines.push_back(event_line(event));
    leaves.push_back(event.position.value - 1);
  }
  for (BlobHash const& hash : blobs_of(events)) {
    TRY_ASSIGN(std::optional<Blob> blob, journal.blob(hash));
    if (!blob) {
      return fail(ErrorCode::StoreDamaged,
                  fmt::format("exporting {}: its blob {} is not stored", stream, text_of(hash)));
    }
    evidence.blobs.push_back(std::move(*blob));
  }
  TRY_ASSIGN(evidence.proof, bundle_proof(journal, leaves, checkpoint.head.size));
  return evidence;
}

Result<Verified> verify_evidence(std::string_view text, std::string_view trusted) {
  TRY_ASSIGN(Evidence const evidence, parse_evidence(text));
  if (!trusted.empty() && trusted != evidence.key) {
    return no_evidence(
        fmt::format("it is signed with {}, and {} is trusted", evidence.key, trusted));
  }
  TRY_ASSIGN(VerifierKey const key, VerifierKey::parse(evidence.key));
  TRY_ASSIGN(Checkpoint checkpoint, open_checkpoint(evidence.note, key));
  // A line of a stranger's could be changed without notice.
  TRY_ASSIGN(SignedNote const note, parse_note(evidence.note));
  if (note.signatures.size() != 1) return no_evidence("the checkpoint has more than one signature");
  TRY_ASSIGN(std::vector<Event> events, lawful_events(evidence));
  TRY(check_blobs(evidence, events));
  TRY(check_proof(evidence, events, checkpoint.head));
  auto const erased =
      std::ranges::count_if(evidence.blobs, [](Blob const& blob) { return !blob.content; });
  return Verified{.stream = evidence.stream,
                  .events = std::move(events),
                  .blobs = evidence.blobs.size(),
                  .blobs_erased = static_cast<std::uint64_t>(erased),
                  .checkpoint = std::move(checkpoint),
                  .key = evidence.key};
}

Result<Verified> verify_evidence_file(std::string const& path, std::string_view trusted) {
  TRY_ASSIGN(std::string const text, os::read_file(path, kEvidenceBytesMax));
  return verify_evidence(text, trusted);
}

}  // namespace aether::journal
