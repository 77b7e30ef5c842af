// SPDX-License-Identifier: Apache-2.0
#include "journal/postgres/claims.h"

#include <memory>
#include <mutex>
#include <set>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "journal/postgres/postgres_journal.h"
#include "journal/postgres/testing_server.h"
#include "journal/testing.h"

namespace aether::journal {
namespace {

using os::testing::wait_until;
using testing::append_to;
using testing::PostgresServer;
using testing::value_of;

/// One process on the store, and what it hears.
class Member {
 public:
  Member(std::string const& url, Duration term)
      : journal_(value_of(open_postgres_journal({.url = url}))) {
    Sharing::Ear ear;
    ear.claimed = [this](std::vector<Record> rows) {
      std::lock_guard const lock(mutex_);
      for (Record const& row : rows) claimed_.insert(row.key);
      seen_ += rows.size();
    };
    ear.heard = [this](std::string name) {
      std::lock_guard const lock(mutex_);
      heard_.insert(std::move(name));
    };
    ear.lost = [this](std::vector<std::string> const& keys) {
      std::lock_guard const lock(mutex_);
      lost_.insert(keys.begin(), keys.end());
    };
    ear.keep = [this] {
      std::lock_guard const lock(mutex_);
      ++kept_;
    };
    sharing().begin("ready", term, std::move(ear));
  }
  ~Member() { sharing().end(); }

  Sharing& sharing() { return *journal_->sharing(); }
  Journal& journal() { return *journal_; }
  void want(std::size_t count) { want({.from = "", .to = "~", .count = count}); }
  void want(Sharing::Wanted const& wanted) {
    std::lock_guard const lock(mutex_);
    sharing().want({wanted}, seen_);
  }
  std::set<std::string> claimed() {
    std::lock_guard const lock(mutex_);
    return claimed_;
  }
  bool has_heard(std::string const& name) {
    std::lock_guard const lock(mutex_);
    return heard_.contains(name);
  }
  bool has_lost(std::string const& key) {
    std::lock_guard const lock(mutex_);
    return lost_.contains(key);
  }
  int kept() {
    std::lock_guard const lock(mutex_);
    return kept_;
  }

 private:
  std::mutex mutex_;
  std::set<std::string> claimed_, heard_, lost_;
  std::uint64_t seen_ = 0;
  int kept_ = 0;
  std::unique_ptr<Journal> journal_;
};

class PostgresClaims : public ::testing::Test {
 protected:
  static constexpr Duration kTerm = std::chrono::seconds(30);

  void SetUp() override {
    if (PostgresServer::get() == nullptr) GTEST_SKIP() << testing::kNoServer;
    static int count = 0;
    url_ = PostgresServer::get()->url(fmt::format("claims{}", ++count));
  }
  static void make_ready(Journal& journal, std::vector<std::string> const& keys) {
    Batch batch;
    for (std::string const& key : keys) {
      batch.records.push_back({.view = "ready", .key = key, .value = "{}"});
      batch.told.push_back(key);
    }
    append_to(journal, std::move(batch));
  }
  void change(std::string const& sql) {
    postgres::Connection connection = value_of(postgres::Connection::open(url_, "tests"));
    Status const done = connection.run(sql);
    ASSERT_TRUE(done) << done.error().describe();
  }

  std::string url_;
};

TEST_F(PostgresClaims, ARowIsClaimedByOneProcessAndByTheOtherWhenItIsGivenBack) {
  Member one(url_, kTerm);
  Member two(url_, kTerm);
  one.want(10);
  two.want(10);
  std::vector<std::string> keys;
  for (int i = 0; i < 12; ++i) keys.push_back(fmt::format("run{:02}", i));
  make_ready(one.journal(), keys);
  ASSERT_TRUE(wait_until([&] { return one.claimed().size() + two.claimed().size() == 12; }));
  for (std::string const& key : one.claimed()) EXPECT_FALSE(two.claimed().contains(key)) << key;
  std::string const given = *one.claimed().begin();
  one.want(0);
  two.want(20);
  one.sharing().release(given);
  EXPECT_TRUE(wait_until([&] { return two.claimed().contains(given); }));
}

TEST_F(PostgresClaims, NoMoreIsClaimedThanIsWanted) {
  Member one(url_, kTerm);
  make_ready(one.journal(), {"a", "b", "c"});
  one.want(2);
  ASSERT_TRUE(wait_until([&] { return one.claimed().size() == 2; }));
  Member two(url_, kTerm);
  two.want(5);
  ASSERT_TRUE(wait_until([&] { return two.claimed().size() == 1; }));
  EXPECT_EQ(one.claimed().size(), 2U);
}

TEST_F(PostgresClaims, RowsAreClaimedForWhomTheyAreMeant) {
  Member one(url_, kTerm);
  make_ready(one.journal(), {"a", "~clerk/b", "~cook/c"});
  one.want({.from = "~clerk/", .to = "~clerk0", .count = 5});
  ASSERT_TRUE(wait_until([&] { return one.claimed().contains("~clerk/b"); }));
  one.want(5);
  ASSERT_TRUE(wait_until([&] { return one.claimed().contains("a"); }));
  EXPECT_FALSE(one.claimed().contains("~cook/c"));
}

TEST_F(PostgresClaims, WhatADeadProcessHeldIsClaimedWhenItsTermIsOver) {
  Member one(url_, kTerm);
  make_ready(one.journal(), {"a"});
  // As a process leaves it that was killed.
  change("INSERT INTO aether.claim VALUES('a','dead',clock_timestamp()+interval '1 second')");
  one.want(1);
  EXPECT_TRUE(wait_until([&] { return one.claimed().contains("a"); }));
}

TEST_F(PostgresClaims, AProcessThatStoodStillHearsThatItsClaimIsAnothers) {
  Member one(url_, std::chrono::seconds(1));
  make_ready(one.journal(), {"a"});
  one.want(1);
  ASSERT_TRUE(wait_until([&] { return one.claimed().contains("a"); }));
  change(
      "UPDATE aether.claim SET holder='another',until=clock_timestamp()+interval '1 hour' "
      "WHERE key='a'");
  EXPECT_TRUE(wait_until([&] { return one.has_lost("a"); }));
}

TEST_F(PostgresClaims, WhatIsToldIsHeardByTheOthersOnly) {
  Member one(url_, kTerm);
  Member two(url_, kTerm);
  // The first thing that is heard is that anything may have been missed.
  ASSERT_TRUE(wait_until([&] { return one.has_heard("") && two.has_heard(""); }));
  make_ready(one.journal(), {"told"});
  ASSERT_TRUE(wait_until([&] { return two.has_heard("told"); }));
  EXPECT_FALSE(one.has_heard("told"));
}

TEST_F(PostgresClaims, OneProcessAtATimeKeepsAndAnotherFollowsIt) {
  auto one = std::make_unique<Member>(url_, kTerm);
  ASSERT_TRUE(wait_until([&] { return one->kept() > 0; }));
  Member two(url_, kTerm);
  ASSERT_TRUE(wait_until([&] { return one->kept() > 2; }));
  EXPECT_EQ(two.kept(), 0);
  one.reset();
  EXPECT_TRUE(wait_until([&] { return two.kept() > 0; }));
}

TEST_F(PostgresClaims, AServerThatWasAwayIsFoundAgain) {
  Member one(url_, kTerm);
  make_ready(one.journal(), {"a"});
  PostgresServer::get()->stop(SIGQUIT);
  PostgresServer::get()->start();
  one.want(1);
  EXPECT_TRUE(wait_until([&] { return one.claimed().contains("a"); }));
}

}  // namespace
}  // namespace aether::journal
