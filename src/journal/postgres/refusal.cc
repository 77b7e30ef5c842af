// SPDX-License-Identifier: Apache-2.0
// Why the store refused a batch: asked after it did, for the one who appended it.
#include <algorithm>
#include <map>
#include <utility>

#include "journal/postgres/writer.h"
#include "journal/refusals.h"

namespace aether::journal::postgres {
namespace {

using enum Refusal::Why;

/// Goes through a batch as if it were appended next, and stops at what is in its way.
class Explanation {
 public:
  Explanation(Reader& reader, Batch const& batch) : reader_(reader), batch_(batch) {}

  Result<std::optional<Refusal>> find() {
    TRY_ASSIGN(Position at, reader_.last());
    for (StreamCheck const& check : batch_.checks) {
      TRY_ASSIGN(StreamState const state, reader_.stream(check.stream));
      if (auto refused = refused_check(check, state)) return refused;
    }
    for (NewEvent const& event : batch_.events) {
      ++at.value;
      TRY_ASSIGN(std::optional<Refusal> refused, of_event(event, at));
      if (refused) return refused;
    }
    for (BlobHash const& hash : batch_.blobs_erased) {
      TRY_ASSIGN(std::optional<Refusal> refused, of_blob(hash));
      if (refused) return refused;
    }
    return std::nullopt;
  }

 private:
  Result<std::optional<Refusal>> of_event(NewEvent const& event, Position at) {
    TRY_ASSIGN(std::optional<Refusal> refused, of_span(event, at));
    if (refused) return refused;
    for (std::string const& key : event.keys) {
      TRY_ASSIGN(std::optional<Position> holder, reader_.key_holder(key));
      if (auto taken = taken_.take(event, key, holder, at)) return taken;
    }
    if (auto ahead = refused_cause(event, at)) return ahead;
    for (BlobHash const& hash : event.blobs) {
      TRY_ASSIGN(refused, of_blob(hash));
      if (refused) return refused;
    }
    return std::nullopt;
  }

  Result<std::optional<Refusal>> of_span(NewEvent const& event, Position at) {
    if (event.mark == Mark::Point) return std::nullopt;
    auto const known = spans_.find({event.stream, event.span});
    Reader::Span span;
    if (known != spans_.end()) {
      span = known->second;
    } else {
      TRY_ASSIGN(span, reader_.span(event.stream, event.span));
    }
    auto const refuse = [&](Refusal::Why why, std::uint64_t current) {
      return Refusal{.why = why, .stream = event.stream, .name = event.span, .current = current};
    };
    bool const opens = event.mark == Mark::Open;
    if (opens && span.opened.value > 0) return refuse(SpanOpenedOnce, span.opened.value);
    if (!opens && span.opened.value == 0) return refuse(SpanNotOpen, 0);
    if (!opens && span.closed.value > 0) return refuse(SpanClosedOnce, span.closed.value);
    (opens ? span.opened : span.closed) = at;
    spans_[{event.stream, event.span}] = span;
    return std::nullopt;
  }

  Result<std::optional<Refusal>> of_blob(BlobHash const& hash) {
    if (std::ranges::find(batch_.blobs, hash, &Blob::hash) != batch_.blobs.end())
      return std::nullopt;
    TRY_ASSIGN(std::optional<Blob> const stored, reader_.blob(hash));
    if (stored) return std::nullopt;
    return unknown_blob(hash);
  }

  Reader& reader_;
  Batch const& batch_;
  std::map<std::pair<std::string_view, std::string_view>, Reader::Span> spans_;
  KeysTaken taken_;
};

}  // namespace

Result<std::optional<Refusal>> Writer::why_refused(Batch const& batch) {
  return Explanation(reader_, batch).find();
}

}  // namespace aether::journal::postgres
