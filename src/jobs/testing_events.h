// SPDX-License-Identifier: Apache-2.0
// Short words for the events of runs. Tests only.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "jobs/run_event.h"
#include "jobs/run_event_codec.h"
#include "jobs/run_state.h"

namespace aether::jobs::testing {

inline RunId const kRun{"0193a6c1-7e4b-7d3c-9f00-2b6d1c5e8a47"};
inline RunId const kOtherRun{"0193a6c1-7e4b-7d3c-9f00-2b6d1c5e8a48"};

/// Each event a millisecond after the one before.
inline RunEvent event(std::size_t number, RunEventBody body, std::string actor = {}) {
  auto const at = std::chrono::milliseconds(1'795'258'562'000 + static_cast<int>(number));
  return {.at = WallTime(at), .actor = std::move(actor), .body = std::move(body)};
}
inline std::vector<RunEvent> history(std::vector<RunEventBody> bodies) {
  std::vector<RunEvent> events;
  for (RunEventBody& body : bodies) events.push_back(event(events.size(), std::move(body)));
  return events;
}

inline RunOpened opened(std::string name = "test") {
  RunOpened run;
  run.spec.name = std::move(name);
  return run;
}
inline RunClosed closed(RunOutcome outcome = RunOutcome::Succeeded,
                        boost::json::value output = nullptr) {
  return {.outcome = outcome, .output = std::move(output), .error = {}};
}
inline StepOpened step(std::string path, std::uint32_t attempt = 1,
                       StepKind kind = StepKind::Tool) {
  return {.path = std::move(path),
          .kind = kind,
          .attempt = attempt,
          .input_hash = value_hash(boost::json::value(nullptr))};
}
inline StepClosed step_end(std::string path, StepOutcome outcome = StepOutcome::Committed,
                           std::uint32_t attempt = 1) {
  return {
      .path = std::move(path), .attempt = attempt, .outcome = outcome, .result = {}, .error = {}};
}
inline std::string effect_of(std::string_view path, std::string_view tool = "http") {
  return effect_id(kRun, path, tool, 1);
}
inline EffectIntended intent(std::string const& path, Policy policy = Policy::Once,
                             std::uint32_t turn = 1) {
  EffectIntended effect;
  effect.effect = effect_of(path);
  effect.turn = turn;
  effect.path = path;
  effect.tool = "http";
  effect.args = boost::json::object{{"url", "http://bank/"}};
  effect.args_hash = value_hash(effect.args);
  effect.policy = policy;
  effect.token = "t";
  return effect;
}
inline EffectSettled settled(std::string const& path, EffectOutcome outcome = EffectOutcome::Ok,
                             std::uint32_t turn = 1) {
  EffectSettled effect;
  effect.effect = effect_of(path);
  effect.turn = turn;
  effect.outcome = outcome;
  return effect;
}
inline EffectSettled amended(std::string const& path, EffectOutcome outcome,
                             std::uint32_t turn = 1) {
  EffectSettled effect = settled(path, outcome, turn);
  effect.by = SettledBy::Person;
  effect.amends = true;
  return effect;
}
inline WaitOpened wait(std::string path, WaitKind kind = WaitKind::Signal,
                       std::string name = "paid") {
  WaitOpened waits;
  waits.path = std::move(path);
  waits.kind = kind;
  waits.name = std::move(name);
  return waits;
}
inline WaitClosed wait_end(std::string path, WaitEnd end = WaitEnd::Answered) {
  return {.path = std::move(path), .end = end, .by = {}, .payload = {}};
}
inline SignalReceived signal(std::string name = "paid") {
  return {.name = std::move(name), .idempotency_key = {}, .payload = {}};
}
inline RunControlled control(Control kind, std::string text = {}) {
  RunControlled controlled;
  controlled.control = kind;
  (kind == Control::Lease ? controlled.holder : controlled.reason) = std::move(text);
  return controlled;
}

/// Salts that repeat in every run of a test.
inline SaltSource counted_salts() {
  return [count = std::uint64_t{0}]() mutable {
    std::string salt(journal::kSaltBytes, 'x');
    std::string const number = std::to_string(++count);
    salt.replace(0, number.size(), number);
    return salt;
  };
}
/// The journal's events of a history, and the blobs that they name, in one batch.
inline journal::Batch batch_of_history(std::vector<RunEvent> const& events,
                                       RunId const& run = kRun) {
  journal::Batch batch;
  SaltSource const salts = counted_salts();
  for (RunEvent const& each : events) {
    or_throw(append_event(batch, {.stream = run.text, .space = "default"}, each, salts));
  }
  return batch;
}
/// As a journal gives them back.
inline std::vector<journal::Event> recorded(journal::Batch const& batch) {
  std::vector<journal::Event> events;
  for (journal::NewEvent const& each : batch.events) {
    std::uint64_t const number = events.size() + 1;
    journal::Event out;
    static_cast<journal::NewEvent&>(out) = each;
    out.position = journal::Position{number};
    out.sequence = journal::Sequence{number};
    events.push_back(std::move(out));
  }
  return events;
}
inline BlobSource blobs_in(journal::Batch const& batch) {
  return
      [blobs = batch.blobs](journal::BlobHash const& hash) -> Result<std::optional<journal::Blob>> {
        for (journal::Blob const& blob : blobs) {
          if (blob.hash == hash) return blob;
        }
        return std::optional<journal::Blob>();
      };
}

}  // namespace aether::jobs::testing
