// SPDX-License-Identifier: Apache-2.0
// Ledger: what the writer has to know of streams, spans, keys and blobs to take or refuse a batch.
// A cache of the store, filled when asked; the writer's thread only.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "journal/journal.h"
#include "journal/sqlite/database.h"

namespace aether::journal {

class Ledger {
 public:
  struct Span {
    Position opened;
    Position closed;
  };
  struct Stream {
    std::int64_t id = 0;
    StreamState state;
    std::uint64_t marks = 0;
    bool spans_are_read = false;
    bool is_changed = false;  ///< Differs from its row.
    std::unordered_map<std::string, Span> spans;
  };

  Ledger() = default;
  /// @param database Must outlive the ledger.
  static Result<Ledger> open(Database& database);

  /// Why the batch cannot be appended next; nothing if it can. Changes nothing but the cache.
  /// @param next The position that the batch's first event would have.
  Result<std::optional<Refusal>> refusal(Batch const& batch, Position next);

  /// The stream, a new one if need be. Valid until forget().
  Result<Stream*> stream(std::string const& name);
  /// Tells what was appended.
  void note(Event const& event, Stream& stream);
  Status note_key(std::string const& key, Position holder);
  /// Writes the rows of streams that changed.
  Status write_streams();
  /// After a rollback: what is remembered did not happen.
  void forget();
  /// After a commit: keeps what is remembered within its limit.
  void trim();

 private:
  using OpenedHere = std::map<std::pair<Stream const*, std::string_view>, Span>;
  Status read_spans(std::string const& name, Stream& stream);
  Result<Span> span(std::string const& name, Stream& stream, std::string const& span);
  Result<std::optional<Refusal>> refused_span(NewEvent const& event, Position at, OpenedHere& here);
  Result<std::optional<Position>> key_holder(std::string_view key);
  Result<bool> is_stored(BlobHash const& hash);

  Statement find_stream_, write_stream_, read_mark_, find_key_, write_key_, find_blob_;
  std::int64_t next_id_ = 1;
  std::size_t remembered_ = 0;
  std::unordered_map<std::string, Stream> streams_;
  std::vector<std::pair<std::string, Stream*>> changed_;  ///< Streams that differ from their rows.
};

}  // namespace aether::journal
