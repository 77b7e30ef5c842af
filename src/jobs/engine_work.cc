// SPDX-License-Identifier: Apache-2.0
// EngineCore: workers that claim runs, and what they say of them.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/fault.h"
#include "base/log.h"
#include "jobs/engine_core.h"

namespace aether::jobs {
namespace {

/// Answers of several runs, for one who waits for all of them.
struct GatheredClaims {
  std::vector<ClaimedRun> runs;
  std::size_t missing = 0;
  Reply<std::vector<ClaimedRun>> reply;

  void take(Result<ClaimedRun> run) {
    if (run)
      runs.push_back(std::move(*run));
    else
      log::warn("a run was not given to a worker: {}", run.error().describe());
    if (--missing == 0) reply(std::move(runs));
  }
};

struct GatheredLate {
  WorkAnswers answers;
  std::size_t missing = 0;
  std::optional<Error> failed;
  Reply<WorkAnswers> reply;

  void take(Result<RunStatus> const& settled) {
    if (!settled) failed = settled.error();
    if (--missing > 0) return;
    if (failed) return reply(fail(*failed));
    reply(std::move(answers));
  }
};

}  // namespace

void EngineCore::claim(std::uint64_t id, WorkClaim claim, Reply<std::vector<ClaimedRun>> reply) {
  if (stopping) return reply(std::vector<ClaimedRun>());
  claims_.push_back({.id = id, .claim = std::move(claim), .reply = std::move(reply)});
  schedule();
}

void EngineCore::end_claim(std::uint64_t id) {
  auto const found = std::ranges::find(claims_, id, &WaitingClaim::id);
  if (found == claims_.end()) return;
  Reply<std::vector<ClaimedRun>> reply = std::move(found->reply);
  claims_.erase(found);
  reply(std::vector<ClaimedRun>());
}

void EngineCore::serve_claims() {
  for (auto at = claims_.begin(); at != claims_.end();) {
    if (serve(*at))
      at = claims_.erase(at);
    else
      ++at;
  }
}

bool EngineCore::serve(WaitingClaim& waiting) {
  WorkClaim const& claim = waiting.claim;
  std::vector<BeginRun> begun;
  // Each claim begins with another agent, and takes of them in turn: none waits for another's end.
  std::size_t idle = 0;
  for (std::size_t at = waiting.id; idle < claim.agents.size() && begun.size() < claim.runs; ++at) {
    std::string const& agent = claim.agents[at % claim.agents.size()];
    std::optional<BeginRun> begin = scheduler_.claim(agent, claim.spaces, clock.wall());
    idle = begin ? 0 : idle + 1;
    if (begin) begun.push_back(std::move(*begin));
  }
  if (begun.empty()) return false;
  auto const gathered = std::make_shared<GatheredClaims>();
  gathered->missing = begun.size();
  gathered->reply = std::move(waiting.reply);
  for (BeginRun const& begin : begun) {
    Error why(ErrorCode::Internal, "the run is held already");
    Status const passed = fault::pass(fault::Point::WorkClaim);
    RunActor* const actor = passed ? find_or_load(begin.run.run, &why) : nullptr;
    bool const is_free = actor != nullptr && !actor->is_leased();
    if (is_free) {
      actor->begin_work(claim.worker, begin.lease_until,
                        [gathered](Result<ClaimedRun> run) { gathered->take(std::move(run)); });
      continue;
    }
    scheduler_.release(begin.run.run);
    give_back(begin.run.run);
    retry_later(begin.run.run);
    gathered->take(fail(passed ? why : passed.error()));
  }
  return true;
}

void EngineCore::work(RunId const& run, std::string const& token, std::vector<WorkMessage> messages,
                      Reply<WorkAnswers> reply) {
  if (Status const passed = fault::pass(fault::Point::WorkAsk); !passed)
    return reply(fail(passed.error()));
  auto const found = actors_.find(run.text);
  bool const is_held = found != actors_.end() && found->second->is_held_with(token);
  if (!is_held) return take_late(run, std::move(messages), std::move(reply));
  bool const releases = std::ranges::any_of(
      messages, [](WorkMessage const& each) { return each.verb == WorkVerb::Release; });
  // Else it would be given back at once what it releases, and be gone with it.
  if (releases) end_claims_of(std::string(found->second->worker()));
  found->second->work(std::move(messages), std::move(reply));
}

void EngineCore::end_claims_of(std::string const& worker) {
  std::vector<std::uint64_t> its;
  for (WaitingClaim const& each : claims_) {
    if (each.claim.worker == worker) its.push_back(each.id);
  }
  for (std::uint64_t const id : its) end_claim(id);
}

/// The worker has lost the run. What it called counts all the same: the token of the call says
/// that it was it who was to make it.
void EngineCore::take_late(RunId const& run, std::vector<WorkMessage> messages,
                           Reply<WorkAnswers> reply) {
  if (Status const passed = fault::pass(fault::Point::WorkLate); !passed)
    return reply(fail(passed.error()));
  auto const gathered = std::make_shared<GatheredLate>();
  gathered->reply = std::move(reply);
  gathered->missing = 1;
  for (WorkMessage& message : messages) {
    boost::json::object answer = jobs::give_back(GiveBack::Lost);
    bool const settles = message.verb == WorkVerb::StepEnd && !message.is_pure;
    if (settles) {
      ++gathered->missing;
      answer["settled"] = true;
      deliver(run, {.actor = {}, .fact = ended_of(message), .reply = [gathered](auto settled) {
                      gathered->take(settled);
                    }});
    }
    gathered->answers.push_back(std::move(answer));
  }
  gathered->take(RunStatus::Running);
}

bool EngineCore::renew_worker(RunActor& actor, std::uint64_t fence) {
  WallTime const now = clock.wall();
  WallTime const until = actor.heard_of_worker() + limits.lease;
  if (until <= now) return false;
  if (!scheduler_.is_leased(actor.id()))
    scheduler_.adopt(ready_of(actor.state()), fence, until);
  else if (until > now + limits.lease / 2)
    (void)scheduler_.renew(actor.id(), fence, until);
  actor.renew(until);
  return true;
}

/// @param all Also those that call something right now: what comes of it settles by its token.
void EngineCore::drop_workers(bool all) {
  std::vector<std::string> held;
  for (auto const& [run, actor] : actors_) {
    if (actor->has_worker() && (all || actor->is_worker_quiet())) held.push_back(run);
  }
  for (std::string const& run : held) {
    auto const found = actors_.find(run);
    if (found != actors_.end() && found->second->has_worker())
      found->second->lose_worker(GiveBack::Released, "Aether is stopping");
  }
}

}  // namespace aether::jobs
