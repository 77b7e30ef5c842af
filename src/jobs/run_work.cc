// SPDX-License-Identifier: Apache-2.0
// RunActor: a run that a worker holds, from the claim to the giving back.
#include <utility>

#include "base/fault.h"
#include "jobs/agent.h"
#include "jobs/engine_core.h"
#include "jobs/run_actor.h"

namespace aether::jobs {
namespace {

/// What a worker asked is answered as open after so long, when it says something else: proxies cut
/// what is silent for longer.
constexpr Duration kFrameMax = std::chrono::seconds(20);

WorkAnswers answers_of(WorkSession::Frame& frame, boost::json::object const& otherwise) {
  WorkAnswers answers;
  for (auto& answer : frame.answers) answers.push_back(answer ? std::move(*answer) : otherwise);
  return answers;
}

}  // namespace

CallEnded ended_of(WorkMessage const& message) {
  CallEnded ended{.effect = message.effect,
                  .turn = message.turn,
                  .token = message.token,
                  .result = {},
                  .by = SettledBy::Tool};
  ended.result.outcome = message.outcome;
  ended.result.result = message.result;
  ended.result.error = message.error;
  ended.result.retryable = message.is_retryable;
  if (ended.result.outcome != EffectOutcome::Ok && ended.result.error.empty())
    ended.result.error = "the worker says no more";
  return ended;
}

void RunActor::begin_work(std::string worker, WallTime lease_until, Reply<ClaimedRun> reply) {
  work_ = std::make_unique<WorkSession>();
  work_->worker = std::move(worker);
  work_->token = core_.make_token();
  work_->heard = core_.clock.wall();
  work_->claimed = std::move(reply);
  driver_ = std::make_unique<CodeDriver>();
  begin(lease_until);
}

void RunActor::work(std::vector<WorkMessage> messages, Reply<WorkAnswers> reply) {
  work_->heard = core_.clock.wall();
  answer_old_frames();
  std::uint64_t const number = ++work_->frames_made;
  WorkSession::Frame& frame = work_->frames[number];
  frame.answers.resize(messages.size());
  frame.missing = messages.size();
  frame.since = work_->heard;
  frame.reply = std::move(reply);
  CodeDriver* const driver = code();
  for (std::size_t i = 0; i < messages.size(); ++i) {
    WorkMessage& message = messages[i];
    bool const settles = message.verb == WorkVerb::StepEnd && !message.is_pure;
    if (settles) {
      auto const effect = state_.effects.find(message.effect);
      bool const is_meant =
          effect != state_.effects.end() && effect->second.intent.token == message.token;
      if (is_meant && memory_.with_worker.erase(message.effect) > 0)
        memory_.in_flight.erase(message.effect);
      inputs_.push_back({.actor = {}, .fact = ended_of(message)});
    }
    driver->ask({.frame = number, .index = i}, std::move(message));
  }
  asks_more_ = true;
  turn();
}

void RunActor::answer_old_frames() {
  std::vector<std::uint64_t> old;
  for (auto const& [number, frame] : work_->frames) {
    if (work_->heard - frame.since >= kFrameMax) old.push_back(number);
  }
  for (std::uint64_t const number : old) {
    auto frame = work_->frames.extract(number);
    code()->forget(number);
    frame.mapped().reply(answers_of(frame.mapped(), {{"is", "open"}}));
  }
}

void RunActor::answer_claim() {
  if (!work_->claimed || !lease_recorded_) return;
  Reply<ClaimedRun> claimed = std::exchange(work_->claimed, {});
  if (Status const passed = fault::pass(fault::Point::WorkClaimed); !passed)
    return claimed(fail(passed.error()));
  RunSpec const& spec = state_.opening.spec;
  claimed(ClaimedRun{.run = state_.id,
                     .token = work_->token,
                     .fence = state_.fence,
                     .lease = core_.limits.lease,
                     .agent = code_agent(spec),
                     .name = spec.name,
                     .space = spec.space,
                     .input = spec.input,
                     .steps = state_.steps.size()});
}

/// After each turn that is durable.
void RunActor::answer_worker() {
  answer_claim();
  std::vector<WorkAnswer> answers = code()->answers(state_);
  std::optional<boost::json::object> back;
  for (WorkAnswer& answer : answers) {
    if (is_give_back(answer.body)) back = answer.body;
    auto const found = work_->frames.find(answer.place.frame);
    if (found == work_->frames.end()) continue;
    found->second.answers[answer.place.index] = std::move(answer.body);
    if (--found->second.missing > 0) continue;
    auto frame = work_->frames.extract(found);
    if (Status const passed = fault::pass(fault::Point::WorkAnswer); !passed)
      frame.mapped().reply(fail(passed.error()));
    else
      frame.mapped().reply(answers_of(frame.mapped(), {}));
  }
  if (back) return end_work(*back);
  if (state_.closing) return end_work(give_back(GiveBack::Closed));
  if (core_.stopping && is_worker_quiet())
    end_work(give_back(GiveBack::Released, "Aether is stopping"));
}

void RunActor::end_work(boost::json::object const& answer) {
  std::unique_ptr<WorkSession> const work = std::move(work_);
  if (work->claimed)
    work->claimed(fail(ErrorCode::Conflict, "the run was taken back before it was given"));
  for (auto& [number, frame] : work->frames) frame.reply(answers_of(frame, answer));
  // What it calls is nobody's now: whoever is next settles it as unknown, unless its answer comes.
  for (std::string const& effect : std::exchange(memory_.with_worker, {}))
    memory_.in_flight.erase(effect);
  drop_lease();
  driver_.reset();
}

void RunActor::lose_worker(GiveBack why, std::string const& detail) {
  end_work(give_back(why, detail));
  if (!appending_ && !turning_) settle_down();
}

}  // namespace aether::jobs
