// SPDX-License-Identifier: Apache-2.0
#include "journal/postgres/reader.h"

#include <algorithm>
#include <thread>

#include <fmt/format.h>

#include "journal/limits.h"

namespace aether::journal::postgres {
namespace {

std::uint64_t unsigned_at(Rows const& rows, std::size_t row, int column) {
  return static_cast<std::uint64_t>(rows.number(row, column));
}
std::uint64_t limited(std::size_t count) {
  return std::min<std::uint64_t>(count, kReadEventsMax);
}

/// Between two tries to reach a server that is gone.
constexpr Duration kPause = std::chrono::milliseconds(100);

}  // namespace

Result<Rows> Reader::ask(std::string const& sql, Values const& values) {
  std::lock_guard const lock(mutex_);
  while (true) {
    Result<Rows> answer = connection_.ask(sql, values);
    if (answer || connection_.is_alive()) return answer;
    if (!lost_) lost_ = Instant::clock::now();
    // What is read may be read twice. Who comes later does not begin to wait again.
    if (Result<Connection> again = Connection::open(url_, "reader")) {
      connection_ = std::move(*again);
      lost_.reset();
      continue;
    }
    if (Instant::clock::now() >= *lost_ + kAgain) return answer;
    std::this_thread::sleep_for(kPause);
  }
}

Result<std::vector<Event>> Reader::events(std::string const& sql, Values const& values) {
  TRY_ASSIGN(Rows const rows, ask(sql, values));
  std::vector<Event> found;
  found.reserve(rows.size());
  for (std::size_t row = 0; row < rows.size(); ++row) {
    Result<Event> event = parse_event_line(rows.text(row, 1));
    if (!event) {
      return fail(ErrorCode::StoreDamaged,
                  fmt::format("the event at position {} is damaged", unsigned_at(rows, row, 0)));
    }
    found.push_back(std::move(*event));
  }
  return found;
}

Result<std::vector<Event>> Reader::read(Position from, std::size_t count) {
  return events(
      "SELECT position,line FROM aether.event WHERE position>=$1 ORDER BY position LIMIT $2",
      Values().number(from.value).number(limited(count)));
}

Result<std::vector<Event>> Reader::read_stream(std::string_view stream, Sequence from,
                                               std::size_t count) {
  return events(
      "SELECT position,line FROM aether.event WHERE stream=$1 AND sequence>=$2 ORDER BY sequence "
      "LIMIT $3",
      Values().text(stream).number(from.value).number(limited(count)));
}

Result<StreamState> Reader::stream(std::string_view stream) {
  TRY_ASSIGN(Rows const rows,
             ask("SELECT last,fence,head FROM aether.stream WHERE name=$1", Values().text(stream)));
  if (rows.size() == 0) return StreamState{};
  return StreamState{.last = Sequence{unsigned_at(rows, 0, 0)},
                     .fence = Fence{unsigned_at(rows, 0, 1)},
                     .head = Position{unsigned_at(rows, 0, 2)}};
}

Result<std::vector<std::string>> Reader::streams(std::string_view after, std::size_t count) {
  TRY_ASSIGN(Rows const rows,
             ask("SELECT name FROM aether.stream WHERE name>$1 ORDER BY name LIMIT $2",
                 Values().text(after).number(std::uint64_t{count})));
  std::vector<std::string> names;
  for (std::size_t row = 0; row < rows.size(); ++row) names.emplace_back(rows.text(row, 0));
  return names;
}

Result<std::optional<Position>> Reader::key_holder(std::string_view key) {
  TRY_ASSIGN(Rows const rows,
             ask("SELECT position FROM aether.taken WHERE key=$1", Values().text(key)));
  if (rows.size() == 0) return std::nullopt;
  return Position{unsigned_at(rows, 0, 0)};
}

Result<std::optional<Blob>> Reader::blob(BlobHash const& hash) {
  TRY_ASSIGN(Rows const rows, ask("SELECT salt,content FROM aether.blob WHERE hash=$1",
                                  Values().bytes(hash.view())));
  if (rows.size() == 0) return std::nullopt;
  Blob blob{.hash = hash, .salt = std::string(rows.text(0, 0)), .content = std::nullopt};
  if (!rows.is_null(0, 1)) blob.content = std::string(rows.text(0, 1));
  return blob;
}

Result<std::optional<std::string>> Reader::record(std::string_view view, std::string_view key) {
  TRY_ASSIGN(Rows const rows, ask("SELECT value FROM aether.record WHERE view=$1 AND key=$2",
                                  Values().text(view).bytes(key)));
  if (rows.size() == 0) return std::nullopt;
  return std::string(rows.text(0, 0));
}

Result<std::vector<Record>> Reader::records(std::string_view view, std::string_view from,
                                            std::string_view to, std::size_t count) {
  TRY_ASSIGN(Rows const rows,
             ask("SELECT key,value FROM aether.record WHERE view=$1 AND key>=$2 AND "
                 "(length($3)=0 OR key<$3) ORDER BY key LIMIT $4",
                 Values().text(view).bytes(from).bytes(to).number(std::uint64_t{count})));
  std::vector<Record> found;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    found.push_back(
        {.key = std::string(rows.text(row, 0)), .value = std::string(rows.text(row, 1))});
  }
  return found;
}

Result<std::vector<std::string>> Reader::checkpoints() {
  TRY_ASSIGN(Rows const rows, ask("SELECT note FROM aether.checkpoint ORDER BY id"));
  std::vector<std::string> notes;
  for (std::size_t row = 0; row < rows.size(); ++row) notes.emplace_back(rows.text(row, 0));
  return notes;
}

/// What the server's own tools (amcheck, checksums) look at is theirs; this looks at what the
/// tables say of each other.
Result<std::vector<StorageFault>> Reader::check() {
  TRY_ASSIGN(Rows const rows, ask("SELECT h.position, (SELECT count(*) FROM aether.event), "
                                  "(SELECT coalesce(max(position),0) FROM aether.event), "
                                  "(SELECT count(*) FROM aether.event WHERE position>h.position) "
                                  "FROM aether.head h"));
  std::vector<StorageFault> faults;
  if (rows.size() != 1) {
    faults.push_back({fmt::format("the table head has {} rows, and must have one", rows.size())});
    return faults;
  }
  std::int64_t const head = rows.number(0, 0);
  if (rows.number(0, 1) != head || rows.number(0, 2) != head) {
    faults.push_back(
        {fmt::format("the last position given is {}, and there are {} events, the last "
                     "of them at {}",
                     head, rows.number(0, 1), rows.number(0, 2))});
  }
  return faults;
}

Result<Position> Reader::last() {
  TRY_ASSIGN(Rows const rows, ask("SELECT position FROM aether.head"));
  if (rows.size() == 1) return Position{unsigned_at(rows, 0, 0)};
  return fail(ErrorCode::StoreDamaged, "the table head has not one row");
}

Result<Reader::Span> Reader::span(std::string_view stream, std::string_view span) {
  TRY_ASSIGN(Rows const rows, ask("SELECT mark::bigint,position FROM aether.event WHERE stream=$1 "
                                  "AND span=$2 AND mark>0",
                                  Values().text(stream).text(span)));
  Span found;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    bool const opens = rows.number(row, 0) == static_cast<std::int64_t>(Mark::Open);
    (opens ? found.opened : found.closed) = Position{unsigned_at(rows, row, 1)};
  }
  return found;
}

Result<std::vector<Hash>> Reader::leaves(std::uint64_t first, std::size_t count) {
  TRY_ASSIGN(
      Rows const rows,
      ask("SELECT leaf FROM aether.event WHERE position>$1 AND position<=$2 ORDER BY position",
          Values().number(first).number(first + count)));
  std::vector<Hash> leaves;
  leaves.reserve(rows.size());
  // A hash of another size is damage; zeros are as wrong, and are found as such.
  for (std::size_t row = 0; row < rows.size(); ++row)
    leaves.push_back(Hash::from(rows.text(row, 0)).value_or(Hash{}));
  if (leaves.size() == count) return leaves;
  return fail(ErrorCode::StoreDamaged,
              fmt::format("reading the hashes of {} events after position {}: {} are there", count,
                          first, leaves.size()));
}

Result<std::optional<Hash>> Reader::node(unsigned level, std::uint64_t index) {
  TRY_ASSIGN(Rows const rows, ask("SELECT hash FROM aether.node WHERE level=$1 AND number=$2",
                                  Values().number(std::uint64_t{level}).number(index)));
  if (rows.size() == 1) return Hash::from(rows.text(0, 0));
  if (level % kKeptLevels != 0 || level == 0) return std::nullopt;
  // The subtree below it, from what is kept one kept level lower.
  GrowingTree tree;
  std::vector<TreeNode> unused;
  std::uint64_t const below = std::uint64_t{1} << kKeptLevels;
  if (level == kKeptLevels) {
    TRY_ASSIGN(std::vector<Hash> const hashes, leaves(index * below, below));
    for (Hash const& hash : hashes) tree.add(hash, unused);
    return tree.root();
  }
  for (std::uint64_t at = 0; at < below; ++at) {
    TRY_ASSIGN(std::optional<Hash> const child, node(level - kKeptLevels, index * below + at));
    if (!child) return std::nullopt;
    tree.add(*child, unused);
  }
  return tree.root();
}

Status Reader::keep(std::vector<TreeNode> const& nodes) {
  if (nodes.empty()) return {};
  std::vector<std::optional<std::int64_t>> levels;
  std::vector<std::optional<std::int64_t>> numbers;
  std::vector<std::string_view> hashes;
  for (TreeNode const& node : nodes) {
    levels.emplace_back(node.level);
    numbers.emplace_back(static_cast<std::int64_t>(node.index));
    hashes.push_back(node.hash.view());
  }
  TRY(ask("INSERT INTO aether.node SELECT * FROM unnest($1,$2,$3) ON CONFLICT DO NOTHING",
          Values().numbers(levels).numbers(numbers).all_bytes(hashes)));
  return {};
}

}  // namespace aether::journal::postgres
