// SPDX-License-Identifier: Apache-2.0
#include "journal/await_append.h"

#include <memory>

#include "async/testing.h"
#include "journal/sqlite/sqlite_journal.h"
#include "journal/testing.h"
#include "os/temp_dir.h"

namespace aether::journal {
namespace {

CORO_TEST(AwaitAppend, GoesOnWhenItIsDurableAndThrowsFaults) {
  os::TempDir const folder = testing::value_of(os::TempDir::create("journal-await"));
  std::unique_ptr<Journal> const journal =
      testing::value_of(open_sqlite_journal({.path = folder.file("store.db")}));
  Batch first = testing::batch_of({testing::open_span("a", "s")});
  AppendOutcome const outcome = co_await append(*journal, first);
  EXPECT_EQ(outcome, (Appended{.first = Position{1}, .count = 1}));
  AppendOutcome const again = co_await append(*journal, first);
  EXPECT_FALSE(again);
  ErrorCode code = ErrorCode::Internal;
  try {
    Batch wrong = testing::batch_of({testing::point("")});
    co_await append(*journal, std::move(wrong));
  } catch (Error const& error) {
    code = error.code();
  }
  EXPECT_EQ(code, ErrorCode::RequestInvalid);
}

}  // namespace
}  // namespace aether::journal
