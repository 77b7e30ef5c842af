// SPDX-License-Identifier: Apache-2.0
// Each fault point of the engine fails once, and nothing is lost or done twice by that.
#include <algorithm>
#include <array>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/fault.h"
#include "jobs/engine_sweep.h"

namespace aether::jobs {
namespace {

using testing::expect_sound;
using testing::finish;
using testing::kEverything;
using testing::Rig;
using testing::Store;

/// What is not passed here, each with the reason.
constexpr std::array<std::string_view, 6> kNotHere{
    "jobs.start-ready",  // a start that fails is an Aether that does not start
    "jobs.start-due",    // the same
    "jobs.start-wake",   // the same
    "jobs.renew",        // no clock is turned by half of a lease
    "jobs.reload",       // nobody else appends
    "jobs.schedule",     // the daemon's
};

class EngineFault : public ::testing::Test {
 protected:
  void TearDown() override { EXPECT_TRUE(fault::configure("")); }
};

/// Asks until it is not refused: what failed once is asked for again.
template <class Ask>
auto insist(Ask ask) {
  auto done = ask();
  for (int again = 0; !done && again < 5; ++again) done = ask();
  return or_throw(std::move(done));
}

/// Two runs whose calls were under way when their process died.
std::array<RunId, 2> leave_cut_runs(Rig& rig, Store& store) {
  rig.end();
  testing::MortalJournal mortal(*store.journal, 1000, testing::MortalJournal::Dies::Before,
                                rig.world.bell);
  rig.begin(&mortal);
  std::array<RunId, 2> runs;
  for (std::size_t at = 0; at < runs.size(); ++at) {
    std::string const policy = at == 0 ? "once" : "lookup";
    std::string const name = "cut-" + policy;
    rig.world.hang(name);
    runs.at(at) =
        rig.submit(fmt::format(R"([{{"call": "count", "path": "a", "args": {{"name": "{}"}},
                          "policy": "{}"}}])",
                               name, policy));
    EXPECT_TRUE(rig.eventually([&] { return rig.world.count(name) == 1; }));
  }
  mortal.kill();
  rig.end();
  return runs;
}

/// What users do to runs, each of it once.
void use_everything(Rig& rig) {
  RunId const run = insist([&] { return rig.try_submit(Rig::spec_of(kEverything), "key"); }).run;
  insist([&] { return rig.signal(run, "early", "signal"); });
  insist([&] { return rig.control(run, Control::Pause); });
  insist([&] { return rig.control(run, Control::Resume); });
  EXPECT_TRUE(finish(rig, run, [] { return false; }));
  EXPECT_EQ(rig.status(run), RunStatus::Completed);
  RunId const fork = insist([&] { return rig.fork(run, "last"); });
  EXPECT_TRUE(finish(rig, fork, [] { return false; }));
  rig->note("test", {.action = "swap", .target = "web", .decision = "done", .detail = {}});

  rig.world.hang("cut");
  RunId const cut = insist([&] {
                      return rig.try_submit(Rig::spec_of(R"([{"call": "count", "path": "a",
                                            "args": {"name": "cut"}}])"),
                                            "cut");
                    }).run;
  EXPECT_TRUE(rig.eventually([&] {
    RunStatus const status = rig.status(cut);
    return rig.world.count("cut") == 1 || status == RunStatus::Parked;
  }));
  insist([&] { return rig.control(cut, Control::Cancel); });
  EXPECT_TRUE(rig.becomes(cut, RunStatus::Cancelled));
}

TEST_F(EngineFault, LosesNothingAndDoesNothingTwiceWhicheverPointFails) {
  std::set<std::string_view> passed;
  for (fault::PointInfo const& info : fault::points()) {
    if (!info.text.starts_with("jobs.") || std::ranges::count(kNotHere, info.text) > 0) continue;
    auto const point = static_cast<fault::Point>(&info - fault::points().data());
    for (int time = 1; time <= 3; ++time) {
      SCOPED_TRACE(fmt::format("{}:{}:eio", info.text, time));
      Store store(false);
      Rig rig({.retry = std::chrono::milliseconds(1)}, store.journal.get());
      rig.world.lookup_answer = {.outcome = EffectOutcome::Ok, .result = "seen", .error = {}};
      auto const cut = leave_cut_runs(rig, store);
      ASSERT_TRUE(fault::configure(fmt::format("{}:{}:eio", info.text, time)));
      rig.begin();
      for (RunId const& run : cut) {
        EXPECT_TRUE(finish(rig, run, [] { return false; }));
        EXPECT_EQ(rig.status(run), RunStatus::Completed);
      }
      use_everything(rig);
      rig.end();
      if (fault::hits(point) > 0) passed.insert(info.text);
      ASSERT_TRUE(fault::configure(""));
      for (char const* name : {"once", "inner", "looked", "cut-once", "cut-lookup"})
        EXPECT_EQ(rig.world.count(name), 1) << name;
      EXPECT_EQ(rig.world.count("last"), 2) << "once in the run, once in its fork";
      EXPECT_LE(rig.world.count("cut"), 1);
      expect_sound(*store.journal);
      ASSERT_FALSE(HasFailure());
    }
  }
  for (fault::PointInfo const& info : fault::points()) {
    bool const is_here =
        info.text.starts_with("jobs.") && std::ranges::count(kNotHere, info.text) == 0;
    EXPECT_EQ(passed.contains(info.text), is_here) << info.text;
  }
}

}  // namespace
}  // namespace aether::jobs
