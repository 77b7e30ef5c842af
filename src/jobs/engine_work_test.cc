// SPDX-License-Identifier: Apache-2.0
// Runs of agents with code: what a worker may do, and what becomes of a run whose worker dies.
#include <gtest/gtest.h>

#include "jobs/work_rig.h"

namespace aether::jobs {
namespace {

using testing::code_spec;
using testing::Rig;
using testing::TestWorker;
using testing::text_at;

std::string is(boost::json::object const& answer) {
  return text_at(answer, "is");
}
std::string why(boost::json::object const& answer) {
  return text_at(answer, "why");
}

TEST(Work, GivesARunToAWorkerWhichBringsItToItsEnd) {
  Rig rig;
  RunId const run = rig.submit(code_spec());
  TestWorker worker(rig);
  ASSERT_TRUE(worker.claim());
  EXPECT_EQ(worker.held.run, run);
  EXPECT_EQ(worker.held.agent, "coder");
  EXPECT_EQ(worker.held.steps, 0U);
  EXPECT_EQ(is(worker.begin("pay")), "go");
  EXPECT_EQ(is(worker.end("pay")), "done");
  EXPECT_EQ(is(worker.close()), "done");
  RunState const state = rig.show(run);
  EXPECT_EQ(state.status(), RunStatus::Completed);
  EXPECT_EQ(state.closing->output, boost::json::value(42));
  EXPECT_EQ(state.steps.at("pay").outcome, StepOutcome::Committed);
  EXPECT_EQ(state.calls_used, 1U);
}

TEST(Work, RecordsTheEndOfAStepAndTheBeginningOfTheNextInOneBreath) {
  Rig rig;
  RunId const run = rig.submit(code_spec());
  TestWorker worker(rig);
  ASSERT_TRUE(worker.claim());
  worker.begin("a");
  WorkAnswers const answers = worker.say(
      "[" + worker.end_text("a", R"("outcome": "ok")") +
      R"(, {"do": "step.begin", "path": "b", "tool": "charge", "args": null, "strict": true}])");
  EXPECT_EQ(is(answers[0]), "done");
  EXPECT_EQ(is(answers[1]), "go");
  EXPECT_EQ(rig.show(run).open_steps.size(), 1U);
}

TEST(Work, WaitsForWorkThatComesLaterAndOnlyOfItsOwnAgents) {
  Rig rig;
  TestWorker worker(rig);
  EXPECT_EQ(worker.look(), 0U);
  rig.submit(code_spec("other"));
  EXPECT_EQ(worker.look(), 0U);
  EXPECT_EQ(worker.look({.worker = "w", .agents = {"other"}, .spaces = {"blue"}, .runs = 1}), 0U);
  auto late = std::async(std::launch::async, [&worker] { return worker.claim(); });
  rig.submit(code_spec());
  EXPECT_TRUE(late.get());
}

TEST(Work, GivesBackWhatIsRecordedToTheNextWorkerAndCallsNothingTwice) {
  Rig rig;
  RunId const run = rig.submit(code_spec());
  TestWorker first(rig, "w1");
  ASSERT_TRUE(first.claim());
  first.begin("pay");
  first.end("pay", R"("outcome": "ok", "result": {"receipt": 9})");
  rig.turn_clock(std::chrono::seconds(31));  // it says nothing more
  TestWorker second(rig, "w2");
  ASSERT_TRUE(second.claim());
  EXPECT_EQ(second.held.run, run);
  EXPECT_GT(second.held.fence, first.held.fence);
  EXPECT_EQ(second.held.steps, 1U);
  auto const answer = second.begin("pay");
  EXPECT_EQ(is(answer), "recorded");
  EXPECT_EQ(answer.at("result"), (boost::json::object{{"receipt", 9}}));
  EXPECT_EQ(why(first.begin("next")), "lost");
  EXPECT_EQ(is(second.close()), "done");
}

TEST(Work, ParksACallThatMayHaveHappenedAndGoesOnWhenAPersonKnows) {
  Rig rig;
  RunId const run = rig.submit(code_spec());
  TestWorker first(rig);
  ASSERT_TRUE(first.claim());
  EXPECT_EQ(is(first.begin("pay")), "go");
  rig.turn_clock(std::chrono::seconds(31));
  TestWorker second(rig, "w2");
  ASSERT_TRUE(second.claim());
  EXPECT_EQ(why(second.begin("pay")), "parked");
  EXPECT_EQ(rig.status(run), RunStatus::Parked);
  EXPECT_EQ(second.look(), 0U);
  ASSERT_TRUE(rig.resolve(run, Resolution::Happened, "paid"));
  ASSERT_TRUE(second.claim());
  auto const answer = second.begin("pay");
  EXPECT_EQ(is(answer), "recorded");
  EXPECT_EQ(answer.at("result"), boost::json::value("paid"));
  EXPECT_EQ(rig.show(run).calls_used, 1U);
}

TEST(Work, GivesAWorkerThatReleasesARunNotTheSameRunAgainByAClaimThatWaits) {
  Rig rig;
  rig.submit(code_spec());
  TestWorker first(rig);
  ASSERT_TRUE(first.claim());
  auto const waiting = std::make_shared<std::promise<std::size_t>>();
  rig->claim({.worker = "w1", .agents = {"coder"}, .spaces = {}, .runs = 1},
             [waiting](Result<std::vector<ClaimedRun>> const& runs) {
               waiting->set_value(runs ? runs->size() : 1);
             });
  EXPECT_EQ(why(first.say_one(R"({"do": "release"})")), "released");
  EXPECT_EQ(waiting->get_future().get(), 0U);
  TestWorker second(rig, "w2");
  EXPECT_TRUE(second.claim());
}

TEST(Work, TakesTheLateAnswerOfAWorkerThatHasLostItsRun) {
  Rig rig;
  RunId const run = rig.submit(code_spec());
  TestWorker slow(rig);
  ASSERT_TRUE(slow.claim());
  slow.begin("pay");
  rig.turn_clock(std::chrono::seconds(31));
  TestWorker second(rig, "w2");
  ASSERT_TRUE(second.claim());
  EXPECT_EQ(why(second.begin("pay")), "parked");
  EXPECT_EQ(why(slow.end("pay", R"("outcome": "ok", "result": "late")")), "lost");
  ASSERT_TRUE(second.claim());
  EXPECT_EQ(second.begin("pay").at("result"), boost::json::value("late"));
  EXPECT_EQ(rig.show(run).effects.begin()->second.settled.by, SettledBy::Late);
}

TEST(Work, MakesAReadAgainAndAKeyedCallWithTheSameKey) {
  for (std::string const policy : {"read", "keyed"}) {
    Rig rig;
    rig.submit(code_spec());
    TestWorker first(rig);
    ASSERT_TRUE(first.claim());
    std::string const more = R"(, "policy": ")" + policy + "\"";
    auto const before = first.begin("get", more);
    rig.turn_clock(std::chrono::seconds(31));
    TestWorker second(rig, "w2");
    ASSERT_TRUE(second.claim());
    auto const after = second.begin("get", more);
    EXPECT_EQ(is(after), "go");
    EXPECT_EQ(second.turn(), 2);
    EXPECT_EQ(text_at(after, "key"), text_at(before, "key"));
    EXPECT_EQ(text_at(after, "key").empty(), policy == "read");
  }
}

TEST(Work, LetsBeatsKeepALease) {
  Rig rig;
  rig.submit(code_spec());
  TestWorker worker(rig);
  ASSERT_TRUE(worker.claim());
  for (int i = 0; i < 10; ++i) {
    rig.turn_clock(std::chrono::seconds(10));
    EXPECT_EQ(is(worker.say_one(R"({"do": "beat"})")), "held");
  }
  EXPECT_EQ(is(worker.close()), "done");
}

TEST(Work, AnswersTheSameToWhoAsksAgain) {
  Rig rig;
  rig.submit(code_spec());
  TestWorker worker(rig);
  ASSERT_TRUE(worker.claim());
  auto const first = worker.begin("pay");
  EXPECT_EQ(worker.begin("pay"), first);
  EXPECT_EQ(is(worker.end("pay")), "done");
  EXPECT_EQ(is(worker.end("pay")), "done");
  EXPECT_EQ(is(worker.begin("pay")), "recorded");
}

TEST(Work, RefusesTheEndOfACallThatWasNotMade) {
  Rig rig;
  rig.submit(code_spec());
  TestWorker worker(rig);
  ASSERT_TRUE(worker.claim());
  auto const made = worker.begin("pay");
  worker.last["token"] = "guessed";
  EXPECT_EQ(is(worker.end("pay")), "refused");
  worker.last = made;
  EXPECT_EQ(is(worker.end("pay")), "done");
}

TEST(Work, HoldsARunStuckWhoseCodeIsAnother) {
  for (std::string const other :
       {R"({"do": "step.begin", "path": "pay", "tool": "charge", "args": {"sum": 6}})",
        R"({"do": "step.begin", "path": "refund", "tool": "charge", "args": null, "strict": true})",
        R"({"do": "wait", "path": "pay", "for": "signal", "name": "x"})",
        R"({"do": "close", "outcome": "succeeded"})"}) {
    Rig rig;
    RunId const run = rig.submit(code_spec());
    TestWorker first(rig);
    ASSERT_TRUE(first.claim());
    for (std::string const path : {"pay", "more"}) {  // in one millisecond
      first.begin(path);
      first.end(path);
    }
    EXPECT_EQ(why(first.say_one(R"({"do": "release"})")), "released");
    TestWorker second(rig, "w2");
    ASSERT_TRUE(second.claim());
    auto const answer = second.say_one(other);
    EXPECT_EQ(why(answer), "stuck") << other;
    EXPECT_EQ(rig.status(run), RunStatus::Stuck);
    std::string const detail = text_at(answer, "detail");
    EXPECT_TRUE(detail.contains("\"pay\" (step 1 of 2")) << detail;
    ASSERT_TRUE(rig.control(run, Control::Resume));
    ASSERT_TRUE(second.claim());
    EXPECT_EQ(is(second.begin("pay")), "recorded");
    EXPECT_EQ(is(second.begin("more")), "recorded");
    EXPECT_EQ(is(second.close()), "done");
  }
}

TEST(Work, ParksAWaitAndHoldsNobodyMeanwhile) {
  Rig rig;
  RunId const run = rig.submit(code_spec());
  TestWorker worker(rig);
  ASSERT_TRUE(worker.claim());
  std::string const wait =
      R"({"do": "wait", "path": "ok", "for": "human", "name": "Pay?", "give_back": true})";
  EXPECT_EQ(why(worker.say_one(wait)), "parked");
  EXPECT_EQ(rig.status(run), RunStatus::Parked);
  rig.restart();
  ASSERT_TRUE(rig.answer(run, WaitEnd::Approved));
  ASSERT_TRUE(worker.claim());
  auto const answer = worker.say_one(wait);
  EXPECT_EQ(is(answer), "recorded");
  EXPECT_EQ(text_at(answer.at("result").as_object(), "end"), "approved");
  EXPECT_EQ(is(worker.close()), "done");
}

TEST(Work, LeavesARunToTheWorkerThatGoesOnWithWhatTheSameFrameIsTold) {
  Rig rig;
  RunId const run = rig.submit(code_spec());
  TestWorker worker(rig);
  ASSERT_TRUE(worker.claim());
  std::string const first = R"({"do": "wait", "path": "a", "for": "signal", "name": "a")";
  std::string const second =
      R"({"do": "wait", "path": "sleep", "for": "timer", "after_ms": 3600000)";
  EXPECT_EQ(is(worker.say_one(first + "}")), "open");
  EXPECT_EQ(is(worker.say_one(second + "}")), "open");
  ASSERT_TRUE(rig.signal(run, "a"));
  std::string const gives = R"(, "give_back": true})";
  std::string both = "[";
  both += second + gives + "," + first + gives + "]";
  worker.say(both);
  WorkAnswers const answers = worker.say(both);  // As one who has not had the answer.
  EXPECT_EQ(is(answers[1]), "recorded");
  EXPECT_EQ(is(answers[0]), "open");
  EXPECT_EQ(is(worker.begin("pay", R"(, "strict": false)")), "go");
  worker.end("pay");
  EXPECT_EQ(why(worker.say_one(second + gives)), "parked");
}

TEST(Work, CallsAToolOfAethersForTheWorkerAndTellsWhatCameOfIt) {
  Rig rig;
  rig.submit(code_spec());
  TestWorker worker(rig);
  ASSERT_TRUE(worker.claim());
  std::string const call =
      R"({"do": "call", "path": "c", "tool": "count", "args": {"name": "a"}, "strict": true})";
  EXPECT_EQ(text_at(worker.say_one(call), "outcome"), "committed");
  EXPECT_EQ(text_at(worker.say_one(call), "outcome"), "committed");
  EXPECT_EQ(rig.world.count("a"), 1);
  std::string const wrong = R"({"do": "call", "path": "d", "tool": "nosuch", "args": {}})";
  EXPECT_EQ(text_at(worker.say_one(wrong), "outcome"), "failed");
  EXPECT_EQ(is(worker.close()), "done");
}

TEST(Work, EndsACancelledRunWhetherItHasAWorkerOrNot) {
  Rig rig;
  RunId const unheld = rig.submit(code_spec());
  ASSERT_TRUE(rig.control(unheld, Control::Cancel));
  ASSERT_TRUE(rig.becomes(unheld, RunStatus::Cancelled));
  RunId const held = rig.submit(code_spec());
  TestWorker worker(rig);
  ASSERT_TRUE(worker.claim());
  worker.begin("pay");
  ASSERT_TRUE(rig.control(held, Control::Cancel));
  EXPECT_EQ(why(worker.say_one(R"({"do": "beat"})")), "cancelled");
  worker.end("pay");
  ASSERT_TRUE(rig.becomes(held, RunStatus::Cancelled));
}

TEST(Work, EndsACancelledRunAlsoAfterARestart) {
  Rig rig;
  RunId const run = rig.submit(code_spec());
  TestWorker worker(rig);
  ASSERT_TRUE(worker.claim());
  worker.begin("pay");
  ASSERT_TRUE(rig.control(run, Control::Cancel));
  rig.restart();
  ASSERT_TRUE(rig.becomes(run, RunStatus::Cancelled));
}

TEST(Work, LetsGoOfAPausedRunAndOfAllRunsWhenItStops) {
  Rig rig;
  RunId const run = rig.submit(code_spec());
  TestWorker worker(rig);
  ASSERT_TRUE(worker.claim());
  ASSERT_TRUE(rig.control(run, Control::Pause));
  EXPECT_EQ(why(worker.begin("pay")), "paused");
  EXPECT_EQ(worker.look(), 0U);
  ASSERT_TRUE(rig.control(run, Control::Resume));
  ASSERT_TRUE(worker.claim());
  rig.restart();
  EXPECT_EQ(why(worker.begin("pay")), "lost");
  EXPECT_TRUE(worker.claim());
}

TEST(Work, RecordsAPureStepAsOne) {
  Rig rig;
  RunId const run = rig.submit(code_spec());
  TestWorker worker(rig);
  ASSERT_TRUE(worker.claim());
  std::string const begin =
      R"({"do": "step.begin", "path": "now", "tool": "now", "policy": "pure"})";
  EXPECT_EQ(is(worker.say_one(begin)), "go");
  EXPECT_EQ(rig.show(run).steps.size(), 0U);
  EXPECT_EQ(is(worker.say_one(R"({"do": "step.end", "path": "now", "tool": "now",
      "policy": "pure", "outcome": "ok", "result": 5})")),
            "done");
  EXPECT_EQ(worker.say_one(begin).at("result"), boost::json::value(5));
  EXPECT_EQ(rig.show(run).calls_used, 0U);
}

TEST(Work, TriesAStepAgainOnlyWhereItsPolicyAllowsIt) {
  Rig rig;
  RunId const run = rig.submit(code_spec());
  TestWorker worker(rig);
  ASSERT_TRUE(worker.claim());
  std::string const busy =
      R"("outcome": "error", "error": "busy", "retryable": true, "again": true)";
  worker.begin("get", R"(, "policy": "read")");
  EXPECT_EQ(is(worker.end("get", busy)), "done");
  EXPECT_EQ(is(worker.begin("get", R"(, "policy": "read")")), "go");
  EXPECT_EQ(worker.turn(), 2);
  worker.end("get");
  worker.begin("pay");
  EXPECT_EQ(is(worker.end("pay", busy)), "done");
  EXPECT_EQ(is(worker.begin("pay")), "recorded");
  EXPECT_EQ(rig.show(run).steps.at("pay").outcome, StepOutcome::Failed);
}

TEST(Work, CountsAConcurrencyKeyForWorkersToo) {
  Rig rig;
  RunSpec spec = code_spec();
  spec.concurrency_key = "one";
  rig.submit(spec);
  rig.submit(spec);
  TestWorker first(rig);
  ASSERT_TRUE(first.claim());
  TestWorker second(rig, "w2");
  EXPECT_EQ(second.look(), 0U);
  first.close();
  EXPECT_TRUE(second.claim());
}

TEST(Work, TakesOfTheAgentsOfAClaimInTurn) {
  Rig rig;
  for (int at = 0; at < 4; ++at) rig.submit(code_spec("a"));
  rig.submit(code_spec("b"));
  for (int at = 0; at < 2; ++at) {
    WorkClaim wanted{.worker = "w1", .agents = {"a", "b"}, .spaces = {}, .runs = 2};
    auto const found = Rig::wait<std::vector<ClaimedRun>>(
        [&](auto reply) { rig->claim(std::move(wanted), std::move(reply)); });
    ASSERT_TRUE(found);
    ASSERT_EQ(found->size(), 2U);
    bool const has_both = found->front().agent != found->back().agent;
    EXPECT_EQ(has_both, at == 0);
  }
}

TEST(WorkMessage, ToldWrongIsRefusedByItsMember) {
  ReadJob const read_job = [](boost::json::value const&) -> Result<RunSpec> { return RunSpec{}; };
  for (auto const& [text, part] : std::initializer_list<std::pair<char const*, char const*>>{
           {R"({"do": "dance"})", "dance"},
           {R"({"do": "step.begin", "path": "a/b", "tool": "t"})", "path"},
           {R"({"do": "step.begin", "path": "a", "tool": "t", "policy": "lookup"})", "policy"},
           {R"({"do": "step.end", "path": "a", "outcome": "ok"})", "effect"},
           {R"({"do": "call", "path": "a"})", "tool"},
           {R"({"do": "wait", "path": "a", "for": "timer"})", "after_ms"},
           {R"({"do": "close", "outcome": "cancelled"})", "outcome"}}) {
    auto const read = read_work_message(or_throw(parse_json(text, "message")), read_job);
    ASSERT_FALSE(read) << text;
    EXPECT_TRUE(read.error().message().contains(part)) << read.error().message();
  }
}

}  // namespace
}  // namespace aether::jobs
