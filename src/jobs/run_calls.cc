// SPDX-License-Identifier: Apache-2.0
// RunActor: calls, from the durable intent to the answer.
#include <exception>
#include <utility>

#include "base/fault.h"
#include "jobs/engine_core.h"
#include "jobs/run_actor.h"

namespace aether::jobs {
namespace {

tools::CallResult not_executed(std::string why) {
  return {.outcome = EffectOutcome::NotExecuted,
          .result = {},
          .error = std::move(why),
          .retryable = true};
}
tools::CallResult unknown_end(std::string why) {
  return {.outcome = EffectOutcome::Unknown, .result = {}, .error = std::move(why)};
}

}  // namespace

void RunActor::begin_calls(bool is_cut) {
  std::vector<PlannedCall> calls = std::exchange(calls_next_, {});
  // Counted before the first: one that ends at once must not let go of the run.
  calls_running_ += calls.size();
  for (PlannedCall& call : calls) {
    if (is_cut)
      not_made(call, "the call was not made: a fault came before it", SettledBy::Recovery);
    else
      start(std::move(call));
  }
}

void RunActor::start(PlannedCall planned) {
  if (Status const passed = fault::pass(fault::Point::JobsCall); !passed)
    return not_made(planned, passed.error().message(), SettledBy::Recovery);
  tools::Tool* tool = core_.tools.find(planned.tool);
  if (tool == nullptr)
    return not_made(planned, "there is no such tool any more", SettledBy::Recovery);
  if (!group_) {
    group_ = std::make_unique<async::TaskGroup>(core_.mail->executor(), "run " + state_.id.text);
  }
  PlannedCall const kept{.effect = planned.effect,
                         .turn = planned.turn,
                         .token = planned.token,
                         .tool = {},
                         .call = {},
                         .looks_up = planned.looks_up};
  if (!group_->spawn(planned.tool, perform(this, tool, std::move(planned))))
    not_made(kept, "too many calls of this run are under way", SettledBy::Tool);
}

/// A call is as if it had never been intended, and made again; a question that nobody was asked has
/// no answer, and says nothing of the call that it is about.
void RunActor::not_made(PlannedCall const& planned, std::string why, SettledBy by) {
  if (planned.looks_up) return returned(planned, unknown_end(std::move(why)), SettledBy::Lookup);
  returned(planned, not_executed(std::move(why)), by);
}

async::Task<void> RunActor::perform(RunActor* self, tools::Tool* tool, PlannedCall planned) {
  tools::CallResult result;
  try {
    async::Task<tools::CallResult> calling = planned.looks_up
                                                 ? tool->look_up(std::move(planned.call))
                                                 : tool->call(std::move(planned.call));
    result = co_await std::move(calling);
  } catch (Error const& error) {
    result = unknown_end(error.message());
  } catch (std::exception const& exception) {
    bool const cancelled = async::is_cancelled(std::current_exception());
    result =
        unknown_end(cancelled ? "the call was cancelled: it may have happened" : exception.what());
  }
  SettledBy by = planned.looks_up ? SettledBy::Lookup
                 : self->leased_  ? SettledBy::Tool
                                  : SettledBy::Late;
  // A stop of Aether is nothing that the job did: it goes on from here as after a crash.
  bool const is_cut_off = self->core_.stopping && (result.outcome == EffectOutcome::Unknown ||
                                                   result.outcome == EffectOutcome::NotExecuted);
  if (is_cut_off && !planned.looks_up) by = SettledBy::Recovery;
  if (Status const passed = fault::pass(fault::Point::JobsReturned); !passed) {
    // As if the process had ended here: the answer is lost.
    result = unknown_end(passed.error().message());
    if (!planned.looks_up) by = SettledBy::Recovery;
  }
  self->returned(planned, std::move(result), by);
}

void RunActor::returned(PlannedCall const& planned, tools::CallResult result, SettledBy by) {
  --calls_running_;
  if (!planned.looks_up) memory_.in_flight.erase(planned.effect);
  deliver({.actor = {},
           .fact = CallEnded{.effect = planned.effect,
                             .turn = planned.turn,
                             .token = planned.token,
                             .result = std::move(result),
                             .by = by}});
}

}  // namespace aether::jobs
