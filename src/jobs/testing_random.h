// SPDX-License-Identifier: Apache-2.0
// Random events of runs, and random histories. Tests only.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "base/chance.h"
#include "jobs/testing_events.h"

namespace aether::jobs::testing {

inline std::string random_text(Chance& chance) {
  constexpr std::array<std::string_view, 6> kParts = {"a", "Zahl ", "\"", "\n", "\xC3\xA4", "\\"};
  std::string text;
  std::uint64_t const parts = chance.below(6);
  for (std::uint64_t i = 0; i < parts; ++i) text += kParts.at(chance.below(kParts.size()));
  if (chance.one_in(20)) text.append(5000, 'x');
  return text;
}
/// A text that may be a name in the journal.
inline std::string random_name(Chance& chance) {
  return "name/" + std::to_string(chance.below(1000));
}

/// A value of every kind, as reading its canonical text gives it; sometimes too large or too deep
/// for a body.
inline boost::json::value random_value(Chance& chance, int depth = 0) {
  if (depth == 0 && chance.one_in(20)) {
    boost::json::value deep = 1;
    for (int i = 0; i < 50; ++i) deep = boost::json::array{std::move(deep)};
    return deep;
  }
  switch (chance.below(depth > 3 ? 5 : 7)) {
    case 0:
      return nullptr;
    case 1:
      return chance.one_in(2);
    case 2:
      return static_cast<std::int64_t>(chance.below(std::uint64_t{1} << 53U)) - (1LL << 52);
    case 3:
      return static_cast<double>(chance.below(1000)) + 0.125;
    case 4:
      return boost::json::value(random_text(chance));
    case 5: {
      boost::json::array values;
      for (std::uint64_t i = chance.below(4); i > 0; --i) {
        values.push_back(random_value(chance, depth + 1));
      }
      return values;
    }
    default: {
      boost::json::object values;
      for (std::uint64_t i = chance.below(4); i > 0; --i) {
        values[random_text(chance)] = random_value(chance, depth + 1);
      }
      return values;
    }
  }
}

template <class E>
E random_word(Chance& chance, std::uint64_t count) {
  return static_cast<E>(chance.below(count));
}
inline WallTime random_time(Chance& chance) {
  return WallTime(std::chrono::milliseconds(chance.below(std::uint64_t{1} << 42U)));
}
inline std::optional<WallTime> maybe_time(Chance& chance) {
  return chance.one_in(2) ? std::optional(random_time(chance)) : std::nullopt;
}

inline RunOpened random_opening(Chance& chance) {
  RunOpened run;
  run.spec.name = random_text(chance).substr(0, 1000);
  if (chance.one_in(2)) run.spec.graph = random_value(chance);
  if (chance.one_in(2)) run.spec.agent = random_value(chance);
  run.spec.goal = random_text(chance);
  run.spec.input = random_value(chance);
  run.spec.space = random_name(chance);
  run.spec.queue = random_name(chance);
  run.spec.priority = static_cast<int>(chance.below(2001)) - 1000;
  run.spec.concurrency_limit = static_cast<int>(chance.below(10));
  run.spec.not_before = maybe_time(chance);
  run.spec.deadline = maybe_time(chance);
  if (chance.one_in(2)) run.spec.budget.calls = chance.below(100);
  if (chance.one_in(2)) run.spec.budget.cost = static_cast<double>(chance.below(100)) / 3;
  if (chance.one_in(2)) run.spec.budget.time = Duration(chance.below(std::uint64_t{1} << 62U));
  run.code_version = random_name(chance);
  if (chance.one_in(2)) run.idempotency_key = random_text(chance).substr(0, 3000);
  if (chance.one_in(2)) run.request_hash = random_name(chance);
  if (chance.one_in(2)) run.parent = Parent{.run = kOtherRun, .path = random_name(chance)};
  if (chance.one_in(2)) run.forked_from = kOtherRun;
  run.schedule = random_name(chance);
  return run;
}

/// The body of a call, or of its end.
inline RunEventBody random_effect(Chance& chance) {
  if (chance.one_in(2)) {
    return EffectIntended{
        .effect = random_name(chance),
        .turn = static_cast<std::uint32_t>(1 + chance.below(3)),
        .path = random_name(chance),
        .tool = random_name(chance),
        .args = random_value(chance),
        .args_hash = random_name(chance),
        .policy = random_word<Policy>(chance, 4),
        .key = random_name(chance),
        .business_key = chance.one_in(2) ? random_text(chance).substr(0, 3000) : std::string(),
        .token = random_name(chance)};
  }
  return EffectSettled{
      .effect = random_name(chance),
      .turn = static_cast<std::uint32_t>(1 + chance.below(3)),
      .outcome = random_word<EffectOutcome>(chance, 4),
      .by = random_word<SettledBy>(chance, 5),
      .result = random_value(chance),
      .error = random_text(chance),
      .retryable = chance.one_in(2),
      .amends = chance.one_in(2),
      .usage = {.tokens = chance.below(1000), .cost = static_cast<double>(chance.below(10)) / 7}};
}

/// Any event, of any content; it follows from nothing.
inline RunEvent random_event(Chance& chance) {
  RunEventBody body;
  switch (chance.below(9)) {
    case 0:
      body = random_opening(chance);
      break;
    case 1:
      body = RunClosed{.outcome = random_word<RunOutcome>(chance, 4),
                       .output = random_value(chance),
                       .error = random_text(chance)};
      break;
    case 2:
      body = StepOpened{.path = random_name(chance),
                        .kind = random_word<StepKind>(chance, 11),
                        .attempt = static_cast<std::uint32_t>(1 + chance.below(9)),
                        .input_hash = random_name(chance)};
      break;
    case 3:
      body = StepClosed{.path = random_name(chance),
                        .attempt = static_cast<std::uint32_t>(1 + chance.below(9)),
                        .outcome = random_word<StepOutcome>(chance, 5),
                        .result = random_value(chance),
                        .error = random_text(chance)};
      break;
    case 4:
      body = random_effect(chance);
      break;
    case 5:
      body = WaitOpened{.path = random_name(chance),
                        .kind = random_word<WaitKind>(chance, 4),
                        .name = random_text(chance).substr(0, 1000),
                        .effect = random_name(chance),
                        .deadline = maybe_time(chance),
                        .schema = random_value(chance)};
      break;
    case 6:
      body = WaitClosed{.path = random_name(chance),
                        .end = random_word<WaitEnd>(chance, 5),
                        .by = random_name(chance),
                        .payload = random_value(chance)};
      break;
    case 7:
      body = SignalReceived{.name = random_name(chance),
                            .idempotency_key = random_text(chance).substr(0, 3000),
                            .payload = random_value(chance)};
      break;
    default:
      body = RunControlled{.control = random_word<Control>(chance, 6),
                           .holder = random_name(chance),
                           .until = maybe_time(chance),
                           .reason = random_text(chance),
                           .step = random_name(chance)};
  }
  return {.at = random_time(chance),
          .actor = chance.one_in(2) ? "user:a" : "",
          .body = std::move(body)};
}

/// The next event of a small world, right or wrong: two steps, their calls, waits and signals.
inline RunEventBody random_next(Chance& chance) {
  std::string const path = chance.one_in(2) ? "a" : "b";
  auto const number = static_cast<std::uint32_t>(1 + chance.below(2));
  switch (chance.below(11)) {
    case 0:
      return chance.one_in(4) ? RunEventBody(opened()) : step(path, number);
    case 1:
      return step(path, number);
    case 2:
    case 3:
      return step_end(path, random_word<StepOutcome>(chance, 5), number);
    case 4:
      return intent(path, random_word<Policy>(chance, 4), number);
    case 5:
      return settled(path, random_word<EffectOutcome>(chance, 4), number);
    case 6:
      return amended(path, random_word<EffectOutcome>(chance, 4), number);
    case 7: {
      WaitOpened waits = wait(path, random_word<WaitKind>(chance, 4));
      if (chance.one_in(4)) waits.effect = effect_of(path);
      return waits;
    }
    case 8:
      return wait_end(path, random_word<WaitEnd>(chance, 5));
    case 9:
      return chance.one_in(4) ? RunEventBody(closed()) : signal();
    default:
      return control(random_word<Control>(chance, 6), chance.one_in(2) ? "w" : "");
  }
}
/// A history that folds; it may have no end.
inline std::vector<RunEvent> random_history(Chance& chance, std::size_t count) {
  std::vector<RunEvent> events = history({opened()});
  RunState state;
  state.id = kRun;
  or_throw(fold(state, events.back()));
  for (std::size_t tries = 0; tries < 40 * count && events.size() < count; ++tries) {
    RunEvent next = event(events.size(), random_next(chance));
    if (broken_law(state, next)) continue;
    or_throw(fold(state, next));
    events.push_back(std::move(next));
  }
  return events;
}

}  // namespace aether::jobs::testing
