// SPDX-License-Identifier: Apache-2.0
#include "jobs/graph_driver.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "jobs/graph_world.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;
using testing::GraphWorld;
using testing::parsed;
using testing::says_no;
using testing::says_ok;
using testing::spec_of;

constexpr std::string_view kDiamond = R"({"nodes": [
  {"id": "a", "type": "tool", "tool": "t", "with": {"n": "${input.n}"}},
  {"id": "b", "type": "tool", "tool": "t", "after": ["a"], "with": {"left": "${a.n}"}},
  {"id": "c", "type": "tool", "tool": "t", "after": ["a"], "with": {"right": "n is ${a.n}"}},
  {"id": "d", "type": "value", "after": ["b", "c"], "with": ["${b.left}", "${c.right}"]}]})";

bool opened_before(GraphWorld const& world, std::string_view first, std::string_view second) {
  for (RunEvent const& event : world.history) {
    auto const* opened = std::get_if<StepOpened>(&event.body);
    if (opened == nullptr) continue;
    if (opened->path == first) return true;
    if (opened->path == second) return false;
  }
  return false;
}

TEST(GraphDriver, RunsADiamondWithTheSameOutputInAnyOrderOfAnswers) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    GraphWorld world(spec_of(kDiamond, R"({"n": 7})"), seed);
    world.restart_one_in = 3;
    world.run();
    ASSERT_TRUE(world.state.closing.has_value());
    EXPECT_EQ(world.state.closing->outcome, RunOutcome::Succeeded);
    EXPECT_EQ(canonical_json(world.state.closing->output), R"({"d":[7,"n is 7"]})");
    EXPECT_EQ(world.calls.size(), 3U);
    EXPECT_TRUE(opened_before(world, "a", "b"));
    world.check_replay();
  }
}

TEST(GraphDriver, RunsBranchesSideBySide) {
  GraphWorld world(spec_of(kDiamond, R"({"n": 1})"));
  world.settle_decisions();
  ASSERT_TRUE(world.one_answer());
  world.settle_decisions();
  EXPECT_EQ(world.state.open_effects.size(), 2U);
}

TEST(GraphDriver, SkipsWhatItsConditionRefusesAndWhatOnlyThatLeadsTo) {
  GraphWorld world(spec_of(R"({"nodes": [
    {"id": "a", "type": "value", "with": {"n": 1}},
    {"id": "no", "type": "tool", "tool": "t", "after": ["a"], "when": "${a.n} > 1"},
    {"id": "behind", "type": "tool", "tool": "t", "after": ["no"]},
    {"id": "join", "type": "value", "after": ["a", "behind"], "with": {"no": "${no.x.y}"}}]})"));
  world.run();
  EXPECT_TRUE(world.calls.empty());
  EXPECT_EQ(canonical_json(world.state.closing->output), R"({"join":{"no":null}})");
  EXPECT_EQ(world.state.steps.at("behind").outcome, StepOutcome::Pure);
  world.check_replay();
}

TEST(GraphDriver, TakesOneBranchOfACondition) {
  for (std::string_view const n : {"1", "5"}) {
    GraphWorld world(spec_of(R"({"nodes": [
      {"id": "big", "type": "condition", "if": "${input} > 3", "then": ["yes"], "else": ["no"]},
      {"id": "yes", "type": "value", "with": "yes"},
      {"id": "no", "type": "value", "with": "no"}]})",
                             n));
    world.run();
    EXPECT_EQ(canonical_json(world.state.closing->output),
              n == "1" ? R"({"no":"no"})" : R"({"yes":"yes"})");
  }
}

TEST(GraphDriver, CallsAgainAfterABackoffAsTimersAndThenFails) {
  RunSpec const spec = spec_of(R"({"nodes": [{"id": "a", "type": "tool", "tool": "t",
    "policy": "read", "retry": {"attempts": 3, "backoff": "2s"}}]})");
  GraphWorld world(spec);
  world.answer = [](EffectIntended const& intent) {
    return intent.turn < 3 ? says_no("busy", true) : says_ok("done");
  };
  world.run();
  EXPECT_EQ(world.calls.size(), 3U);
  EXPECT_TRUE(world.state.waits.contains("a~retry.2"));
  EXPECT_EQ(world.state.closing->outcome, RunOutcome::Succeeded);
  world.check_replay();

  GraphWorld other(spec);
  other.answer = [](EffectIntended const&) { return says_no("busy", true); };
  other.run();
  EXPECT_EQ(other.state.closing->outcome, RunOutcome::Failed);
  EXPECT_EQ(other.state.closing->error, "a: busy (attempt 3 of 3)");
}

TEST(GraphDriver, NeverRepeatsACallOfPolicyOnceThatMayHaveHappened) {
  GraphWorld world(spec_of(R"({"nodes": [{"id": "a", "type": "tool", "tool": "t",
    "retry": {"attempts": 5}}]})"));
  world.answer = [](EffectIntended const&) {
    EffectSettled settled;
    settled.outcome = EffectOutcome::Unknown;
    return settled;
  };
  world.run();
  EXPECT_EQ(world.calls.size(), 1U);
  EXPECT_FALSE(world.state.closing.has_value());
  EXPECT_TRUE(world.state.open_steps.contains("a"));
}

constexpr std::string_view kSaga = R"({"nodes": [
  {"id": "a", "type": "tool", "tool": "do", "with": {"id": 1},
   "compensate": {"tool": "undo", "with": {"id": "${a.id}"}}},
  {"id": "b", "type": "tool", "tool": "do", "after": ["a"],
   "compensate": {"tool": "undo", "with": {"of": "b"}}},
  {"id": "side", "type": "wait", "with": {"signal": "never"}},
  {"id": "c", "type": "tool", "tool": "fail", "after": ["b"]}]})";

TEST(GraphDriver, TakesBackWhatWasDoneInReverseOrder) {
  GraphWorld world(spec_of(kSaga));
  world.answer = [](EffectIntended const& intent) {
    return intent.tool == "fail" ? says_no("no stock") : says_ok(intent.args);
  };
  world.end_wait = [](WaitOpened const&) { return WaitClosed{.end = WaitEnd::Cancelled}; };
  world.restart_one_in = 2;
  world.run();
  ASSERT_TRUE(world.state.closing.has_value());
  EXPECT_EQ(world.state.closing->outcome, RunOutcome::Compensated);
  EXPECT_EQ(world.state.closing->error, "c: no stock");
  EXPECT_EQ(world.calls, (std::vector<std::string>{"a", "b", "c", "b~undo", "a~undo"}));
  world.check_replay();
}

TEST(GraphDriver, SaysWhatCouldNotBeTakenBack) {
  GraphWorld world(spec_of(kSaga));
  world.answer = [](EffectIntended const& intent) {
    bool const good = intent.tool == "do" || intent.path == "a~undo";
    return good ? says_ok(intent.args) : says_no("no");
  };
  world.end_wait = [](WaitOpened const&) { return WaitClosed{.end = WaitEnd::Cancelled}; };
  world.run();
  EXPECT_EQ(world.state.closing->outcome, RunOutcome::Failed);
  EXPECT_EQ(world.state.closing->error, "c: no; b could not be taken back: no");
}

TEST(GraphDriver, EndsAnApprovalInThreeWays) {
  constexpr std::string_view graph = R"({"nodes": [
    {"id": "ask", "type": "approval", "timeout": "1h", "on_reject": ["told"],
     "on_expiry": "continue"},
    {"id": "next", "type": "value", "after": ["ask"], "with": "${ask.decision}"},
    {"id": "told", "type": "value", "with": "rejected"}]})";
  auto const output = [&](WaitEnd end) {
    GraphWorld world(spec_of(graph));
    world.end_wait = [end](WaitOpened const&) { return WaitClosed{.end = end, .by = "user:a"}; };
    world.run();
    return canonical_json(world.state.closing->output);
  };
  EXPECT_EQ(output(WaitEnd::Approved), R"({"next":"approved"})");
  EXPECT_EQ(output(WaitEnd::Rejected), R"({"told":"rejected"})");
  EXPECT_EQ(output(WaitEnd::TimedOut), R"({"next":"expired"})");
}

TEST(GraphDriver, FailsWithWhoRejectedIt) {
  GraphWorld world(spec_of(R"({"nodes": [{"id": "ask", "type": "approval"}]})"));
  world.end_wait = [](WaitOpened const&) {
    return WaitClosed{.end = WaitEnd::Rejected, .by = "user:eve"};
  };
  world.run();
  EXPECT_EQ(world.state.closing->error, "ask: user:eve rejected it");
}

TEST(GraphDriver, GivesTheOutputOfARunBelow) {
  GraphWorld world(spec_of(R"({"output": "${sub.x}", "nodes": [{"id": "sub", "type": "workflow",
    "with": {"n": 1}, "graph": {"name": "inner", "nodes": [{"id": "v", "type": "value"}]}}]})"));
  world.end_wait = [](WaitOpened const& opening) {
    EXPECT_EQ(opening.kind, WaitKind::Child);
    return WaitClosed{.payload = parsed(R"({"outcome": "succeeded", "output": {"x": 9}})")};
  };
  world.run();
  EXPECT_EQ(canonical_json(world.state.closing->output), "9");
}

TEST(GraphDriver, EndsEverythingWhenItIsCancelled) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    GraphWorld world(spec_of(kSaga), seed);
    world.end_wait = [](WaitOpened const&) { return WaitClosed{.end = WaitEnd::Cancelled}; };
    world.settle_decisions();
    for (std::uint64_t i = 0; i < seed % 3 && world.one_answer(); ++i) world.settle_decisions();
    world.cancel();
    world.run();
    ASSERT_TRUE(world.state.closing.has_value());
    EXPECT_EQ(world.state.closing->outcome, RunOutcome::Cancelled);
    EXPECT_EQ(world.state.closing->error, "enough");
  }
}

TEST(GraphDriver, TellsAHistoryThatIsOfAnotherGraph) {
  GraphWorld world(spec_of(kDiamond, R"({"n": 1})"));
  world.settle_decisions();
  ASSERT_TRUE(world.one_answer());
  auto const diverged = [&](std::string_view graph) {
    auto const decisions = GraphDriver(or_throw(parse_graph(parsed(graph)))).decide(world.state);
    bool const is_diverged =
        decisions.size() == 1 && std::holds_alternative<Diverged>(decisions[0]);
    return is_diverged ? std::get<Diverged>(decisions[0]).message : std::string();
  };
  EXPECT_NE(diverged(R"({"nodes": [{"id": "x", "type": "tool", "tool": "t"}]})")
                .find("has a step \"a\" (tool), which the graph does not have"),
            std::string::npos);
  EXPECT_NE(diverged(R"({"nodes": [{"id": "a", "type": "tool", "tool": "other"}]})")
                .find("the step \"a\" was recorded as tool with input"),
            std::string::npos);
}

TEST(GraphDriver, FailsANodeWhoseReferenceLeadsNowhere) {
  GraphWorld world(spec_of(R"({"nodes": [{"id": "a", "type": "value", "with": {"x": 1}},
    {"id": "b", "type": "tool", "tool": "t", "after": ["a"], "with": "${a.y}"}]})"));
  world.run();
  EXPECT_EQ(world.state.closing->error, "b: ${a.y}: a has no member \"y\" (it has x)");
  EXPECT_TRUE(world.calls.empty());
}

/// A graph of chance: each node may wait for any before it.
json::value random_graph(Chance& chance) {
  json::array nodes;
  std::size_t const count = 1 + chance.below(12);
  for (std::size_t i = 0; i < count; ++i) {
    json::object node{{"id", "n" + std::to_string(i)}};
    json::array after;
    for (std::size_t j = 0; j < i; ++j)
      if (chance.one_in(3)) after.push_back(json::string("n" + std::to_string(j)));
    if (!after.empty()) node["after"] = after;
    if (chance.one_in(5)) node["when"] = chance.one_in(2);
    switch (chance.below(5)) {
      case 0:
        node["type"] = "value";
        node["with"] = after.empty() ? json::value(i)
                                     : json::value("${" + std::string(after[0].get_string()) + "}");
        break;
      case 1:
        node["type"] = "wait";
        node["with"] = json::object{{"for", "1s"}};
        break;
      case 2:
        node["type"] = "approval";
        node["on_reject"] = chance.one_in(2) ? "continue" : "fail";
        break;
      default:
        node["type"] = "tool";
        node["tool"] = "t";
        node["policy"] = "read";
        node["with"] = json::object{{"i", i}};
        node["retry"] = json::object{{"attempts", 1 + chance.below(3)}};
        if (chance.one_in(2)) node["compensate"] = json::object{{"tool", "u"}};
    }
    nodes.push_back(std::move(node));
  }
  return json::object{{"nodes", std::move(nodes)}};
}

/// The answer depends on the place and the turn alone, so that only the order differs.
EffectSettled answer_of_place(std::uint64_t luck, EffectIntended const& intent) {
  Chance chance(luck ^ std::hash<std::string>()(intent.path) ^ intent.turn);
  if (chance.one_in(4)) return says_no("later", true);
  return chance.one_in(12) ? says_no("no") : says_ok(intent.args);
}

TEST(GraphDriver, EndsEveryGraphOfChanceTheSameInAnyOrder) {
  std::set<RunOutcome> seen;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    Chance chance(seed);
    RunSpec spec;
    spec.graph = random_graph(chance);
    std::string output;
    for (std::uint64_t order = 1; order <= 4; ++order) {
      GraphWorld world(spec, seed * 100 + order);
      world.restart_one_in = order == 1 ? 0 : 4;
      world.answer = [&](EffectIntended const& intent) { return answer_of_place(seed, intent); };
      world.end_wait = [&](WaitOpened const& opening) {
        bool const asks = opening.kind == WaitKind::Human;
        return WaitClosed{.end = asks && seed % 7 == 0 ? WaitEnd::Rejected : WaitEnd::Answered};
      };
      world.run();
      ASSERT_TRUE(world.state.closing.has_value()) << "seed " << seed;
      seen.insert(world.state.closing->outcome);
      if (order == 1) world.check_replay();
      if (world.state.closing->outcome != RunOutcome::Succeeded) continue;
      std::string const now = canonical_json(world.state.closing->output);
      EXPECT_TRUE(output.empty() || output == now) << "seed " << seed << ": " << now;
      output = now;
    }
  }
  EXPECT_EQ(seen.size(), 3U) << "succeeded, failed and compensated were all seen";
}

}  // namespace
}  // namespace aether::jobs
