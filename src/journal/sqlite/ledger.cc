// SPDX-License-Identifier: Apache-2.0
#include "journal/sqlite/ledger.h"

#include <algorithm>

#include <fmt/format.h>

#include "journal/limits.h"
#include "journal/refusals.h"

namespace aether::journal {
namespace {

using enum Refusal::Why;

}  // namespace

Result<Ledger> Ledger::open(Database& database) {
  Ledger ledger;
  TRY_ASSIGN(ledger.find_stream_,
             database.prepare("SELECT id,last,fence,head,marks FROM stream WHERE name=?1"));
  TRY_ASSIGN(ledger.write_stream_,
             database.prepare("INSERT INTO stream VALUES(?1,?2,?3,?4,?5,?6) ON CONFLICT(id) DO "
                              "UPDATE SET last=?3,fence=?4,head=?5,marks=?6"));
  TRY_ASSIGN(ledger.read_mark_,
             database.prepare("SELECT previous,mark,span FROM event WHERE position=?1"));
  TRY_ASSIGN(ledger.find_key_, database.prepare("SELECT position FROM taken WHERE key=?1"));
  TRY_ASSIGN(ledger.write_key_, database.prepare("INSERT INTO taken VALUES(?1,?2)"));
  TRY_ASSIGN(ledger.find_blob_, database.prepare("SELECT 1 FROM blob WHERE hash=?1"));
  TRY_ASSIGN(std::int64_t const last, database.number("SELECT max(id) FROM stream"));
  ledger.next_id_ = last + 1;
  return ledger;
}

Result<Ledger::Stream*> Ledger::stream(std::string const& name) {
  auto const known = streams_.find(name);
  if (known != streams_.end()) return &known->second;
  Stream stream;
  TRY_ASSIGN(bool const found, find_stream_.bind(std::string_view(name)).step());
  if (found) {
    auto const number = [&](int column) {
      return static_cast<std::uint64_t>(find_stream_.number(column));
    };
    stream.id = find_stream_.number(0);
    stream.state = {
        .last = Sequence{number(1)}, .fence = Fence{number(2)}, .head = Position{number(3)}};
    stream.marks = number(4);
  }
  find_stream_.reset();
  stream.spans_are_read = stream.marks == 0;
  ++remembered_;
  return &streams_.emplace(name, std::move(stream)).first->second;
}

/// Walks the stream's events back to the first one.
Status Ledger::read_spans(std::string const& name, Stream& stream) {
  std::uint64_t at = stream.state.head.value;
  while (at > 0) {
    TRY_ASSIGN(bool const found, read_mark_.bind(at).step());
    auto const previous = static_cast<std::uint64_t>(found ? read_mark_.number(0) : 0);
    if (!found || previous >= at) {
      read_mark_.reset();
      return fail(
          ErrorCode::StoreDamaged,
          fmt::format("reading the stream {}: its events are no chain at position {}", name, at));
    }
    auto const mark = static_cast<Mark>(read_mark_.number(1));
    if (mark != Mark::Point) {
      Span& span = stream.spans[std::string(read_mark_.text(2))];
      (mark == Mark::Open ? span.opened : span.closed) = Position{at};
    }
    at = previous;
  }
  read_mark_.reset();
  remembered_ += stream.spans.size();
  stream.spans_are_read = true;
  return {};
}

Result<Ledger::Span> Ledger::span(std::string const& name, Stream& stream,
                                  std::string const& span) {
  if (!stream.spans_are_read) TRY(read_spans(name, stream));
  auto const known = stream.spans.find(span);
  return known == stream.spans.end() ? Span() : known->second;
}

Result<std::optional<Refusal>> Ledger::refused_span(NewEvent const& event, Position at,
                                                    OpenedHere& here) {
  if (event.mark == Mark::Point) return std::nullopt;
  TRY_ASSIGN(Stream* const in, stream(event.stream));
  auto const known_here = here.find({in, event.span});
  Span known;
  if (known_here != here.end()) {
    known = known_here->second;
  } else {
    TRY_ASSIGN(known, span(event.stream, *in, event.span));
  }
  auto const refuse = [&](Refusal::Why why, std::uint64_t current) {
    return Refusal{.why = why, .stream = event.stream, .name = event.span, .current = current};
  };
  bool const opens = event.mark == Mark::Open;
  if (opens && known.opened.value > 0) return refuse(SpanOpenedOnce, known.opened.value);
  if (!opens && known.opened.value == 0) return refuse(SpanNotOpen, 0);
  if (!opens && known.closed.value > 0) return refuse(SpanClosedOnce, known.closed.value);
  (opens ? known.opened : known.closed) = at;
  here[{in, event.span}] = known;
  return std::nullopt;
}

Result<std::optional<Position>> Ledger::key_holder(std::string_view key) {
  TRY_ASSIGN(bool const found, find_key_.bind(key).step());
  std::optional<Position> holder;
  if (found) holder = Position{static_cast<std::uint64_t>(find_key_.number(0))};
  find_key_.reset();
  return holder;
}

Result<bool> Ledger::is_stored(BlobHash const& hash) {
  TRY_ASSIGN(bool const found, find_blob_.bind(Statement::Bytes{hash.view()}).step());
  find_blob_.reset();
  return found;
}

Result<std::optional<Refusal>> Ledger::refusal(Batch const& batch, Position next) {
  for (StreamCheck const& check : batch.checks) {
    TRY_ASSIGN(Stream* const checked, stream(check.stream));
    if (auto refused = refused_check(check, checked->state)) return refused;
  }
  OpenedHere here;
  KeysTaken taken_here;
  auto const is_here = [&](BlobHash const& hash) {
    return std::ranges::find(batch.blobs, hash, &Blob::hash) != batch.blobs.end();
  };
  Position at = next;
  for (NewEvent const& event : batch.events) {
    TRY_ASSIGN(std::optional<Refusal> refused, refused_span(event, at, here));
    if (refused) return refused;
    for (std::string const& key : event.keys) {
      TRY_ASSIGN(std::optional<Position> holder, key_holder(key));
      if (auto taken = taken_here.take(event, key, holder, at)) return taken;
    }
    if (auto ahead = refused_cause(event, at)) return ahead;
    for (BlobHash const& hash : event.blobs) {
      TRY_ASSIGN(bool const stored, is_stored(hash));
      if (!stored && !is_here(hash)) return unknown_blob(hash);
    }
    ++at.value;
  }
  for (BlobHash const& hash : batch.blobs_erased) {
    TRY_ASSIGN(bool const stored, is_stored(hash));
    if (!stored && !is_here(hash)) return unknown_blob(hash);
  }
  return std::nullopt;
}

void Ledger::note(Event const& event, Stream& stream) {
  if (stream.id == 0) stream.id = next_id_++;
  stream.state = {.last = event.sequence, .fence = event.fence, .head = event.position};
  if (!stream.is_changed) changed_.emplace_back(event.stream, &stream);
  stream.is_changed = true;
  if (event.mark == Mark::Point) return;
  ++stream.marks;
  Span& span = stream.spans[event.span];
  (event.mark == Mark::Open ? span.opened : span.closed) = event.position;
  if (event.mark == Mark::Open) ++remembered_;
}

Status Ledger::note_key(std::string const& key, Position holder) {
  return write_key_.bind(std::string_view(key), holder.value).run();
}

Status Ledger::write_streams() {
  for (auto const& [name, stream] : changed_) {
    TRY(write_stream_
            .bind(stream->id, std::string_view(name), stream->state.last.value,
                  stream->state.fence.value, stream->state.head.value, stream->marks)
            .run());
    stream->is_changed = false;
  }
  changed_.clear();
  return {};
}

void Ledger::forget() {
  changed_.clear();
  streams_.clear();
  remembered_ = 0;
}

void Ledger::trim() {
  if (remembered_ > kRememberedSpansMax) forget();
}

}  // namespace aether::journal
