// SPDX-License-Identifier: Apache-2.0
// Events of runs as events of the journal, and back. docs/jobs-journal.md describes each body.
//
// A value whose canonical text has more than kInlineBytesMax bytes goes to a blob, or each value
// where all are to be erasable; the body has its address instead ("result_blob" instead of
// "result").
#pragma once
#include <concepts>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "jobs/run_event.h"
#include "jobs/run_state.h"
#include "journal/journal.h"

namespace aether::jobs {

/// Of a value's canonical text in a body; a longer one is a blob.
inline constexpr std::size_t kInlineBytesMax = 4096;
/// Arrays and objects within each other in a body's value; a deeper one is a blob, so that a body
/// stays readable for parse_json().
inline constexpr std::size_t kInlineDepthMax = 32;

/// 16 bytes nobody can guess, for each blob; and how long a value may be without becoming one.
class SaltSource {
 public:
  template <std::invocable Make>
  SaltSource(Make make, std::size_t inline_bytes_max = kInlineBytesMax)  // NOLINT: as a function
      : make_(std::move(make)), inline_bytes_max_(inline_bytes_max) {}
  [[nodiscard]] std::string operator()() const { return make_(); }
  /// 0: every value is a blob, so that it can be erased.
  [[nodiscard]] std::size_t inline_bytes_max() const { return inline_bytes_max_; }

 private:
  std::function<std::string()> make_;
  std::size_t inline_bytes_max_;
};
/// journal::Journal::blob, or what stands for it.
using BlobSource = std::function<Result<std::optional<journal::Blob>>(journal::BlobHash const&)>;
[[nodiscard]] BlobSource blobs_of(journal::Journal& journal);

/// The stream of all AuditNoted.
inline constexpr std::string_view kAuditStream = "audit";

/// Where an event is to be appended.
struct EventTarget {
  std::string_view stream;  ///< The run's id, or kAuditStream.
  std::string_view space;   ///< The run's namespace: part of the key of a business key.
  /// A fork's copies take no keys: the source holds them.
  bool takes_keys = true;
};
/// Adds the event, and the blobs of its large values, to the batch. RequestInvalid if the journal
/// could not give it back as it is: a path that is no name, a value deeper than kJsonDepthMax or
/// not UTF-8, a number beyond 2^53. LimitReached if the rest of it is over the journal's limits.
[[nodiscard]] Status append_event(journal::Batch& batch, EventTarget target, RunEvent const& event,
                                  SaltSource const& salts);
/// The event as decode_event() will give it: times cut to milliseconds. What folds before the
/// journal answers folds this, so that it holds what a restart would read.
[[nodiscard]] RunEvent as_recorded(RunEvent event);

/// Strict: StoreDamaged, with the position, for any event that append_event() does not write. The
/// value of an erased blob is {"$erased": ADDRESS}.
[[nodiscard]] Result<RunEvent> decode_event(journal::Event const& event, BlobSource const& blobs);
/// As decode_event(), with null for every value of arguments, inputs and results: what laws and
/// traces need, without reading blobs.
[[nodiscard]] Result<RunEvent> decode_outline(journal::Event const& event);

/// Decodes the next event of the run's stream and folds it, with its sequence and fence. A state
/// without id takes the stream's name.
[[nodiscard]] Status fold_recorded(RunState& state, journal::Event const& event,
                                   BlobSource const& blobs);
/// All of a run's history, read in pages. NotFound if there is none.
[[nodiscard]] Result<RunState> load_run(journal::Journal& journal, RunId const& run);
/// Events of a stream of a run, decoded.
[[nodiscard]] Result<std::vector<RunEvent>> decode_events(std::span<journal::Event const> events,
                                                          BlobSource const& blobs);

/// "run.opened", ...
[[nodiscard]] std::string_view kind_of(RunEventBody const& body);
/// The span that it opens, closes or amends; empty for the points.
[[nodiscard]] std::string span_of(RunEventBody const& body);

// The keys that events take, for Journal::key_holder(). A key that is no name for the journal (too
// long, not ASCII) is replaced by "~" and its content_hash(). A colon in a namespace is refused by
// append_event().
[[nodiscard]] std::string idempotency_journal_key(std::string_view space, std::string_view key);
[[nodiscard]] std::string business_journal_key(std::string_view space, std::string_view key);
[[nodiscard]] std::string signal_journal_key(std::string_view run, std::string_view key);

}  // namespace aether::jobs
