// SPDX-License-Identifier: Apache-2.0
// Journal: the append-only record of all that happened. One narrow interface; memory, SQLite and
// PostgreSQL stand behind it, and one suite of tests holds them to it (journal_suite_test.cc).
#pragma once
#include <cstdint>
#include <expected>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "journal/event.h"
#include "journal/merkle.h"

namespace aether::journal {

/// What a stream must be like for a batch to be appended. Each stream at most once in a batch; a
/// stream without one takes events from anybody (a late answer, a signal).
struct StreamCheck {
  std::string stream;
  std::optional<Sequence> expected{};  ///< Its last event; 0: it has none.
  std::optional<Fence> held{};         ///< The fence that the caller holds: must be the stream's.
  std::optional<Fence> raised{};       ///< A new fence, higher than the stream's: takes a lease.
  bool operator==(StreamCheck const&) const = default;
};

/// A row of an index that its owner could make again from the events: the status of a run, a timer
/// by its time. It changes with the events that change it, or not at all.
struct RecordChange {
  std::string view;                  ///< The index: a name.
  std::string key;                   ///< Bytes, ordered as unsigned.
  std::optional<std::string> value;  ///< Nothing: takes the row away.
};
struct Record {
  std::string key;
  std::string value;
  bool operator==(Record const&) const = default;
};

/// All that changes a journal comes as a batch: all of it happens, or nothing.
struct Batch {
  std::vector<StreamCheck> checks{};
  std::vector<NewEvent> events{};
  std::vector<Blob> blobs{};  ///< Those that the events name, unless they are stored already.
  std::vector<RecordChange> records{};
  std::vector<std::string> views_dropped{};  ///< Emptied before `records` are written.
  std::vector<BlobHash> blobs_erased{};      ///< Content and salt go, the address stays.
  std::optional<std::string> checkpoint{};   ///< A signed note (checkpoint.h), to be kept.
  /// Names that the other processes on a shared store hear when it is durable (sharing.h).
  std::vector<std::string> told{};
};

/// Where the events of a batch came to stand: first, first + 1, ...
struct Appended {
  Position first;  ///< Of the first event; of the last before, if the batch had none.
  std::uint64_t count = 0;
  bool operator==(Appended const&) const = default;
};

/// Why a batch was not appended, although nothing is wrong with it or with the journal.
struct Refusal {
  enum class Why : std::uint8_t {
    SequenceMoved,   ///< The stream's last event is not the expected one: `current`.
    FenceStale,      ///< The stream's fence is not the one held: `current`.
    FenceNotHigher,  ///< The stream's fence is not below the one to be raised: `current`.
    SpanOpenedOnce,  ///< The span was opened before, at position `current`.
    SpanNotOpen,     ///< The span to be closed was never opened.
    SpanClosedOnce,  ///< The span was closed before, at position `current`.
    KeyTaken,        ///< Another event took the key, at position `current`.
    CauseAhead,      ///< The event's cause is not before it; `current` is the cause.
    BlobUnknown,     ///< A blob is named, or erased, that nobody stored.
  };
  Why why = Why::SequenceMoved;
  std::string stream;  ///< Empty for BlobUnknown.
  std::string name;    ///< The span, the key, or the blob in base64.
  std::uint64_t current = 0;
  bool operator==(Refusal const&) const = default;
};
inline constexpr std::size_t kRefusalKinds = 9;
[[nodiscard]] std::string_view text_of(Refusal::Why why);
/// One sentence.
[[nodiscard]] std::string describe(Refusal const& refusal);

using AppendOutcome = std::expected<Appended, Refusal>;
/// Called once, on a thread of the journal's: be short, and append nothing that must wait.
using Answer = std::move_only_function<void(Result<AppendOutcome>)>;

struct StreamState {
  Sequence last;  ///< 0: there is no such stream.
  Fence fence;
  Position head;  ///< Of its last event.
  bool operator==(StreamState const&) const = default;
};

struct TreeHead {
  std::uint64_t size = 0;
  Hash root = kEmptyRoot;
  bool operator==(TreeHead const&) const = default;
};

/// What is wrong in the store of a back end beside its events; see fsck.h.
struct StorageFault {
  std::string what;
};

class Sharing;

class Journal : public TreeNodes {
 public:
  ~Journal() override = default;

  /// Appends in the order of the calls. The answer comes when all of it is durable. Faults:
  /// RequestInvalid (a batch that breaks a limit or the form), LimitReached (too many wait),
  /// StoreFull. Thread-safe, as all of this interface; never blocks.
  virtual void append(Batch batch, Answer answer) = 0;

  /// How the processes that share the store divide the work. Null: it belongs to this one alone.
  [[nodiscard]] virtual Sharing* sharing() { return nullptr; }

  /// What follows shows what is durable, and nothing else. It may wait for the disk.
  /// Events from a position on, at most `count` and at most kReadEventsMax.
  [[nodiscard]] virtual Result<std::vector<Event>> read(Position from, std::size_t count) = 0;
  [[nodiscard]] virtual Result<std::vector<Event>> read_stream(std::string_view stream,
                                                               Sequence from,
                                                               std::size_t count) = 0;
  [[nodiscard]] virtual Result<StreamState> stream(std::string_view stream) = 0;
  /// The names of the streams after `after`, in order.
  [[nodiscard]] virtual Result<std::vector<std::string>> streams(std::string_view after,
                                                                 std::size_t count) = 0;
  /// The event that took the key.
  [[nodiscard]] virtual Result<std::optional<Position>> key_holder(std::string_view key) = 0;
  [[nodiscard]] virtual Result<std::optional<Blob>> blob(BlobHash const& hash) = 0;
  [[nodiscard]] virtual Result<std::optional<std::string>> record(std::string_view view,
                                                                  std::string_view key) = 0;
  /// Rows with from <= key < to (an empty `to`: no end), in order.
  [[nodiscard]] virtual Result<std::vector<Record>> records(std::string_view view,
                                                            std::string_view from,
                                                            std::string_view to,
                                                            std::size_t count) = 0;
  [[nodiscard]] virtual Result<TreeHead> tree_head() = 0;
  /// The notes kept, oldest first.
  [[nodiscard]] virtual Result<std::vector<std::string>> checkpoints() = 0;
  /// What the back end finds in its own storage.
  [[nodiscard]] virtual Result<std::vector<StorageFault>> check_storage() = 0;
};

/// Faults of form and limits that no state is needed for; every back end asks it first.
[[nodiscard]] Status check_batch(Batch const& batch);

/// append, waited for: for commands and tests. Not on a loop's thread.
[[nodiscard]] Result<AppendOutcome> append_now(Journal& journal, Batch batch);

}  // namespace aether::journal
