// SPDX-License-Identifier: Apache-2.0
#include "jobs/view_check.h"

#include <gtest/gtest.h>

#include "jobs/run_rows.h"
#include "jobs/testing_events.h"
#include "journal/memory/memory_journal.h"

namespace aether::jobs {
namespace {

using namespace testing;

/// A journal with two runs and the rows that they should have.
class ViewCheck : public ::testing::Test {
 protected:
  void SetUp() override {
    add_run(kRun, history({opened("parked"), step("a"), wait("a")}));
    add_run(kOtherRun, history({opened("done"), closed()}));
  }
  void add_run(RunId const& run, std::vector<RunEvent> const& events) {
    journal::Batch batch = batch_of_history(events, run);
    RunState state;
    state.id = run;
    for (RunEvent const& each : events) or_throw(fold(state, each));
    add_changes(run, nullptr, rows_of(state), batch.records);
    append(std::move(batch));
  }
  void change_row(std::string_view view, std::string key, std::optional<std::string> value) {
    journal::Batch batch;
    batch.records.push_back({std::string(view), std::move(key), std::move(value)});
    append(std::move(batch));
  }
  void append(journal::Batch batch) {
    ASSERT_TRUE(or_throw(journal::append_now(*journal_, std::move(batch))));
  }
  std::vector<std::string> findings() { return or_throw(check_views(*journal_)); }

  std::unique_ptr<journal::Journal> journal_ = journal::open_memory_journal();
};

TEST_F(ViewCheck, FindsNothingInRowsThatTheEventsGive) {
  EXPECT_EQ(findings(), std::vector<std::string>());
}

TEST_F(ViewCheck, TellsRowsThatAreMissingTooManyOrWrong) {
  change_row(kRunView, list_key(kRun), std::nullopt);
  change_row(kRunView, list_key(kOtherRun), "{}");
  change_row(kReadyView, kOtherRun.text, "{}");
  std::vector<std::string> const found = findings();
  ASSERT_EQ(found.size(), 3U);
  std::string all;
  for (std::string const& each : found) all += each + '\n';
  EXPECT_TRUE(all.contains("'" + list_key(kRun) + "' of the index 'run' is missing")) << all;
  EXPECT_TRUE(all.contains("'" + list_key(kOtherRun) + "' of the index 'run' is not what")) << all;
  EXPECT_TRUE(all.contains("of the index 'ready' is there, and no event says so")) << all;
}

TEST_F(ViewCheck, MakesTheRowsAgain) {
  change_row(kRunView, list_key(kRun), std::nullopt);
  change_row(kRunView, list_key(kOtherRun), "{}");
  change_row(kDueView, "0000000000001/" + kRun.text, "");
  ASSERT_FALSE(findings().empty());
  ASSERT_TRUE(rebuild_views(*journal_));
  EXPECT_EQ(findings(), std::vector<std::string>());
}

TEST_F(ViewCheck, LeavesARunOutWhoseEventsDoNotFold) {
  RunId const broken{"0193a6c1-7e4b-7d3c-9f00-2b6d1c5e8a49"};
  append(batch_of_history(history({step("a")}), broken));
  EXPECT_EQ(findings(), std::vector<std::string>());
}

}  // namespace
}  // namespace aether::jobs
