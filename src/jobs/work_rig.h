// SPDX-License-Identifier: Apache-2.0
// A worker for tests of the engine: claims runs, and says what a test writes as JSON. Tests only.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "jobs/engine_rig.h"

namespace aether::jobs::testing {

inline RunSpec code_spec(std::string const& agent = "coder") {
  RunSpec spec;
  spec.name = agent;
  spec.agent = boost::json::object{{"name", agent}, {"code", true}};
  spec.input = boost::json::object{{"order", 7}};
  return spec;
}

inline std::string text_at(boost::json::object const& answer, std::string_view key) {
  auto const* const found = answer.if_contains(key);
  return found != nullptr && found->is_string() ? std::string(found->get_string()) : "";
}

class TestWorker {
 public:
  explicit TestWorker(Rig& rig, std::string name = "w1") : rig_(rig), name_(std::move(name)) {}

  /// Waits until there is a run for it.
  bool claim(std::string const& agent = "coder") {
    WorkClaim wanted{.worker = name_, .agents = {agent}, .spaces = {}, .runs = 1};
    auto found = Rig::wait<std::vector<ClaimedRun>>([&](Reply<std::vector<ClaimedRun>> reply) {
      rig_->claim(std::move(wanted), std::move(reply));
    });
    if (!found || found->size() != 1) return false;
    held = std::move(found->front());
    return true;
  }
  /// What there is for it now.
  std::size_t look(WorkClaim wanted) {
    auto done = std::make_shared<std::promise<std::size_t>>();
    auto count = done->get_future();
    std::uint64_t const id = rig_->claim(
        std::move(wanted),
        [done](Result<std::vector<ClaimedRun>> runs) { done->set_value(runs ? runs->size() : 0); });
    rig_->end_claim(id);
    return count.get();
  }
  std::size_t look(std::string const& agent = "coder") {
    return look({.worker = name_, .agents = {agent}, .spaces = {}, .runs = 1});
  }
  Result<WorkAnswers> try_say(std::string const& messages) {
    ReadJob const read_job = [](json::value const&) -> Result<RunSpec> {
      return Rig::spec_of("[]");
    };
    auto read = read_work_messages(or_throw(parse_json(messages, "messages")), read_job);
    if (!read) return fail(read.error());
    return Rig::wait<WorkAnswers>([&](Reply<WorkAnswers> reply) {
      rig_->work(held.run, held.token, std::move(*read), std::move(reply));
    });
  }
  WorkAnswers say(std::string const& messages) {
    Result<WorkAnswers> answers = try_say(messages);
    EXPECT_TRUE(answers) << answers.error().describe();
    return answers ? std::move(*answers) : WorkAnswers(1);
  }
  json::object say_one(std::string const& message) { return say("[" + message + "]").front(); }

  json::object begin(std::string const& path, std::string const& more = "") {
    last = say_one(R"({"do": "step.begin", "strict": true, "path": ")" + path +
                   R"(", "tool": "charge", "args": {"sum": 5})" + more + "}");
    return last;
  }
  /// Of what begin() was answered last.
  std::string end_text(std::string const& path, std::string const& more) const {
    return R"({"do": "step.end", "path": ")" + path + R"(", "effect": ")" +
           text_at(last, "effect") + R"(", "turn": )" + std::to_string(turn()) + R"(, "token": ")" +
           text_at(last, "token") + R"(", )" + more + "}";
  }
  json::object end(std::string const& path,
                   std::string const& more = R"("outcome": "ok", "result": 1)") {
    return say_one(end_text(path, more));
  }
  json::object close() {
    return say_one(R"({"do": "close", "outcome": "succeeded", "output": 42})");
  }
  [[nodiscard]] std::int64_t turn() const {
    auto const* const found = last.if_contains("turn");
    return found == nullptr ? 0 : found->to_number<std::int64_t>();
  }

  ClaimedRun held;
  json::object last;

 private:
  Rig& rig_;
  std::string name_;
};

}  // namespace aether::jobs::testing
