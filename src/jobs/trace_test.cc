// SPDX-License-Identifier: Apache-2.0
#include "jobs/trace.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "jobs/fork.h"
#include "jobs/ids.h"
#include "jobs/skip.h"
#include "jobs/testing_random.h"

namespace aether::jobs {
namespace {

using namespace testing;

std::vector<RunEvent> agent_run() {
  EffectIntended call = intent("agent/model.1", Policy::Read);
  call.tool = "llm";
  call.args = boost::json::object{{"model", "small"}};
  EffectSettled answer = settled("agent/model.1");
  answer.result = boost::json::object{
      {"model", "small-1"},
      {"usage", boost::json::object{{"prompt_tokens", 5}, {"completion_tokens", 2}}}};
  answer.usage.tokens = 7;
  StepClosed failed = step_end("ask", StepOutcome::Failed);
  failed.error = "rejected\nby the boss";
  return history({opened("shop"), step("agent", 1, StepKind::Agent),
                  step("agent/model.1", 1, StepKind::Model), call, answer,
                  step_end("agent/model.1"), step("agent/pay"), intent("agent/pay"),
                  settled("agent/pay", EffectOutcome::Unknown), step("ask", 1, StepKind::Approval),
                  wait("ask", WaitKind::Human, "Refund?"), wait_end("ask", WaitEnd::Rejected),
                  failed, signal()});
}
WallTime at(int milliseconds) {
  return event(0, opened()).at + std::chrono::milliseconds(milliseconds);
}

TEST(Trace, IsATreeOfStepsCallsAndWaits) {
  TraceNode const root = or_throw(trace_of(kRun, agent_run()));
  EXPECT_EQ(trace_text(root, {.colours = false, .now = at(100)}),
            "… shop  run  open  100ms\n"
            "├─ … agent  agent  open  99.0ms\n"
            "│  ├─ ✓ agent/model.1  model  committed  3.00ms\n"
            "│  │  └─ ✓ llm  read  ok  1.00ms\n"
            "│  └─ … agent/pay  tool  open  94.0ms\n"
            "│     └─ ? http  once  unknown  1.00ms\n"
            "├─ ✗ ask  approval  failed  3.00ms  rejected by the boss\n"
            "│  └─ ✗ Refund?  human  rejected  1.00ms\n"
            "└─ • signal paid\n");
}

TEST(Trace, HasColoursOnlyWhenAskedForThem) {
  TraceNode const root = or_throw(trace_of(kRun, agent_run()));
  EXPECT_FALSE(trace_text(root, {.colours = false, .now = at(100)}).contains('\x1b'));
  EXPECT_TRUE(trace_text(root, {.colours = true, .now = at(100)}).contains("\x1b[32m✓\x1b[0m"));
}

TEST(Trace, ShowsAttemptsTurnsAndWhatAPersonSaid) {
  TraceNode const root = or_throw(trace_of(
      kRun, history({opened("shop"), step("a"), intent("a"), settled("a", EffectOutcome::Unknown),
                     amended("a", EffectOutcome::NotExecuted), intent("a", Policy::Once, 2),
                     settled("a", EffectOutcome::Ok, 2), step_end("a", StepOutcome::Retryable),
                     step("a", 2)})));
  ASSERT_EQ(root.children.size(), 2U);
  EXPECT_EQ(root.children[0].mark, TraceMark::Again);
  EXPECT_EQ(root.children[1].title, "a (attempt 2)");
  TraceNode const& first = root.children[0].children.at(0);
  EXPECT_EQ(first.outcome, "not_executed");
  EXPECT_EQ(first.detail, "by person");
  EXPECT_EQ(*first.end - first.begin, std::chrono::milliseconds(1)) << "as long as the call took";
  EXPECT_EQ(root.children[0].children.at(1).title, "http (turn 2)");
}

TEST(Trace, TellsANodeThatDidNotRunFromOneThatDid) {
  StepOpened passed_over = step("small", 1, StepKind::Value);
  passed_over.input_hash = content_hash(canonical_json(skip_input(kSkippedByParents)));
  TraceNode const root = or_throw(trace_of(
      kRun, history({opened("shop"), passed_over, step_end("small", StepOutcome::Pure),
                     step("paid", 1, StepKind::Value), step_end("paid", StepOutcome::Pure)})));
  EXPECT_EQ(trace_text(root, {.colours = false, .now = at(100)}),
            "… shop  run  open  100ms\n"
            "├─ – small  value  skipped  1.00ms  no branch leads here\n"
            "└─ ✓ paid  value  pure  1.00ms\n");
}

TEST(Trace, MarksWhatAForkTookFromItsSource) {
  std::vector<RunEvent> events = or_throw(
      fork_prefix(kRun, history({opened(), step("a"), step_end("a"), step("b")}), "b", kOtherRun));
  RunOpened opening = opened();
  opening.forked_from = kRun;
  events.insert(events.begin(), event(0, opening));
  events.push_back(event(9, step("b")));
  TraceNode const root = or_throw(trace_of(kOtherRun, events));
  EXPECT_FALSE(root.copied);
  ASSERT_EQ(root.children.size(), 3U);
  EXPECT_TRUE(root.children[0].copied);
  EXPECT_EQ(root.children[1].title, "fork");
  EXPECT_FALSE(root.children[2].copied);
}

TEST(Trace, GivesEachOpenedSpanOnceAsJson) {
  boost::json::value const tree = trace_json(or_throw(trace_of(kRun, agent_run())));
  EXPECT_EQ(tree.at("span"), "run");
  EXPECT_EQ(tree.at("children").as_array().size(), 3U);
  boost::json::value const& model = tree.at("children").at(0).at("children").at(0);
  EXPECT_EQ(model.at("span"), "step/agent/model.1#1");
  EXPECT_EQ(model.at("end").as_int64() - model.at("begin").as_int64(), 3);
  EXPECT_EQ(model.at("outcome"), "committed");
}

boost::json::value const* attribute(boost::json::value const& span, std::string_view name) {
  for (boost::json::value const& each : span.at("attributes").as_array()) {
    if (each.at("key").as_string() == name) return &each.at("value");
  }
  return nullptr;
}

TEST(Trace, TellsOtlpWhichModelAnsweredAndWhatItUsed) {
  boost::json::value const request =
      trace_otlp(kRun, or_throw(trace_of(kRun, agent_run())), at(100));
  boost::json::value const& scope = request.at("resourceSpans").at(0).at("scopeSpans").at(0);
  boost::json::array const& spans = scope.at("spans").as_array();
  ASSERT_EQ(spans.size(), 8U);
  boost::json::value const& run = spans[0];
  EXPECT_EQ(run.at("traceId"), "0193a6c17e4b7d3c9f002b6d1c5e8a47");
  EXPECT_EQ(run.as_object().count("parentSpanId"), 0U);
  EXPECT_EQ(run.at("events").at(0).at("name"), "signal paid");
  EXPECT_EQ(run.at("startTimeUnixNano"), "1795258562000000000");
  EXPECT_EQ(run.at("endTimeUnixNano"), "1795258562100000000");
  boost::json::value const& model = spans[3];
  EXPECT_EQ(model.at("name"), "llm");
  EXPECT_EQ(model.at("parentSpanId"), spans[2].at("spanId"));
  EXPECT_EQ(model.at("spanId").as_string().size(), 16U);
  EXPECT_EQ(model.at("kind"), 3);
  EXPECT_EQ(model.at("status").at("code"), 1);
  for (auto const& [name, value] :
       {std::pair("gen_ai.operation.name", R"({"stringValue":"chat"})"),
        std::pair("gen_ai.provider.name", R"({"stringValue":"llm"})"),
        std::pair("gen_ai.request.model", R"({"stringValue":"small"})"),
        std::pair("gen_ai.response.model", R"({"stringValue":"small-1"})"),
        std::pair("gen_ai.usage.input_tokens", R"({"intValue":"5"})"),
        std::pair("gen_ai.usage.output_tokens", R"({"intValue":"2"})")}) {
    boost::json::value const* const found = attribute(model, name);
    ASSERT_NE(found, nullptr) << name;
    EXPECT_EQ(canonical_json(*found), value);
  }
  boost::json::value const& unknown = spans[5];
  EXPECT_EQ(canonical_json(*attribute(unknown, "gen_ai.operation.name")),
            R"({"stringValue":"execute_tool"})");
  EXPECT_EQ(unknown.at("status").at("code"), 2);
}

TEST(Trace, HoldsEverySpanOfAnyHistory) {
  Chance chance(11);
  for (int round = 0; round < 100; ++round) {
    std::vector<RunEvent> const events = random_history(chance, 30);
    TraceNode const root = or_throw(trace_of(kRun, events));
    std::size_t opens = 0;
    for (journal::NewEvent const& line : batch_of_history(events).events) {
      bool const is_point = line.mark == journal::Mark::Point && line.span.empty();
      if (line.mark == journal::Mark::Open || is_point) ++opens;
    }
    std::string const text = trace_text(root, {.colours = false, .now = events.back().at});
    EXPECT_EQ(static_cast<std::size_t>(std::ranges::count(text, '\n')), opens);
  }
}

}  // namespace
}  // namespace aether::jobs
