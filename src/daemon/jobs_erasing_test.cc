// SPDX-License-Identifier: Apache-2.0
#include "daemon/jobs_erasing.h"

#include <memory>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "jobs/run_event_codec.h"
#include "journal/memory/memory_journal.h"

namespace aether::daemon {
namespace {

jobs::RunId const kErasedRun{"0193b5c2-0000-7000-8000-000000000002"};

class ErasingTest : public testing::Test {
 protected:
  /// @param inline_bytes_max Of a value; 0: each becomes a blob.
  void record(jobs::RunEventBody body, std::size_t inline_bytes_max = 0) {
    jobs::SaltSource const salts([this] { return std::string(16, static_cast<char>(++salted_)); },
                                 inline_bytes_max);
    journal::Batch batch;
    jobs::RunEvent const event{
        .at = WallTime(std::chrono::hours(1)), .actor = {}, .body = std::move(body)};
    ASSERT_TRUE(
        jobs::append_event(batch, {.stream = kErasedRun.text, .space = "default"}, event, salts));
    auto const appended = journal::append_now(*journal_, std::move(batch));
    ASSERT_TRUE(appended && *appended);
  }
  jobs::RunOpened opening() {
    jobs::RunOpened opened;
    opened.spec.input = boost::json::object{{"name", "Erika"}};
    return opened;
  }
  boost::json::value input() {
    return jobs::load_run(*journal_, kErasedRun).value().opening.spec.input;
  }

  std::unique_ptr<journal::Journal> journal_ = journal::open_memory_journal();
  int salted_ = 0;
};

TEST_F(ErasingTest, TakesAwayTheValuesOfARunThatHasEndedAndSaysHowManyThereWere) {
  record(opening());
  auto const early = erase_values(*journal_, kErasedRun);
  ASSERT_FALSE(early) << "it may need its values";
  EXPECT_EQ(early.error().code(), ErrorCode::Conflict);
  EXPECT_EQ(input(), opening().spec.input);
  record(jobs::RunClosed{.outcome = jobs::RunOutcome::Succeeded, .output = "paid", .error = {}});
  auto const erased = erase_values(*journal_, kErasedRun);
  ASSERT_TRUE(erased) << erased.error().describe();
  EXPECT_EQ(erased->erased, 2U);
  EXPECT_EQ(erased->gone, 0U);
  EXPECT_TRUE(input().as_object().contains("$erased"));
  EXPECT_EQ(erase_values(*journal_, kErasedRun).value().gone, 2U);
  auto const stay = check_values_stay(*journal_, kErasedRun);
  ASSERT_FALSE(stay) << "nothing can be decided again";
  EXPECT_EQ(stay.error().code(), ErrorCode::Conflict);
}

TEST_F(ErasingTest, FindsNothingWhereValuesStandInTheEvents) {
  record(opening(), jobs::kInlineBytesMax);
  record(jobs::RunClosed{.outcome = jobs::RunOutcome::Failed, .output = {}, .error = "no"},
         jobs::kInlineBytesMax);
  auto const erased = erase_values(*journal_, kErasedRun);
  ASSERT_TRUE(erased);
  EXPECT_EQ(erased->erased + erased->gone, 0U);
  EXPECT_TRUE(check_values_stay(*journal_, kErasedRun));
  EXPECT_EQ(input(), opening().spec.input);
}

TEST_F(ErasingTest, KnowsNoRunThatIsNotThere) {
  auto const erased = erase_values(*journal_, kErasedRun);
  ASSERT_FALSE(erased);
  EXPECT_EQ(erased.error().code(), ErrorCode::NotFound);
}

}  // namespace
}  // namespace aether::daemon
