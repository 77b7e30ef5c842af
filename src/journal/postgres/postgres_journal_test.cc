// SPDX-License-Identifier: Apache-2.0
// What PostgreSQL brings with it: other processes on the same store, connections that end in the
// middle, servers that die, and tables of other releases.
#include "journal/postgres/postgres_journal.h"

#include <atomic>
#include <future>
#include <memory>
#include <set>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/fault.h"
#include "journal/fsck.h"
#include "journal/postgres/connection.h"
#include "journal/postgres/schema.h"
#include "journal/postgres/tables.h"
#include "journal/postgres/testing_server.h"
#include "journal/testing.h"

namespace aether::journal {
namespace {

using testing::all_events;
using testing::append_to;
using testing::appended;
using testing::batch_of;
using testing::open_span;
using testing::point;
using testing::PostgresServer;
using testing::refused;
using testing::value_of;

class PostgresJournalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (PostgresServer::get() == nullptr) GTEST_SKIP() << testing::kNoServer;
    static int count = 0;
    url_ = PostgresServer::get()->url(fmt::format("journal{}", ++count));
  }
  void TearDown() override { (void)fault::configure(""); }

  std::unique_ptr<Journal> open() { return value_of(open_postgres_journal({.url = url_})); }
  void change(std::string const& sql) {
    postgres::Connection connection = value_of(postgres::Connection::open(url_, "tests"));
    Status const done = connection.run(sql);
    ASSERT_TRUE(done) << done.error().describe();
  }
  ErrorCode fault_of_opening() {
    auto const journal = open_postgres_journal({.url = url_});
    return journal ? ErrorCode::Internal : journal.error().code();
  }
  static void expect_whole(Journal& journal, std::size_t events) {
    FsckReport const report = value_of(fsck(journal, ""));
    for (Finding const& finding : report.findings) ADD_FAILURE() << describe(finding);
    EXPECT_EQ(report.head.size, events);
  }

  std::string url_;
};

TEST_F(PostgresJournalTest, ManyOpenANewStoreAtOnceAndOneMakesIt) {
  std::vector<std::future<bool>> opened;
  for (int i = 0; i < 6; ++i) {
    opened.push_back(std::async(std::launch::async, [this] {
      auto const journal = open_postgres_journal({.url = url_});
      if (!journal) ADD_FAILURE() << journal.error().describe();
      return journal && append_to(**journal, batch_of({point("a")})).has_value();
    }));
  }
  for (std::future<bool>& each : opened) EXPECT_TRUE(each.get());
  expect_whole(*open(), 6);
}

TEST_F(PostgresJournalTest, TablesOfALaterReleaseAreRefused) {
  open();
  change(
      fmt::format("INSERT INTO aether.version(number) VALUES({})", postgres::kSchemaVersion + 1));
  EXPECT_EQ(fault_of_opening(), ErrorCode::StoreVersion);
  auto const reader = open_postgres_reader({.url = url_});
  ASSERT_FALSE(reader);
  EXPECT_EQ(reader.error().code(), ErrorCode::StoreVersion);
}

TEST_F(PostgresJournalTest, TablesOfAnEarlierReleaseAreBroughtUpWholeOrNotAtAll) {
  appended(*open(), batch_of({point("a")}));
  postgres::Connection later = value_of(postgres::Connection::open(url_, "tests"));
  auto const version = [&later] {
    return value_of(later.ask("SELECT max(number)::bigint FROM aether.version")).number(0, 0);
  };
  std::vector<postgres::Migration> migrations(postgres::all_migrations().begin(),
                                              postgres::all_migrations().end());
  migrations.push_back({.tables = "ALTER TABLE aether.event ADD COLUMN note text",
                        .functions = "CREATE FUNCTION aether.broken() RETURNS"});
  EXPECT_FALSE(postgres::prepare_store(later, migrations));
  EXPECT_EQ(version(), postgres::kSchemaVersion);
  migrations.back().functions =
      "CREATE FUNCTION aether.one() RETURNS int LANGUAGE sql AS 'SELECT 1'";
  Status const done = postgres::prepare_store(later, migrations);
  ASSERT_TRUE(done) << done.error().describe();
  EXPECT_EQ(version(), postgres::kSchemaVersion + 1);
  EXPECT_TRUE(value_of(later.ask("SELECT note FROM aether.event")).is_null(0, 0));
  EXPECT_EQ(fault_of_opening(), ErrorCode::StoreVersion);
}

TEST_F(PostgresJournalTest, AnEmptyDatabaseIsNoStoreToLookAt) {
  auto const reader = open_postgres_reader({.url = url_});
  ASSERT_FALSE(reader);
  EXPECT_EQ(reader.error().code(), ErrorCode::StoreUnavailable);
}

TEST_F(PostgresJournalTest, AServerThatIsNotThereIsNamedWithoutThePassword) {
  auto const journal =
      open_postgres_journal({.url = "postgres://me:geheim@127.0.0.1:1/db?password=geheim"});
  ASSERT_FALSE(journal);
  EXPECT_EQ(journal.error().code(), ErrorCode::StoreUnavailable);
  EXPECT_THAT(journal.error().message(), ::testing::HasSubstr("127.0.0.1:1/db"));
  EXPECT_THAT(journal.error().message(), ::testing::Not(::testing::HasSubstr("geheim")));
}

TEST_F(PostgresJournalTest, TwoProcessesAppendToOneStoreAndOneOfThemHoldsTheFence) {
  std::unique_ptr<Journal> const one = open();
  std::unique_ptr<Journal> const two = open();
  Batch lease = batch_of({point("run")});
  lease.checks = {{.stream = "run", .expected = Sequence{0}, .raised = Fence{1}}};
  EXPECT_EQ(appended(*one, lease), Position{1});
  EXPECT_EQ(refused(*two, lease).why, Refusal::Why::SequenceMoved);
  lease.checks = {{.stream = "run", .raised = Fence{2}}};
  EXPECT_EQ(appended(*two, lease), Position{2});
  Batch stale = batch_of({open_span("run", "effect/1")});
  stale.checks = {{.stream = "run", .held = Fence{1}}};
  EXPECT_EQ(refused(*one, stale).why, Refusal::Why::FenceStale);
  stale.checks[0].held = Fence{2};
  EXPECT_EQ(appended(*two, stale), Position{3});
  // The intent of an effect is one span, whoever appends it.
  EXPECT_EQ(refused(*one, batch_of({open_span("run", "effect/1")})).why,
            Refusal::Why::SpanOpenedOnce);
  // A late answer comes from the one whose lease is over.
  EXPECT_EQ(appended(*one, batch_of({testing::close_span("run", "effect/1")})), Position{4});
}

/// Threads append to streams of their own, and to one that all share, until they were answered.
std::size_t append_from_all_sides(std::vector<std::unique_ptr<Journal>> const& journals, int each,
                                  std::function<void()> const& disturb) {
  std::atomic<std::size_t> answered = 0;
  std::vector<std::thread> threads;
  for (std::size_t at = 0; at < journals.size(); ++at) {
    threads.emplace_back([&, at] {
      for (int i = 0; i < each; ++i) {
        NewEvent event = point(fmt::format("own{}", at));
        event.keys = {fmt::format("{}/{}", at, i)};
        if (append_to(*journals[at], batch_of({event, point("shared")}))) answered += 2;
      }
    });
  }
  disturb();
  for (std::thread& thread : threads) thread.join();
  return answered;
}

TEST_F(PostgresJournalTest, PositionsHaveNoHolesWhenManyAppendAtOnce) {
  std::vector<std::unique_ptr<Journal>> journals;
  for (int i = 0; i < 4; ++i) journals.push_back(open());
  EXPECT_EQ(append_from_all_sides(journals, 60, [] {}), 480U);
  expect_whole(*journals[0], 480);
  EXPECT_EQ(value_of(journals[1]->tree_head()), value_of(journals[2]->tree_head()));
}

TEST_F(PostgresJournalTest, AServerThatIsKilledAgainAndAgainLosesNothingAndDoublesNothing) {
  std::vector<std::unique_ptr<Journal>> journals;
  for (int i = 0; i < 3; ++i) journals.push_back(open());
  std::size_t const answered = append_from_all_sides(journals, 150, [] {
    for (int i = 0; i < 3; ++i) {
      PostgresServer::get()->stop(SIGQUIT);
      PostgresServer::get()->start();
    }
  });
  EXPECT_EQ(answered, 900U);
  expect_whole(*journals[0], 900);
}

TEST_F(PostgresJournalTest, AnAppendWhoseAnswerWasLostHappensOnce) {
  std::unique_ptr<Journal> const journal = open();
  appended(*journal, batch_of({point("a")}));
  // The second answer from now on comes to nobody: the connection ends when it is here.
  ASSERT_TRUE(fault::configure("journal.answer:2:eio"));
  for (int i = 0; i < 5; ++i)
    EXPECT_EQ(appended(*journal, batch_of({point("a")})),
              Position{static_cast<std::uint64_t>(i + 2)});
  EXPECT_EQ(all_events(*journal).size(), 6U);
}

TEST_F(PostgresJournalTest, ABatchThatWasNeverSentHappensAfterTheReconnection) {
  std::unique_ptr<Journal> const journal = open();
  ASSERT_TRUE(fault::configure("journal.begin:1:eio"));
  EXPECT_EQ(appended(*journal, batch_of({point("a")})), Position{1});
}

TEST_F(PostgresJournalTest, AServerThatStaysAwayIsToldAndItsReturnIsFound) {
  std::unique_ptr<Journal> const journal =
      value_of(open_postgres_journal({.url = url_, .patience = std::chrono::milliseconds(200)}));
  appended(*journal, batch_of({point("a")}));
  PostgresServer::get()->stop(SIGQUIT);
  // Asked for a while; by then the writer knows, too, and has nothing on its way.
  EXPECT_FALSE(journal->stream("a"));
  Result<AppendOutcome> const away = append_now(*journal, batch_of({point("lost")}));
  ASSERT_FALSE(away);
  EXPECT_EQ(away.error().code(), ErrorCode::StoreUnavailable);
  PostgresServer::get()->start();
  EXPECT_TRUE(os::testing::wait_until(
      [&] { return append_now(*journal, batch_of({point("a")})).has_value(); }));
  EXPECT_EQ(value_of(journal->stream("lost")), StreamState());
}

TEST_F(PostgresJournalTest, AConnectionThatTheServerEndsIsMadeAgain) {
  std::unique_ptr<Journal> const journal = open();
  for (std::uint64_t round = 1; round <= 3; ++round) {
    EXPECT_EQ(appended(*journal, batch_of({point("a")})), Position{round});
    change(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
        "datname=current_database() AND pid<>pg_backend_pid()");
    EXPECT_EQ(value_of(journal->stream("a")).last, Sequence{round});
  }
}

/// Makes the server refuse an append as it does when something is the matter with it.
std::string trigger(std::string const& condition, std::string const& state) {
  return fmt::format(
      "CREATE SEQUENCE tries;"
      "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
      "IF {} THEN RAISE EXCEPTION 'told to' USING ERRCODE='{}'; END IF; RETURN new; END $$;"
      "CREATE TRIGGER refuse BEFORE INSERT ON aether.event FOR EACH ROW EXECUTE FUNCTION refuse()",
      condition, state);
}

TEST_F(PostgresJournalTest, AFullDiskRefusesWhatNeedsRoomAndNothingElse) {
  std::unique_ptr<Journal> const journal = open();
  change(trigger("new.stream='large'", "53100"));
  std::vector<std::future<Result<AppendOutcome>>> answers;
  for (char const* stream : {"a", "large", "b", "large", "c"}) {
    auto promise = std::make_shared<std::promise<Result<AppendOutcome>>>();
    answers.push_back(promise->get_future());
    Batch batch = batch_of({point(stream)});
    // So that each goes in a group of its own.
    batch.checkpoint = "a note";
    journal->append(std::move(batch), [promise](Result<AppendOutcome> outcome) {
      promise->set_value(std::move(outcome));
    });
  }
  std::vector<std::string> told;
  for (auto& each : answers) {
    Result<AppendOutcome> const outcome = each.get();
    told.push_back(outcome ? "yes" : std::string(info(outcome.error().code()).name));
  }
  EXPECT_THAT(told, ::testing::ElementsAre("yes", "store-full", "yes", "store-full", "yes"));
  EXPECT_EQ(all_events(*journal).size(), 3U);
}

TEST_F(PostgresJournalTest, WhatFailsInItsCommitIsNotAnsweredAsAppended) {
  std::unique_ptr<Journal> const journal = open();
  change(
      "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
      "IF new.stream='large' THEN RAISE EXCEPTION 'told to' USING ERRCODE='53100'; END IF; "
      "RETURN new; END $$; CREATE CONSTRAINT TRIGGER late AFTER INSERT ON aether.event "
      "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()");
  Result<AppendOutcome> const outcome = append_now(*journal, batch_of({point("large")}));
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code(), ErrorCode::StoreFull);
  EXPECT_EQ(appended(*journal, batch_of({point("a")})), Position{1});
  EXPECT_EQ(all_events(*journal).size(), 1U);
}

TEST_F(PostgresJournalTest, WhatOnlyMetAnotherTransactionGoesAgainByItself) {
  std::unique_ptr<Journal> const journal = open();
  change(trigger("nextval('tries')<=3", "40001"));
  EXPECT_EQ(appended(*journal, batch_of({point("a")})), Position{1});
}

TEST_F(PostgresJournalTest, WhoRepairsTheStoreHasItAlone) {
  std::unique_ptr<Journal> journal = open();
  auto const alone = [this] { return open_postgres_journal({.url = url_, .alone = true}); };
  auto const refused = alone();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::StoreInUse);
  journal.reset();
  // The server notices a moment later that the connection has ended.
  std::unique_ptr<Journal> repairing;
  ASSERT_TRUE(os::testing::wait_until([&] {
    auto opened = alone();
    if (opened) repairing = std::move(*opened);
    return repairing != nullptr;
  }));
  EXPECT_EQ(fault_of_opening(), ErrorCode::StoreInUse);
}

TEST_F(PostgresJournalTest, AStoreThatWasSetBackIsNotAppendedTo) {
  std::unique_ptr<Journal> const journal = open();
  appended(*journal, batch_of({point("a")}));
  change("UPDATE aether.writer SET last=0");
  Result<AppendOutcome> const outcome = append_now(*journal, batch_of({point("b")}));
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code(), ErrorCode::StoreDamaged);
}

TEST_F(PostgresJournalTest, AnEventThatWasChangedIsFound) {
  std::unique_ptr<Journal> const journal = open();
  for (int i = 0; i < 3; ++i) appended(*journal, batch_of({point("a")}));
  change(
      "UPDATE aether.event SET line=replace(line,'signal.received','signal.rejected') "
      "WHERE position=2");
  FsckReport const report = value_of(fsck(*journal, ""));
  ASSERT_FALSE(report.findings.empty());
  EXPECT_EQ(report.findings[0].kind, Finding::Kind::EventChanged);
  EXPECT_EQ(report.findings[0].position, Position{2});
}

TEST_F(PostgresJournalTest, AReaderShowsTheMomentOfItsOpeningAndAppendsNothing) {
  std::unique_ptr<Journal> const journal = open();
  appended(*journal, batch_of({point("a")}));
  std::unique_ptr<Journal> const reader = value_of(open_postgres_reader({.url = url_}));
  appended(*journal, batch_of({point("a")}));
  EXPECT_EQ(all_events(*reader).size(), 1U);
  EXPECT_EQ(value_of(reader->tree_head()).size, 1U);
  Result<AppendOutcome> const outcome = append_now(*reader, batch_of({point("a")}));
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code(), ErrorCode::StoreInUse);
}

TEST_F(PostgresJournalTest, WhatTheServerRefusesHasItsCode) {
  EXPECT_EQ(postgres::fault_of("53100", "appending", "no space left").code(), ErrorCode::StoreFull);
  EXPECT_EQ(postgres::fault_of("XX001", "reading", "bad page").code(), ErrorCode::StoreDamaged);
  EXPECT_EQ(postgres::fault_of("42501", "reading", "denied").code(), ErrorCode::StoreUnavailable);
  EXPECT_TRUE(postgres::may_be_sent_again("40001"));
  EXPECT_FALSE(postgres::may_be_sent_again("53100"));
}

}  // namespace
}  // namespace aether::journal
