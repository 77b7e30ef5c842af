// SPDX-License-Identifier: Apache-2.0
// A run that meets everything, helped to its end through whatever happens to its engine, and what
// must hold of the journal afterwards. Tests only.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "jobs/engine_rig.h"
#include "jobs/run_laws.h"
#include "jobs/view_check.h"
#include "journal/fsck.h"
#include "journal/sqlite/sqlite_journal.h"
#include "os/temp_dir.h"

namespace aether::jobs::testing {

/// Each policy, a timer, a run below and a person. The names of calls are those of the nodes.
inline constexpr char const* kEverything = R"({"nodes": [
  {"id": "once", "type": "tool", "tool": "count", "with": {"name": "once"}},
  {"id": "keyed", "type": "tool", "tool": "count", "after": ["once"], "policy": "keyed",
   "with": {"name": "keyed"}},
  {"id": "beside", "type": "tool", "tool": "count", "after": ["once"], "policy": "read",
   "with": {"name": "beside"}},
  {"id": "pause", "type": "wait", "after": ["keyed", "beside"], "with": {"for": "1m"}},
  {"id": "below", "type": "workflow", "after": ["pause"], "graph": {"nodes": [
    {"id": "inner", "type": "tool", "tool": "count", "with": {"name": "inner"}}]}},
  {"id": "looked", "type": "tool", "tool": "count", "after": ["below"], "policy": "lookup",
   "with": {"name": "looked"}},
  {"id": "review", "type": "approval", "after": ["looked"], "with": {"message": "Good?"}},
  {"id": "last", "type": "tool", "tool": "count", "after": ["review"], "with": {"name": "last"}}
]})";

/// A journal that outlives the engines over it.
struct Store {
  explicit Store(bool is_sqlite) {
    if (!is_sqlite) {
      journal = journal::open_memory_journal();
      return;
    }
    folder.emplace(or_throw(os::TempDir::create("jobs-crash")));
    journal = or_throw(journal::open_sqlite_journal({.path = folder->file("store.db")}));
  }
  std::optional<os::TempDir> folder;
  std::unique_ptr<journal::Journal> journal;
};

/// What is open is asked of people: they say the truth, as the world knows it.
inline void help(Rig& rig, RunId const& run) {
  Result<RunState> const state = rig->show(run);
  if (!state) return;  // Its journal died just now.
  for (std::string const& path : state->open_waits) {
    WaitOpened const& opening = state->waits.find(path)->second.opening;
    if (opening.kind == WaitKind::Child) help(rig, RunId{opening.name});
    if (opening.kind == WaitKind::Timer) rig.turn_clock(std::chrono::minutes(2));
    if (opening.kind != WaitKind::Human) continue;
    if (opening.effect.empty()) {
      (void)rig.answer(run, WaitEnd::Approved, path);
      continue;
    }
    EffectIntended const& intent = state->effects.find(opening.effect)->second.intent;
    bool const happened = rig.world.count(std::string(intent.args.at("name").as_string())) > 0;
    (void)rig.resolve(run, happened ? Resolution::Happened : Resolution::NotHappened, "said");
  }
}

/// False when the journal died first.
inline bool finish(Rig& rig, RunId const& run, std::function<bool()> const& is_dead) {
  return rig.eventually([&] {
    if (is_dead()) return true;
    Result<RunState> const state = rig->show(run);
    if (!state) return false;
    if (state->closing) return true;
    if (state->status() == RunStatus::Parked) help(rig, run);
    return false;
  });
}

inline void expect_sound(journal::Journal& journal) {
  RunLaws laws;
  std::vector<RunFinding> findings;
  for (journal::Event const& event : or_throw(journal.read(journal::Position{1}, 10'000)))
    laws.take(event, findings);
  for (RunFinding const& finding : findings) ADD_FAILURE() << describe(finding);
  EXPECT_EQ(laws.counts().open_runs, 0U);
  for (std::string const& wrong : or_throw(check_views(journal))) ADD_FAILURE() << wrong;
  for (journal::Finding const& wrong : or_throw(journal::fsck(journal, "")).findings)
    ADD_FAILURE() << describe(wrong);
  EXPECT_TRUE(or_throw(journal.records("ready", "", "", 10)).empty());
  EXPECT_TRUE(or_throw(journal.records("due", "", "", 10)).empty());
  EXPECT_TRUE(or_throw(journal.records("wake", "", "", 10)).empty());
}

}  // namespace aether::jobs::testing
