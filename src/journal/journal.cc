// SPDX-License-Identifier: Apache-2.0
#include "journal/journal.h"

#include <algorithm>
#include <future>
#include <set>

#include <fmt/format.h>

#include "journal/limits.h"

namespace aether::journal {
namespace {

Status limit(std::string_view what, std::size_t count, std::size_t count_max) {
  if (count <= count_max) return {};
  return fail(
      ErrorCode::LimitReached,
      fmt::format("appending a batch of {} {}: at most {} go into one", count, what, count_max));
}

Failure wrong_batch(std::string what) {
  return fail(ErrorCode::RequestInvalid, "appending a batch: " + std::move(what));
}

Status check_blobs(Batch const& batch) {
  for (Blob const& blob : batch.blobs) {
    if (!blob.content || blob.salt.size() != kSaltBytes ||
        blob_hash(blob.salt, *blob.content) != blob.hash) {
      return wrong_batch("a blob is not what its address says");
    }
    TRY(limit("bytes of a blob", blob.content->size(), kBlobBytesMax));
  }
  return {};
}

Status check_records(Batch const& batch) {
  for (RecordChange const& change : batch.records) {
    if (!is_name(change.view) || change.key.empty() || change.key.size() > kNameBytesMax) {
      return wrong_batch(fmt::format(
          "a record needs a view that is a name, and a key of 1 to {} bytes", kNameBytesMax));
    }
    TRY(limit("bytes of a record", change.value.value_or("").size(), kRecordBytesMax));
  }
  return {};
}

}  // namespace

std::string_view text_of(Refusal::Why why) {
  switch (why) {
    case Refusal::Why::SequenceMoved:
      return "sequence-moved";
    case Refusal::Why::FenceStale:
      return "fence-stale";
    case Refusal::Why::FenceNotHigher:
      return "fence-not-higher";
    case Refusal::Why::SpanOpenedOnce:
      return "span-opened-once";
    case Refusal::Why::SpanNotOpen:
      return "span-not-open";
    case Refusal::Why::SpanClosedOnce:
      return "span-closed-once";
    case Refusal::Why::KeyTaken:
      return "key-taken";
    case Refusal::Why::CauseAhead:
      return "cause-ahead";
    case Refusal::Why::BlobUnknown:
      break;
  }
  return "blob-unknown";
}

std::string describe(Refusal const& refusal) {
  switch (refusal.why) {
    case Refusal::Why::SequenceMoved:
      return fmt::format("the stream {} has gone on: its last event is {}", refusal.stream,
                         refusal.current);
    case Refusal::Why::FenceStale:
      return fmt::format("the fence held for the stream {} is not its fence, which is {}",
                         refusal.stream, refusal.current);
    case Refusal::Why::FenceNotHigher:
      return fmt::format("the stream {} has the fence {} already", refusal.stream, refusal.current);
    case Refusal::Why::SpanOpenedOnce:
      return fmt::format("the span {} of {} was opened before, at {}", refusal.name, refusal.stream,
                         refusal.current);
    case Refusal::Why::SpanNotOpen:
      return fmt::format("the span {} of {} was never opened", refusal.name, refusal.stream);
    case Refusal::Why::SpanClosedOnce:
      return fmt::format("the span {} of {} was closed before, at {}", refusal.name, refusal.stream,
                         refusal.current);
    case Refusal::Why::KeyTaken:
      return fmt::format("the key {} was taken before, at {}", refusal.name, refusal.current);
    case Refusal::Why::CauseAhead:
      return fmt::format("the cause of an event of {} is at {}, which is not before it",
                         refusal.stream, refusal.current);
    case Refusal::Why::BlobUnknown:
      break;
  }
  return fmt::format("the blob {} was never stored", refusal.name);
}

Status check_batch(Batch const& batch) {
  TRY(limit("events", batch.events.size(), kBatchEventsMax));
  TRY(limit("checks", batch.checks.size(), kBatchEventsMax));
  TRY(limit("records", batch.records.size(), kBatchEventsMax));
  TRY(limit("blobs", batch.blobs.size() + batch.blobs_erased.size(), kBatchBlobsMax));
  for (NewEvent const& event : batch.events) TRY(check_event(event));
  std::set<std::string_view> checked;
  for (StreamCheck const& check : batch.checks) {
    if (!is_name(check.stream)) return wrong_batch("a check names no stream");
    if (!checked.insert(check.stream).second) return wrong_batch("a stream is checked twice");
    // Beyond 2^53 JSON's numbers lose their last digit.
    if (check.raised && check.raised->value >= std::uint64_t{1} << 53U) {
      return wrong_batch("a fence is too high");
    }
    auto const is_its = [&](NewEvent const& event) { return event.stream == check.stream; };
    // The fence is read from the events, so an event has to say that it was raised.
    if (check.raised && std::ranges::none_of(batch.events, is_its)) {
      return wrong_batch("a fence is raised, and no event of its stream says so");
    }
  }
  TRY(check_blobs(batch));
  return check_records(batch);
}

Result<AppendOutcome> append_now(Journal& journal, Batch batch) {
  std::promise<Result<AppendOutcome>> promise;
  std::future<Result<AppendOutcome>> outcome = promise.get_future();
  journal.append(std::move(batch), [&promise](Result<AppendOutcome> answer) {
    promise.set_value(std::move(answer));
  });
  return outcome.get();
}

}  // namespace aether::journal
