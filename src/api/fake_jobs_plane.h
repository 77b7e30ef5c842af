// SPDX-License-Identifier: Apache-2.0
// FakeJobsPlane: jobs made of values, for tests of the API. Only *_test.cc files include it.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "api/jobs_plane.h"
#include "base/error.h"
#include "base/json.h"

namespace aether::api::testing {

inline constexpr char const* kFakeRun = "0193b5c2-0000-7000-8000-000000000001";

class FakeJobsPlane final : public JobsPlane {
 public:
  FakeJobsPlane() {
    run.id = {kFakeRun};
    run.opening.spec.name = "fake";
    run.waits["review"].opening = {.path = "review", .kind = jobs::WaitKind::Human};
  }

  async::Task<jobs::Submitted> submit(jobs::Asker asker, jobs::Submission submission) override {
    std::string const key = submission.idempotency_key;
    asked.push_back("submit " + asker.name + " " + key);
    bool const existed = keys.contains(key);
    if (existed && keys[key] != submission.request_hash)
      throw Error(ErrorCode::Conflict, "another body");
    if (!key.empty()) keys[key] = submission.request_hash;
    submitted = std::move(submission.spec);
    co_return jobs::Submitted{run.id, jobs::RunStatus::Pending, existed};
  }
  async::Task<jobs::RunStatus> control(jobs::Asker asker, jobs::RunId, jobs::Control control,
                                       std::string reason) override {
    asked.push_back(std::string(jobs::text_of(control)) + " " + asker.name + " " + reason);
    co_return jobs::RunStatus::Running;
  }
  async::Task<jobs::RunStatus> signal(jobs::Asker asker, jobs::RunId,
                                      jobs::SignalReceived signal) override {
    asked.push_back("signal " + asker.name + " " + signal.name + " " + signal.idempotency_key);
    co_return jobs::RunStatus::Running;
  }
  async::Task<jobs::RunStatus> answer(jobs::Asker asker, jobs::RunId, std::string path,
                                      jobs::WaitEnd end, boost::json::value payload) override {
    asked.push_back(std::string(jobs::text_of(end)) + " " + asker.name + " " + path + " " +
                    canonical_json(payload));
    co_return jobs::RunStatus::Running;
  }
  async::Task<jobs::RunStatus> resolve(jobs::Asker asker, jobs::RunId, std::string effect,
                                       jobs::Resolution, boost::json::value) override {
    asked.push_back("resolve " + asker.name + " " + effect);
    co_return jobs::RunStatus::Running;
  }
  async::Task<Erasure> erase(jobs::Asker asker, jobs::RunId, std::string reason) override {
    asked.push_back("erase " + asker.name + " " + reason);
    co_return Erasure{.erased = 3, .gone = 1};
  }
  async::Task<jobs::RunId> fork(jobs::Asker asker, jobs::RunId, std::string step,
                                jobs::RunSpec spec) override {
    asked.push_back("fork " + asker.name + " " + step + " " + canonical_json(spec.input));
    co_return jobs::RunId{kFakeRun};
  }
  async::Task<std::vector<jobs::ClaimedRun>> claim(jobs::WorkClaim claim, Duration) override {
    asked.push_back("claim " + claim.worker);
    jobs::ClaimedRun made{.run = run.id, .token = "t", .agent = claim.agents.front()};
    co_return std::vector<jobs::ClaimedRun>{std::move(made)};
  }
  async::Task<jobs::WorkAnswers> work(jobs::RunId, std::string token,
                                      std::vector<jobs::WorkMessage> messages) override {
    jobs::WorkAnswers answers;
    for (jobs::WorkMessage const& message : messages) {
      asked.push_back(std::string(jobs::text_of(message.verb)) + " " + token);
      answers.push_back({{"is", "held"}});
    }
    co_return answers;
  }
  void note(std::string actor, jobs::AuditNoted note) override {
    notes.emplace_back(std::move(actor), std::move(note));
  }
  async::Task<std::vector<jobs::RunSummary>> list(jobs::ListQuery query) override {
    std::vector<jobs::RunSummary> all;
    for (char const* const space : {"default", "blue"}) {
      if (!query.space.empty() && query.space != space) continue;
      all.push_back({.run = run.id, .name = "fake", .space = space});
    }
    co_return all;
  }
  async::Task<jobs::RunState> show(jobs::RunId id) override {
    if (id != run.id) throw Error(ErrorCode::NotFound, "there is no job " + id.text);
    co_return run;
  }
  async::Task<std::vector<journal::Event>> events(jobs::RunId, std::uint64_t after,
                                                  std::size_t count) override {
    std::vector<journal::Event> found;
    for (journal::Event const& event : history) {
      if (event.sequence.value > after && found.size() < count) found.push_back(event);
    }
    co_return found;
  }
  async::Task<std::string> trace(jobs::RunId, TraceForm) override { co_return "{}"; }
  async::Task<boost::json::value> replay(jobs::RunId) override {
    co_return boost::json::object{{"calls", 0}};
  }
  async::Task<std::string> evidence(jobs::RunId) override { co_return "evidence"; }
  async::Task<std::string> checkpoint(std::optional<std::uint64_t> old_size) override {
    co_return old_size ? "old " + std::to_string(*old_size) : "checkpoint";
  }
  std::shared_ptr<RunWatch> watch(jobs::RunId const&) override { return watched; }
  JobCounts counts() const override { return {.opened = 1}; }
  Result<boost::json::value> agent(std::string_view name) const override {
    if (name == "coder") return boost::json::object{{"name", "coder"}, {"code", true}};
    if (name != "clerk") return fail(ErrorCode::RequestInvalid, "there is no such agent");
    return boost::json::object{{"name", "clerk"}};
  }

  void add_event(std::string kind) {
    journal::Event event;
    event.stream = kFakeRun;
    event.kind = std::move(kind);
    event.sequence = journal::Sequence{history.size() + 1};
    history.push_back(std::move(event));
    watched->latest = history.size();
    watched->grown.set();
    watched->grown.reset();
  }

  jobs::RunState run;
  jobs::RunSpec submitted;
  std::map<std::string, std::string> keys;  ///< Hash of the request.
  std::vector<std::string> asked;
  std::vector<std::pair<std::string, jobs::AuditNoted>> notes;
  std::vector<journal::Event> history;
  std::shared_ptr<RunWatch> watched = std::make_shared<RunWatch>();
};

}  // namespace aether::api::testing
