// SPDX-License-Identifier: Apache-2.0
// What SQLite's file brings with it: locks, versions, full disks, and disks that fail.
#include "journal/sqlite/sqlite_journal.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <memory>
#include <sstream>

#include <gtest/gtest.h>

#include "base/fault.h"
#include "journal/fsck.h"
#include "journal/limits.h"
#include "journal/sqlite/database.h"
#include "journal/sqlite/recording_vfs.h"
#include "journal/testing.h"
#include "os/temp_dir.h"

namespace aether::journal {
namespace {

using testing::all_events;
using testing::appended;
using testing::batch_of;
using testing::blob_of;
using testing::close_span;
using testing::open_span;
using testing::point;
using testing::RecordingVfs;
using testing::refused;
using testing::value_of;

class SqliteJournalTest : public ::testing::Test {
 protected:
  std::unique_ptr<Journal> open(std::string const& vfs = {}) {
    return value_of(open_sqlite_journal({.path = path_, .vfs = vfs}));
  }
  ErrorCode fault_of_opening() {
    auto const journal = open_sqlite_journal({.path = path_});
    return journal ? ErrorCode::Internal : journal.error().code();
  }
  void change(std::string const& sql) {
    Database database = *Database::open(path_, Database::Access::Write, "");
    Status const done = database.run(sql);
    ASSERT_TRUE(done) << done.error().describe();
  }
  std::string bytes_of_files() {
    std::ostringstream all;
    for (char const* end : {"", "-wal"}) {
      std::ifstream file(path_ + end, std::ios::binary);
      if (file.good()) all << file.rdbuf();
    }
    return all.str();
  }

  os::TempDir folder_ = value_of(os::TempDir::create("journal-sqlite"));
  std::string path_ = folder_.file("store.db");
};
using SqliteJournalDeathTest = SqliteJournalTest;

TEST_F(SqliteJournalTest, ASecondOpenerIsRefusedWithTheHoldersPid) {
  std::unique_ptr<Journal> first = open();
  auto const second = open_sqlite_journal({.path = path_});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::StoreInUse);
  EXPECT_NE(second.error().message().find("process " + std::to_string(::getpid())),
            std::string::npos)
      << second.error().message();
  first.reset();
  EXPECT_TRUE(open());
}

TEST_F(SqliteJournalTest, AStoreHasOneLockByWhateverNameItIsOpened) {
  std::unique_ptr<Journal> const first = open();
  std::string const link = folder_.file("link.db");
  ASSERT_EQ(::symlink(path_.c_str(), link.c_str()), 0);
  std::string const folder_link = folder_.file("folder");
  ASSERT_EQ(::symlink(folder_.path().c_str(), folder_link.c_str()), 0);
  for (std::string const& name : {link, folder_link + "/store.db"}) {
    auto const second = open_sqlite_journal({.path = name});
    ASSERT_FALSE(second) << name;
    EXPECT_EQ(second.error().code(), ErrorCode::StoreInUse) << name;
  }
}

TEST_F(SqliteJournalTest, AStoreIsOpenedThroughAFolderThatIsALink) {
  std::string const folder_link = folder_.file("folder");
  ASSERT_EQ(::symlink(folder_.path().c_str(), folder_link.c_str()), 0);
  std::unique_ptr<Journal> const writer =
      value_of(open_sqlite_journal({.path = folder_link + "/store.db"}));
  appended(*writer, batch_of({point("a")}));
  std::unique_ptr<Journal> const reader =
      value_of(open_sqlite_reader({.path = folder_link + "/store.db"}));
  EXPECT_EQ(all_events(*reader).size(), 1U);
}

TEST_F(SqliteJournalTest, FilesAreTheirOwnersOnly) {
  std::unique_ptr<Journal> const journal = open();
  appended(*journal, batch_of({point("a")}));
  for (char const* end : {"", "-wal", "-shm", ".lock"}) {
    struct stat status{};
    ASSERT_EQ(::stat((path_ + end).c_str(), &status), 0) << end;
    EXPECT_EQ(status.st_mode & 0777U, 0600U) << end;
  }
}

TEST_F(SqliteJournalTest, AStoreThatIsClosedIsOneFile) {
  std::unique_ptr<Journal> journal = open();
  appended(*journal, batch_of({point("a")}));
  journal.reset();
  EXPECT_NE(::access((path_ + "-wal").c_str(), F_OK), 0);
  EXPECT_EQ(all_events(*open()).size(), 1U);
}

TEST_F(SqliteJournalTest, AStoreOfALaterReleaseIsRefused) {
  open();
  change("PRAGMA user_version=2");
  EXPECT_EQ(fault_of_opening(), ErrorCode::StoreVersion);
}

TEST_F(SqliteJournalTest, AFileOfSomebodyElseIsRefusedAndLeftAlone) {
  change("CREATE TABLE mine(x)");
  EXPECT_EQ(fault_of_opening(), ErrorCode::StoreDamaged);
  std::ofstream(path_) << "Dear diary, this is no database at all, and it is longer than a header "
                          "of one hundred bytes.";
  EXPECT_EQ(fault_of_opening(), ErrorCode::StoreDamaged);
  EXPECT_EQ(bytes_of_files().substr(0, 10), "Dear diary");
}

TEST_F(SqliteJournalTest, AFolderThatIsNotThereIsTold) {
  path_ = folder_.file("missing/store.db");
  EXPECT_EQ(fault_of_opening(), ErrorCode::StoreUnavailable);
}

TEST_F(SqliteJournalTest, AReaderSeesWhatIsDurableAndAppendsNothing) {
  std::unique_ptr<Journal> const writer = open();
  appended(*writer, batch_of({point("a"), point("b")}));
  std::unique_ptr<Journal> const reader = value_of(open_sqlite_reader({.path = path_}));
  ASSERT_TRUE(reader);
  EXPECT_EQ(all_events(*reader).size(), 2U);
  EXPECT_EQ(value_of(reader->tree_head()), value_of(writer->tree_head()));
  EXPECT_TRUE(value_of(fsck(*reader, "")).findings.empty());
  Result<AppendOutcome> const outcome = append_now(*reader, batch_of({point("a")}));
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code(), ErrorCode::StoreInUse);
}

TEST_F(SqliteJournalTest, AReaderSeesOneMomentHoweverMuchIsAppended) {
  std::unique_ptr<Journal> const writer = open();
  appended(*writer, batch_of({point("a"), point("b")}));
  std::unique_ptr<Journal> const reader = value_of(open_sqlite_reader({.path = path_}));
  appended(*writer, batch_of({point("a"), point("c")}));
  EXPECT_EQ(all_events(*reader).size(), 2U);
  EXPECT_EQ(value_of(reader->stream("a")).last.value, 1U);
  EXPECT_TRUE(value_of(fsck(*reader, "")).findings.empty());
  EXPECT_EQ(all_events(*writer).size(), 4U);
}

TEST_F(SqliteJournalTest, WhatWaitsTogetherIsSyncedTogether) {
  RecordingVfs vfs("recording-group");
  std::unique_ptr<Journal> journal = open(vfs.name());
  std::promise<void> first_syncs;
  std::promise<void> go_on;
  std::shared_future<void> const gone_on = go_on.get_future();
  int left = 1;
  vfs.before_sync = [&] {
    if (left-- == 1) first_syncs.set_value();
    gone_on.wait();
  };
  int const before = vfs.syncs;
  std::promise<void> all_answered;
  constexpr int kCount = 200;
  int answers = 0;  // the writer's thread only
  auto const append = [&] {
    journal->append(batch_of({point("a")}), [&](Result<AppendOutcome> const& outcome) {
      EXPECT_TRUE(outcome && *outcome);
      if (++answers == kCount) all_answered.set_value();
    });
  };
  append();
  first_syncs.get_future().wait();
  for (int i = 1; i < kCount; ++i) append();
  go_on.set_value();
  all_answered.get_future().wait();
  EXPECT_LE(vfs.syncs - before, 2);
  journal.reset();  // syncs once more, while what before_sync uses is still there
}

TEST_F(SqliteJournalTest, ALoneAppendCostsOneSync) {
  RecordingVfs vfs("recording-lone");
  std::unique_ptr<Journal> const journal = open(vfs.name());
  appended(*journal, batch_of({point("a")}));
  int const before = vfs.syncs;
  for (int i = 0; i < 10; ++i) appended(*journal, batch_of({point("a"), point("b")}));
  EXPECT_EQ(vfs.syncs - before, 10);
}

TEST_F(SqliteJournalTest, MoreThanMayWaitIsRefusedAndTheRestIsDone) {
  RecordingVfs vfs("recording-queue");
  std::unique_ptr<Journal> journal = open(vfs.name());
  std::promise<void> go_on;
  std::shared_future<void> const gone_on = go_on.get_future();
  vfs.before_sync = [&] { gone_on.wait(); };
  std::atomic<std::size_t> done = 0;
  std::atomic<std::size_t> refused_here = 0;
  std::size_t appends = 0;
  for (; refused_here == 0 && appends < 3 * kQueuedBatchesMax; ++appends) {
    journal->append(batch_of({point("a")}), [&](Result<AppendOutcome> const& outcome) {
      if (outcome) ++done;
      if (!outcome && outcome.error().code() == ErrorCode::LimitReached) ++refused_here;
    });
  }
  EXPECT_EQ(refused_here, 1U);
  go_on.set_value();
  journal.reset();
  EXPECT_EQ(done, appends - 1);
}

TEST_F(SqliteJournalTest, AFullDiskRefusesAndStaysReadable) {
  RecordingVfs vfs("recording-full");
  std::unique_ptr<Journal> const journal = open(vfs.name());
  appended(*journal, batch_of({open_span("a", "s")}));
  vfs.room = 0;
  for (int i = 0; i < 3; ++i) {
    Result<AppendOutcome> const outcome = append_now(*journal, batch_of({close_span("a", "s")}));
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().code(), ErrorCode::StoreFull) << outcome.error().describe();
    EXPECT_EQ(all_events(*journal).size(), 1U);
    EXPECT_EQ(value_of(journal->tree_head()).size, 1U);
  }
  vfs.room = std::int64_t{1} << 40;
  EXPECT_EQ(appended(*journal, batch_of({close_span("a", "s")})), Position{2});
  EXPECT_TRUE(value_of(fsck(*journal, "")).findings.empty());
}

/// Appends once; ends the process with 3 if that is answered.
[[noreturn]] void append_and_wait(Journal& journal) {
  journal.append(batch_of({point("a")}), [](Result<AppendOutcome> const&) { ::_exit(3); });
  while (true) ::pause();
}

TEST_F(SqliteJournalDeathTest, AFailedSyncEndsTheProcessAndNothingIsAcknowledged) {
  EXPECT_EXIT(
      {
        RecordingVfs vfs("recording-eio");
        std::unique_ptr<Journal> const journal = open(vfs.name());
        vfs.sync_fails = true;
        append_and_wait(*journal);
      },
      ::testing::ExitedWithCode(1), "the journal could not be written");
  EXPECT_TRUE(open());
}

TEST_F(SqliteJournalDeathTest, EveryFaultPointOfAnAppendEndsTheProcessBeforeTheAnswer) {
  for (char const* point : {"journal.begin", "journal.commit", "journal.answer"}) {
    EXPECT_EXIT(
        {
          std::unique_ptr<Journal> const journal = open();
          if (!fault::configure(std::string(point) + ":1:eio")) ::_exit(4);
          append_and_wait(*journal);
        },
        ::testing::ExitedWithCode(1), "the journal could not be written")
        << point;
    std::unique_ptr<Journal> const journal = open();
    EXPECT_TRUE(value_of(fsck(*journal, "")).findings.empty());
  }
  // The last of them came after the commit: what nobody was told may be there.
  EXPECT_EQ(all_events(*open()).size(), 1U);
}

TEST_F(SqliteJournalDeathTest, AFaultWhileTheLogIsCopiedEndsTheProcessAndLosesNothing) {
  EXPECT_EXIT(
      {
        std::unique_ptr<Journal> journal = open();
        appended(*journal, batch_of({testing::point("a")}));
        if (!fault::configure("journal.checkpoint:1:eio")) ::_exit(4);
        journal.reset();
        ::_exit(3);
      },
      ::testing::ExitedWithCode(1), "the journal could not be written");
  EXPECT_EQ(all_events(*open()).size(), 1U);
}

TEST_F(SqliteJournalTest, ErasedBytesAreGoneFromTheFiles) {
  std::unique_ptr<Journal> journal = open();
  Blob const blob = blob_of("the patient's name is Ida");
  Batch batch = batch_of({point("a")});
  batch.events[0].blobs = {blob.hash};
  batch.blobs = {blob};
  appended(*journal, batch);
  EXPECT_NE(bytes_of_files().find("Ida"), std::string::npos);
  Batch erase;
  erase.blobs_erased = {blob.hash};
  appended(*journal, erase);
  EXPECT_EQ(bytes_of_files().find("Ida"), std::string::npos);
  EXPECT_EQ(bytes_of_files().find(blob.salt), std::string::npos);
}

TEST_F(SqliteJournalTest, ForgetsSpansBeyondItsLimitAndStillKnowsThem) {
  std::unique_ptr<Journal> const journal = open();
  std::size_t const streams = kRememberedSpansMax / kBatchEventsMax + 2;
  for (std::size_t at = 0; at < streams; ++at) {
    std::vector<NewEvent> events;
    for (std::size_t i = 0; i < kBatchEventsMax; ++i) {
      events.push_back(open_span("run" + std::to_string(at), "s" + std::to_string(i)));
    }
    appended(*journal, batch_of(std::move(events)));
  }
  EXPECT_EQ(refused(*journal, batch_of({open_span("run0", "s7")})).current, 8U);
  appended(*journal, batch_of({close_span("run0", "s7")}));
  EXPECT_EQ(refused(*journal, batch_of({close_span("run0", "s7")})).why,
            Refusal::Why::SpanClosedOnce);
}

}  // namespace
}  // namespace aether::journal
