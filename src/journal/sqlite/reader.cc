// SPDX-License-Identifier: Apache-2.0
#include "journal/sqlite/reader.h"

#include <algorithm>

#include <fmt/format.h>

#include "journal/limits.h"
#include "journal/sqlite/event_rows.h"
#include "journal/sqlite/schema.h"

namespace aether::journal {
namespace {

/// Leaves its statement ready for the next question, whatever happens.
class Reset {
 public:
  explicit Reset(Statement& statement) : statement_(statement) {}
  ~Reset() { statement_.reset(); }
  Reset(Reset const&) = delete;
  Reset& operator=(Reset const&) = delete;

 private:
  Statement& statement_;
};

}  // namespace

Result<std::unique_ptr<Reader>> Reader::open(std::string const& path, std::string const& vfs) {
  TRY_ASSIGN(Database database, Database::open(path, Database::Access::Read, vfs));
  TRY(prepare_reader(database));
  std::unique_ptr<Reader> reader(new Reader(std::move(database)));
  TRY(reader->prepare());
  return reader;
}

Status Reader::prepare() {
  std::string const select(kSelectEvent);
  struct {
    Statement& statement;
    std::string sql;
  } const all[] = {
      {find_stream_, "SELECT last,fence,head FROM stream WHERE name=?1"},
      {next_streams_, "SELECT name FROM stream WHERE name>?1 ORDER BY name LIMIT ?2"},
      {find_link_, "SELECT previous,sequence FROM event WHERE position=?1"},
      {find_event_, select + "WHERE e.position=?1"},
      {next_events_, select + "WHERE e.position>=?1 ORDER BY e.position LIMIT ?2"},
      {find_key_, "SELECT position FROM taken WHERE key=?1"},
      {find_blob_, "SELECT salt,content FROM blob WHERE hash=?1"},
      {find_record_, "SELECT value FROM record WHERE view=?1 AND key=?2"},
      {next_records_,
       "SELECT key,value FROM record WHERE view=?1 AND key>=?2 AND (?3 IS NULL OR key<?3) "
       "ORDER BY key LIMIT ?4"},
      {notes_, "SELECT note FROM checkpoint ORDER BY id"},
      {next_leaves_, "SELECT leaf FROM event WHERE position>?1 ORDER BY position LIMIT ?2"},
      {find_node_, "SELECT hash FROM node WHERE level=?1 AND number=?2"},
      {last_, "SELECT max(position) FROM event"},
  };
  for (auto const& [statement, sql] : all) {
    TRY_ASSIGN(statement, database_.prepare(sql));
  }
  return {};
}

Result<std::vector<Event>> Reader::read(Position from, std::size_t count) {
  std::lock_guard const lock(mutex_);
  Reset const reset(next_events_);
  next_events_.bind(from.value, std::uint64_t{std::min(count, kReadEventsMax)});
  std::vector<Event> events;
  while (true) {
    TRY_ASSIGN(bool const row, next_events_.step());
    if (!row) return events;
    TRY_ASSIGN(Event event, event_of(next_events_));
    events.push_back(std::move(event));
  }
}

Result<std::vector<std::uint64_t>> Reader::positions(std::string_view stream, Sequence from,
                                                     std::size_t count) {
  std::vector<std::uint64_t> found;
  Reset const reset_stream(find_stream_);
  Reset const reset_link(find_link_);
  TRY_ASSIGN(bool const known, find_stream_.bind(stream).step());
  auto at = static_cast<std::uint64_t>(known ? find_stream_.number(2) : 0);
  // Back from the last event: a stream is a chain of rows, so that appending needs no index.
  std::uint64_t const least = std::max<std::uint64_t>(from.value, 1);
  while (at > 0) {
    TRY_ASSIGN(bool const linked, find_link_.bind(at).step());
    auto const previous = static_cast<std::uint64_t>(linked ? find_link_.number(0) : 0);
    auto const sequence = static_cast<std::uint64_t>(linked ? find_link_.number(1) : 0);
    if (!linked || previous >= at) {
      return fail(
          ErrorCode::StoreDamaged,
          fmt::format("reading the stream {}: its events are no chain at position {}", stream, at));
    }
    if (sequence < least) break;
    if (sequence - least < count) found.push_back(at);
    at = previous;
  }
  std::ranges::reverse(found);
  return found;
}

Result<std::vector<Event>> Reader::read_stream(std::string_view stream, Sequence from,
                                               std::size_t count) {
  std::lock_guard const lock(mutex_);
  TRY_ASSIGN(std::vector<std::uint64_t> const places,
             positions(stream, from, std::min(count, kReadEventsMax)));
  std::vector<Event> events;
  Reset const reset(find_event_);
  for (std::uint64_t const at : places) {
    TRY_ASSIGN(bool const row, find_event_.bind(at).step());
    if (!row) return fail(ErrorCode::StoreDamaged, fmt::format("the event at {} is gone", at));
    TRY_ASSIGN(Event event, event_of(find_event_));
    events.push_back(std::move(event));
  }
  return events;
}

Result<StreamState> Reader::stream(std::string_view stream) {
  std::lock_guard const lock(mutex_);
  Reset const reset(find_stream_);
  TRY_ASSIGN(bool const row, find_stream_.bind(stream).step());
  if (!row) return StreamState{};
  auto const number = [&](int column) {
    return static_cast<std::uint64_t>(find_stream_.number(column));
  };
  return StreamState{
      .last = Sequence{number(0)}, .fence = Fence{number(1)}, .head = Position{number(2)}};
}

Result<std::vector<std::string>> Reader::streams(std::string_view after, std::size_t count) {
  std::lock_guard const lock(mutex_);
  Reset const reset(next_streams_);
  next_streams_.bind(after, std::uint64_t{count});
  std::vector<std::string> names;
  while (true) {
    TRY_ASSIGN(bool const row, next_streams_.step());
    if (!row) return names;
    names.emplace_back(next_streams_.text(0));
  }
}

Result<std::optional<Position>> Reader::key_holder(std::string_view key) {
  std::lock_guard const lock(mutex_);
  Reset const reset(find_key_);
  TRY_ASSIGN(bool const row, find_key_.bind(key).step());
  if (!row) return std::nullopt;
  return Position{static_cast<std::uint64_t>(find_key_.number(0))};
}

Result<std::optional<Blob>> Reader::blob(BlobHash const& hash) {
  std::lock_guard const lock(mutex_);
  Reset const reset(find_blob_);
  TRY_ASSIGN(bool const row, find_blob_.bind(Statement::Bytes{hash.view()}).step());
  if (!row) return std::nullopt;
  Blob blob{.hash = hash, .salt = std::string(find_blob_.text(0)), .content = std::nullopt};
  if (!find_blob_.is_null(1)) blob.content = std::string(find_blob_.text(1));
  return blob;
}

Result<std::optional<std::string>> Reader::record(std::string_view view, std::string_view key) {
  std::lock_guard const lock(mutex_);
  Reset const reset(find_record_);
  TRY_ASSIGN(bool const row, find_record_.bind(view, Statement::Bytes{key}).step());
  if (!row) return std::nullopt;
  return std::string(find_record_.text(0));
}

Result<std::vector<Record>> Reader::records(std::string_view view, std::string_view from,
                                            std::string_view to, std::size_t count) {
  std::lock_guard const lock(mutex_);
  Reset const reset(next_records_);
  std::optional<Statement::Bytes> end;
  if (!to.empty()) end = Statement::Bytes{to};
  next_records_.bind(view, Statement::Bytes{from}, end, std::uint64_t{count});
  std::vector<Record> found;
  while (true) {
    TRY_ASSIGN(bool const row, next_records_.step());
    if (!row) return found;
    found.push_back(
        {.key = std::string(next_records_.text(0)), .value = std::string(next_records_.text(1))});
  }
}

Result<std::vector<std::string>> Reader::checkpoints() {
  std::lock_guard const lock(mutex_);
  Reset const reset(notes_);
  std::vector<std::string> notes;
  while (true) {
    TRY_ASSIGN(bool const row, notes_.step());
    if (!row) return notes;
    notes.emplace_back(notes_.text(0));
  }
}

Result<Position> Reader::last() {
  std::lock_guard const lock(mutex_);
  Reset const reset(last_);
  TRY_ASSIGN(bool const row, last_.step());
  return Position{static_cast<std::uint64_t>(row ? last_.number(0) : 0)};
}

Status Reader::hold() {
  TRY(database_.run("BEGIN"));
  TRY(last());  // A transaction sees what is there at its first question.
  return {};
}

Result<std::vector<Hash>> Reader::leaves(std::uint64_t first, std::size_t count) {
  std::lock_guard const lock(mutex_);
  Reset const reset(next_leaves_);
  next_leaves_.bind(first, std::uint64_t{count});
  std::vector<Hash> leaves;
  while (true) {
    TRY_ASSIGN(bool const row, next_leaves_.step());
    if (!row) break;
    // A hash of another size is damage; zeros are as wrong, and are found as such.
    leaves.push_back(Hash::from(next_leaves_.text(0)).value_or(Hash{}));
  }
  if (leaves.size() == count) return leaves;
  return fail(ErrorCode::StoreDamaged,
              fmt::format("reading the hashes of {} events after position {}: {} are there", count,
                          first, leaves.size()));
}

Result<std::optional<Hash>> Reader::node(unsigned level, std::uint64_t index) {
  std::lock_guard const lock(mutex_);
  Reset const reset(find_node_);
  TRY_ASSIGN(bool const row, find_node_.bind(std::uint64_t{level}, index).step());
  return row ? Hash::from(find_node_.text(0)) : std::nullopt;
}

Result<std::vector<StorageFault>> Reader::check() {
  std::lock_guard const lock(mutex_);
  TRY_ASSIGN(Statement statement, database_.prepare("PRAGMA integrity_check(100)"));
  std::vector<StorageFault> faults;
  while (true) {
    Result<bool> const row = statement.step();
    // A page that cannot be read ends the check itself: that is what it found.
    if (!row) faults.push_back({row.error().message()});
    if (!row || !*row) return faults;
    if (statement.text(0) != "ok") faults.push_back({std::string(statement.text(0))});
  }
}

}  // namespace aether::journal
