// SPDX-License-Identifier: Apache-2.0
// Every kind of damage is found, and where an event is meant, its position is told.
#include "journal/fsck.h"

#include <algorithm>
#include <fstream>
#include <memory>
#include <sstream>

#include <gtest/gtest.h>

#include "journal/signer.h"
#include "journal/sqlite/database.h"
#include "journal/sqlite/sqlite_journal.h"
#include "journal/testing.h"
#include "os/temp_dir.h"

namespace aether::journal {
namespace {

using testing::appended;
using testing::batch_of;
using testing::blob_of;
using testing::close_span;
using testing::open_span;
using testing::point;
using testing::value_of;

class FsckTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kEvents = 601;

  FsckTest() {
    std::unique_ptr<Journal> const journal = open();
    Batch first = batch_of({point("audit")});
    first.events[0].blobs = {kept_.hash, erased_.hash};
    first.events[0].keys = {"key"};
    first.blobs = {kept_, erased_};
    appended(*journal, first);
    Batch erase;
    erase.blobs_erased = {erased_.hash};
    appended(*journal, erase);
    for (int i = 0; i < 300; ++i) {
      std::string const span = "s" + std::to_string(i);
      appended(*journal, batch_of({open_span("run", span), close_span("run", span)}));
      if (i == 100) (void)value_of(sign_checkpoint(*journal, signer_));
    }
    (void)value_of(sign_checkpoint(*journal, signer_));
  }
  std::unique_ptr<Journal> open() { return value_of(open_sqlite_journal({.path = path_})); }
  void change(std::string const& sql) {
    Database database = *Database::open(path_, Database::Access::Write, "");
    Status const done = database.run(sql);
    ASSERT_TRUE(done) << done.error().describe();
  }
  /// The findings of the store as it is; one of the kind Storage if it cannot be opened at all.
  std::vector<Finding> findings() {
    Result<std::unique_ptr<Journal>> const journal = open_sqlite_reader({.path = path_});
    if (!journal) {
      EXPECT_EQ(journal.error().code(), ErrorCode::StoreDamaged) << journal.error().describe();
      return {{.kind = Finding::Kind::Storage, .position = {}, .what = journal.error().message()}};
    }
    return value_of(fsck(**journal, signer_.verifier().text())).findings;
  }
  static std::string listed(std::vector<Finding> const& findings) {
    std::string all;
    for (Finding const& each : findings) all += describe(each) + "\n";
    return all;
  }
  /// Makes the change, looks whether it is found, and undoes it.
  void expect_found(std::string const& sql, Finding::Kind kind, std::uint64_t position) {
    std::string const before = bytes();
    change(sql);
    std::vector<Finding> const found = findings();
    EXPECT_TRUE(std::ranges::any_of(
        found,
        [&](Finding const& each) { return each.kind == kind && each.position.value == position; }))
        << sql << "\nfound:\n"
        << listed(found);
    restore(before);
  }
  std::string bytes() {
    std::ostringstream all;
    all << std::ifstream(path_, std::ios::binary).rdbuf();
    return all.str();
  }
  void restore(std::string const& bytes) {
    std::remove((path_ + "-wal").c_str());
    std::remove((path_ + "-shm").c_str());
    std::ofstream(path_, std::ios::binary) << bytes;
  }

  os::TempDir folder_ = value_of(os::TempDir::create("journal-fsck"));
  std::string path_ = folder_.file("store.db");
  Blob kept_ = blob_of("kept");
  Blob erased_ = blob_of("erased");
  Signer signer_ = value_of(Signer::from_seed("here", std::string(32, 's')));
};

TEST_F(FsckTest, AWholeStoreIsClean) {
  std::unique_ptr<Journal> const journal = open();
  FsckReport const report = value_of(fsck(*journal, signer_.verifier().text()));
  EXPECT_TRUE(report.findings.empty()) << listed(report.findings);
  EXPECT_EQ(report.head.size, kEvents);
  EXPECT_EQ(report.head, value_of(journal->tree_head()));
  EXPECT_EQ(report.blobs, 2U);
  EXPECT_EQ(report.blobs_erased, 1U);
  EXPECT_EQ(report.checkpoints, 2U);
}

TEST_F(FsckTest, EveryChangedFieldOfAnEventIsFoundAtItsPosition) {
  using enum Finding::Kind;
  for (char const* change :
       {"sequence=sequence+1", "fence=fence+1", "at=at+1", "cause=1", "kind='x'", "mark=0",
        "span='s9999'", "actor='somebody'", "actor=NULL", "keys='k'", "body='[]'",
        "leaf=zeroblob(32)", "leaf=x'00'", "blobs=zeroblob(32)", "stream=1"}) {
    expect_found(std::string("UPDATE event SET ") + change + " WHERE position=500", EventChanged,
                 500);
  }
  expect_found("UPDATE event SET mark=9 WHERE position=500", Unreadable, 1);
  expect_found("UPDATE event SET blobs=x'00' WHERE position=500", Unreadable, 1);
}

TEST_F(FsckTest, BrokenLawsAreNamed) {
  using enum Finding::Kind;
  expect_found("DELETE FROM event WHERE position=300", Law, 301);
  expect_found("UPDATE event SET sequence=sequence+1 WHERE position=300", Law, 300);
  expect_found("UPDATE event SET fence=7 WHERE position=300", Law, 301);
  expect_found("UPDATE event SET mark=2 WHERE position=300", Law, 300);
  expect_found("UPDATE event SET span='s0', mark=1 WHERE position=300", Law, 300);
  expect_found("UPDATE event SET keys='key' WHERE position=300", Law, 300);
  expect_found("UPDATE event SET cause=300 WHERE position=300", Law, 300);
  expect_found("UPDATE event SET kind='' WHERE position=300", Law, 300);
}

TEST_F(FsckTest, ACutTailIsFoundByTheCheckpoints) {
  using enum Finding::Kind;
  expect_found("DELETE FROM event WHERE position>400", CheckpointBroken, 0);
  expect_found("DELETE FROM event WHERE position>400", StreamRowWrong, 400);
  // Whoever removes the traces as well still has to sign another checkpoint.
  expect_found(
      "DELETE FROM event WHERE position=601;"
      "UPDATE stream SET head=600,last=599,marks=599 WHERE name='run'",
      CheckpointBroken, 0);
}

TEST_F(FsckTest, WhatIsMadeFromTheEventsIsCompared) {
  using enum Finding::Kind;
  expect_found("UPDATE node SET hash=zeroblob(32) WHERE number=1", NodeWrong, 0);
  expect_found("DELETE FROM node WHERE number=1", NodeWrong, 0);
  expect_found("UPDATE node SET hash=zeroblob(32) WHERE number=1", TreeHeadWrong, 0);
  expect_found("UPDATE stream SET fence=3 WHERE name='run'", StreamRowWrong, kEvents);
  expect_found("INSERT INTO stream VALUES(99,'ghost',0,0,0,0)", StreamRowWrong, 0);
  expect_found("UPDATE taken SET position=2", KeyRowWrong, 1);
  expect_found("DELETE FROM taken", KeyRowWrong, 1);
}

TEST_F(FsckTest, BlobsAndCheckpointsAreLookedAt) {
  using enum Finding::Kind;
  expect_found("DELETE FROM blob WHERE content IS NOT NULL", BlobMissing, 1);
  expect_found("UPDATE blob SET content=x'00' WHERE content IS NOT NULL", BlobChanged, 1);
  expect_found("UPDATE blob SET salt=x'00' WHERE content IS NOT NULL", BlobChanged, 1);
  expect_found("UPDATE checkpoint SET note='x' WHERE id=1", CheckpointBroken, 0);
  Signer const thief = value_of(Signer::from_seed("here", std::string(32, 't')));
  std::string const note = value_of(thief.sign(checkpoint_text({.origin = "here", .head = {}})));
  expect_found("INSERT INTO checkpoint(note) VALUES('" + note + "')", CheckpointBroken, 0);
}

/// Flips bytes all over the file. Most of them are found by fsck or by opening; what is not found
/// must be where nothing is kept: then every answer is as before.
TEST_F(FsckTest, AFlippedByteIsFoundOrChangesNothing) {
  std::string const whole = bytes();
  std::vector<Event> const events = testing::all_events(*open());
  Chance chance(9);
  int found = 0;
  constexpr int kRounds = 150;
  for (int round = 0; round < kRounds; ++round) {
    std::string damaged = whole;
    std::size_t const at = chance.below(damaged.size());
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << chance.below(8)));
    restore(damaged);
    if (!findings().empty()) {
      ++found;
      continue;
    }
    std::unique_ptr<Journal> const journal = value_of(open_sqlite_reader({.path = path_}));
    ASSERT_TRUE(journal);
    EXPECT_EQ(testing::all_events(*journal), events) << "byte " << at;
    EXPECT_EQ(value_of(journal->blob(kept_.hash)), kept_) << "byte " << at;
  }
  EXPECT_GT(found, kRounds / 4);
}

}  // namespace
}  // namespace aether::journal
