// SPDX-License-Identifier: Apache-2.0
#include "journal/sqlite/event_rows.h"

#include <fmt/format.h>

#include "journal/limits.h"

namespace aether::journal {
namespace {

std::optional<std::string_view> unless_empty(std::string_view text) {
  return text.empty() ? std::nullopt : std::optional(text);
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    std::size_t const end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

}  // namespace

Status insert_event(Statement& insert, Event const& event, std::int64_t stream_id,
                    Position previous, Hash const& leaf) {
  std::string const keys = fmt::format("{}", fmt::join(event.keys, "\n"));
  std::string blobs;
  for (BlobHash const& hash : event.blobs) blobs += hash.view();
  std::optional<Statement::Bytes> blobs_bytes;
  if (!blobs.empty()) blobs_bytes = Statement::Bytes{blobs};
  std::optional<std::uint64_t> cause;
  if (event.cause) cause = event.cause->value;
  auto const at = std::chrono::floor<std::chrono::milliseconds>(event.at.time_since_epoch());
  return insert
      .bind(event.position.value, stream_id, event.sequence.value, previous.value,
            event.fence.value, std::int64_t{at.count()}, cause, std::string_view(event.kind),
            static_cast<std::int64_t>(event.mark), unless_empty(event.span),
            unless_empty(event.actor), unless_empty(keys), blobs_bytes,
            std::string_view(event.body), Statement::Bytes{leaf.view()})
      .run();
}

Result<Event> event_of(Statement const& row) {
  Event event;
  auto const number = [&](int column) { return static_cast<std::uint64_t>(row.number(column)); };
  event.position = Position{number(0)};
  event.stream = row.text(1);
  event.sequence = Sequence{number(2)};
  event.fence = Fence{number(4)};
  // A damaged number of milliseconds must not overflow a time, nor a mark its enum.
  std::uint64_t const at = number(5);
  bool damaged = at > kMillisecondsMax || number(8) > 2;
  event.at = WallTime(std::chrono::milliseconds(damaged ? 0 : at));
  if (!row.is_null(6)) event.cause = Position{number(6)};
  event.kind = row.text(7);
  event.mark = damaged ? Mark::Point : static_cast<Mark>(number(8));
  event.span = row.text(9);
  event.actor = row.text(10);
  event.keys = lines_of(row.text(11));
  std::string_view blobs = row.text(12);
  for (; blobs.size() >= 32; blobs.remove_prefix(32)) {
    event.blobs.push_back(Hash::from(blobs.substr(0, 32)).value_or(Hash{}));
  }
  event.body = row.text(13);
  damaged = damaged || !blobs.empty();
  if (damaged) {
    return fail(ErrorCode::StoreDamaged,
                fmt::format("the event at position {} is damaged", event.position));
  }
  return event;
}

}  // namespace aether::journal
