// SPDX-License-Identifier: Apache-2.0
#include "daemon/counted_journal.h"

#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "jobs/run_event_codec.h"
#include "journal/memory/memory_journal.h"

namespace aether::daemon {
namespace {

constexpr std::string_view kRun = "0193b5c2-0000-7000-8000-000000000001";

jobs::RunEvent event_of(jobs::RunEventBody body) {
  return {.at = WallTime(std::chrono::hours(1)), .actor = {}, .body = std::move(body)};
}

TEST(CountedJournal, CountsWhatBecameDurableByItsOutcome) {
  SystemClock const clock;
  CountedJournal journal(journal::open_memory_journal(), clock);
  journal::Batch batch;
  jobs::SaltSource const salts = [] { return std::string(16, 's'); };
  jobs::EventTarget const target{.stream = kRun, .space = "default"};
  for (jobs::RunEventBody const& body :
       {jobs::RunEventBody(jobs::RunOpened{}), jobs::RunEventBody(jobs::StepOpened{.path = "a"}),
        jobs::RunEventBody(jobs::StepClosed{.path = "a",
                                            .outcome = jobs::StepOutcome::Failed,
                                            .error = R"(it said {"outcome":"committed"})"}),
        jobs::RunEventBody(jobs::RunClosed{.outcome = jobs::RunOutcome::Failed})}) {
    ASSERT_TRUE(jobs::append_event(batch, target, event_of(body), salts));
  }
  journal::Batch again = batch;
  auto const appended = journal::append_now(journal, std::move(batch));
  ASSERT_TRUE(appended && *appended);
  again.events.resize(1);
  auto const refused = journal::append_now(journal, std::move(again));
  ASSERT_TRUE(refused && !*refused) << "the span was opened before";
  api::JobCounts const counts = journal.counts();
  EXPECT_EQ(counts.events, 4U);
  EXPECT_EQ(counts.opened, 1U);
  EXPECT_EQ(counts.closed, (api::OutcomeCounts{{"failed", 1}}));
  EXPECT_EQ(counts.steps, (api::OutcomeCounts{{"failed", 1}}));
  EXPECT_EQ(counts.appends.count(), 1U);
  EXPECT_EQ(counts.failures, 0U);
}

}  // namespace
}  // namespace aether::daemon
