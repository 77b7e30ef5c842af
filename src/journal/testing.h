// SPDX-License-Identifier: Apache-2.0
// What the journal's tests share: short words for events. Tests only.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/chance.h"
#include "journal/journal.h"

namespace aether::journal::testing {

inline NewEvent point(std::string stream, std::string body = "{}") {
  NewEvent event;
  event.stream = std::move(stream);
  event.kind = "signal.received";
  event.at = WallTime(std::chrono::milliseconds(1'795'258'562'123));
  event.actor = "test";
  event.body = std::move(body);
  return event;
}
inline NewEvent open_span(std::string stream, std::string span) {
  NewEvent event = point(std::move(stream));
  event.kind = "step.opened";
  event.mark = Mark::Open;
  event.span = std::move(span);
  return event;
}
inline NewEvent close_span(std::string stream, std::string span) {
  NewEvent event = open_span(std::move(stream), std::move(span));
  event.kind = "step.closed";
  event.mark = Mark::Close;
  return event;
}
inline Batch batch_of(std::vector<NewEvent> events) {
  Batch batch;
  batch.events = std::move(events);
  return batch;
}
inline Blob blob_of(std::string content) {
  return make_blob(std::move(content), "0123456789abcdef");
}

/// The outcome of a batch that nothing is wrong with.
inline AppendOutcome append_to(Journal& journal, Batch batch) {
  Result<AppendOutcome> outcome = append_now(journal, std::move(batch));
  if (!outcome) {
    ADD_FAILURE() << outcome.error().describe();
    return Appended{};
  }
  return *outcome;
}
/// The position of the first event appended; fails the test if the batch was refused.
inline Position appended(Journal& journal, Batch batch) {
  AppendOutcome const outcome = append_to(journal, std::move(batch));
  if (outcome) return outcome->first;
  ADD_FAILURE() << "refused: " << describe(outcome.error());
  return {};
}
/// Why the batch was refused; fails the test if it was not.
inline Refusal refused(Journal& journal, Batch batch) {
  AppendOutcome const outcome = append_to(journal, std::move(batch));
  if (!outcome) return outcome.error();
  ADD_FAILURE() << "not refused";
  return {};
}
/// The value; ends the test by throwing if there is none.
template <class T>
T value_of(Result<T> result) {
  return or_throw(std::move(result));
}
inline std::vector<Event> all_events(Journal& journal) {
  return value_of(journal.read(Position{1}, 1'000'000));
}

}  // namespace aether::journal::testing
