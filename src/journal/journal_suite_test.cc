// SPDX-License-Identifier: Apache-2.0
// What every back end promises. A new back end is one line more at the end.
#include <functional>
#include <future>
#include <memory>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "journal/journal.h"
#include "journal/limits.h"
#include "journal/memory/memory_journal.h"
#include "journal/postgres/postgres_journal.h"
#include "journal/postgres/testing_server.h"
#include "journal/sqlite/sqlite_journal.h"
#include "journal/testing.h"
#include "os/temp_dir.h"

namespace aether::journal {
namespace {

using testing::all_events;
using testing::append_to;
using testing::appended;
using testing::batch_of;
using testing::blob_of;
using testing::close_span;
using ::testing::ElementsAre;
using testing::open_span;
using testing::point;
using testing::refused;
using testing::value_of;

struct BackEnd {
  char const* name;
  bool keeps;  ///< Events outlive the object.
  std::function<std::unique_ptr<Journal>(std::string const& folder)> open;
};

class JournalSuite : public ::testing::TestWithParam<BackEnd> {
 protected:
  void SetUp() override {
    if (std::string_view(GetParam().name) == "Postgres" && !testing::PostgresServer::get())
      GTEST_SKIP() << testing::kNoServer;
    open();
  }
  void open() {
    journal_.reset();
    journal_ = GetParam().open(folder_->path());
    ASSERT_TRUE(journal_);
  }
  Journal& journal() { return *journal_; }

  Result<os::TempDir> folder_ = os::TempDir::create("journal-suite");
  std::unique_ptr<Journal> journal_;
};

TEST_P(JournalSuite, BeginsEmpty) {
  EXPECT_THAT(all_events(journal()), ElementsAre());
  EXPECT_EQ(value_of(journal().stream("nobody")), StreamState());
  EXPECT_EQ(value_of(journal().tree_head()), TreeHead());
  EXPECT_EQ(value_of(journal().key_holder("key")), std::nullopt);
}

TEST_P(JournalSuite, NumbersEventsWithoutGaps) {
  EXPECT_EQ(appended(journal(), batch_of({point("a"), point("b"), point("a")})), Position{1});
  EXPECT_EQ(appended(journal(), batch_of({point("a")})), Position{4});
  std::vector<Event> const events = all_events(journal());
  ASSERT_EQ(events.size(), 4U);
  EXPECT_EQ(events[3].sequence, Sequence{3});
  EXPECT_EQ(value_of(journal().stream("a")),
            (StreamState{.last = Sequence{3}, .fence = {}, .head = Position{4}}));
  EXPECT_THAT(value_of(journal().streams("", 10)), ElementsAre("a", "b"));
  EXPECT_THAT(value_of(journal().streams("a", 10)), ElementsAre("b"));
}

TEST_P(JournalSuite, GivesBackEverythingThatWasSaid) {
  NewEvent said = open_span("run-1", "step/1");
  said.cause = Position{1};
  said.keys = {"idempotency/k1", "business/refund:42"};
  said.body = R"({"text":"zażółć \"\u0001\"","list":[1,2.5e3,null,true]})";
  Blob const blob = blob_of(std::string("\0binary\n", 8));
  said.blobs = {blob.hash};
  Batch batch = batch_of({point("run-1"), said});
  batch.blobs = {blob};
  appended(journal(), std::move(batch));
  std::vector<Event> const events = all_events(journal());
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(static_cast<NewEvent const&>(events[1]), said);
  EXPECT_EQ(value_of(journal().blob(blob.hash)), blob);
  EXPECT_EQ(value_of(journal().key_holder("business/refund:42")), Position{2});
}

TEST_P(JournalSuite, ACauseComesBeforeItsEvent) {
  NewEvent event = point("a");
  event.cause = Position{1};
  EXPECT_EQ(refused(journal(), batch_of({event})),
            (Refusal{.why = Refusal::Why::CauseAhead, .stream = "a", .name = "", .current = 1}));
  EXPECT_EQ(appended(journal(), batch_of({point("a"), event})), Position{1});
}

TEST_P(JournalSuite, ReadsOneStreamFromAPlaceAndNotMoreThanAsked) {
  for (int i = 0; i < 10; ++i) appended(journal(), batch_of({point("a"), point("b")}));
  std::vector<Event> const events = value_of(journal().read_stream("b", Sequence{4}, 3));
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0].sequence, Sequence{4});
  EXPECT_EQ(events[2].position, Position{12});
  EXPECT_EQ(value_of(journal().read(Position{19}, 100)).size(), 2U);
  EXPECT_EQ(value_of(journal().read_stream("b", Sequence{11}, 100)).size(), 0U);
}

TEST_P(JournalSuite, RefusesABatchWhoseStreamWentOn) {
  appended(journal(), batch_of({point("a")}));
  Batch batch = batch_of({point("a")});
  batch.checks = {{.stream = "a", .expected = Sequence{0}}};
  EXPECT_EQ(refused(journal(), batch),
            (Refusal{.why = Refusal::Why::SequenceMoved, .stream = "a", .name = "", .current = 1}));
  batch.checks = {{.stream = "a", .expected = Sequence{1}}};
  EXPECT_EQ(appended(journal(), batch), Position{2});
}

TEST_P(JournalSuite, AStaleFenceIsRefusedAndALateAnswerIsNot) {
  Batch lease = batch_of({point("run")});
  lease.checks = {{.stream = "run", .raised = Fence{3}}};
  appended(journal(), lease);
  EXPECT_EQ(refused(journal(), lease).why, Refusal::Why::FenceNotHigher);
  lease.checks = {{.stream = "run", .raised = Fence{4}}};
  appended(journal(), lease);
  Batch stale = batch_of({point("run")});
  stale.checks = {{.stream = "run", .held = Fence{3}}};
  EXPECT_EQ(refused(journal(), stale),
            (Refusal{.why = Refusal::Why::FenceStale, .stream = "run", .name = "", .current = 4}));
  stale.checks = {{.stream = "run", .held = Fence{4}}};
  appended(journal(), stale);
  appended(journal(), batch_of({point("run")}));
  EXPECT_EQ(all_events(journal()).back().fence, Fence{4});
}

TEST_P(JournalSuite, ASpanHasOneOpenAndAtMostOneClose) {
  EXPECT_EQ(refused(journal(), batch_of({close_span("a", "s")})).why, Refusal::Why::SpanNotOpen);
  appended(journal(), batch_of({open_span("a", "s")}));
  EXPECT_EQ(
      refused(journal(), batch_of({open_span("a", "s")})),
      (Refusal{.why = Refusal::Why::SpanOpenedOnce, .stream = "a", .name = "s", .current = 1}));
  appended(journal(), batch_of({close_span("a", "s"), open_span("b", "s"), close_span("b", "s")}));
  EXPECT_EQ(refused(journal(), batch_of({close_span("a", "s")})).current, 2U);
  EXPECT_EQ(refused(journal(), batch_of({open_span("a", "s")})).why, Refusal::Why::SpanOpenedOnce);
  EXPECT_EQ(refused(journal(), batch_of({open_span("c", "s"), open_span("c", "s")})).current, 5U);
  EXPECT_EQ(all_events(journal()).size(), 4U);
}

TEST_P(JournalSuite, AKeyIsTakenOnceInTheWholeJournal) {
  NewEvent taker = point("a");
  taker.keys = {"k"};
  appended(journal(), batch_of({point("a"), taker}));
  taker.stream = "b";
  EXPECT_EQ(refused(journal(), batch_of({taker})),
            (Refusal{.why = Refusal::Why::KeyTaken, .stream = "b", .name = "k", .current = 2}));
  NewEvent first = point("a");
  first.keys = {"x"};
  EXPECT_EQ(refused(journal(), batch_of({point("a"), first, first})).current, 4U);
  EXPECT_EQ(value_of(journal().key_holder("x")), std::nullopt);
}

TEST_P(JournalSuite, ARefusedBatchLeavesNothing) {
  Blob const blob = blob_of("left");
  Batch batch = batch_of({open_span("a", "s"), point("a"), close_span("a", "never opened")});
  batch.events[1].keys = {"k"};
  batch.blobs = {blob};
  batch.records = {{.view = "v", .key = "k", .value = "x"}};
  refused(journal(), batch);
  EXPECT_EQ(value_of(journal().blob(blob.hash)), std::nullopt);
  EXPECT_EQ(value_of(journal().record("v", "k")), std::nullopt);
  EXPECT_EQ(value_of(journal().stream("a")), StreamState());
  EXPECT_EQ(value_of(journal().tree_head()).size, 0U);
  batch.events.pop_back();
  EXPECT_EQ(appended(journal(), batch), Position{1});
}

TEST_P(JournalSuite, AnErasedBlobKeepsItsAddressOnly) {
  Blob const blob = blob_of("secret");
  Batch batch = batch_of({point("a")});
  batch.events[0].blobs = {blob.hash};
  EXPECT_EQ(refused(journal(), batch).why, Refusal::Why::BlobUnknown);
  batch.blobs = {blob};
  appended(journal(), batch);
  Batch erase;
  erase.blobs_erased = {blob.hash};
  EXPECT_EQ(append_to(journal(), erase), (Appended{.first = Position{1}, .count = 0}));
  EXPECT_EQ(value_of(journal().blob(blob.hash)),
            (Blob{.hash = blob.hash, .salt = "", .content = std::nullopt}));
  appended(journal(), batch);  // named again, and stays erased
  EXPECT_EQ(value_of(journal().blob(blob.hash))->content, std::nullopt);
  erase.blobs_erased = {Hash{}};
  EXPECT_EQ(refused(journal(), erase).why, Refusal::Why::BlobUnknown);
}

TEST_P(JournalSuite, RecordsComeInTheOrderOfTheirBytesAndGoWithTheirView) {
  Batch batch;
  batch.records = {{.view = "due", .key = std::string("\xff", 1), .value = "last"},
                   {.view = "due", .key = std::string("\0\1", 2), .value = ""},
                   {.view = "due", .key = "a", .value = "b"},
                   {.view = "other", .key = "a", .value = "c"}};
  append_to(journal(), batch);
  std::vector<Record> const rows = value_of(journal().records("due", "", "", 10));
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0].key, std::string("\0\1", 2));
  EXPECT_EQ(rows[2].value, "last");
  EXPECT_THAT(value_of(journal().records("due", "a", "b", 10)),
              ElementsAre(Record{.key = "a", .value = "b"}));
  EXPECT_EQ(value_of(journal().records("due", "", "", 2)).size(), 2U);
  Batch change;
  change.views_dropped = {"due"};
  change.records = {{.view = "due", .key = "z", .value = "new"},
                    {.view = "other", .key = "a", .value = std::nullopt}};
  append_to(journal(), change);
  EXPECT_THAT(value_of(journal().records("due", "", "", 10)),
              ElementsAre(Record{.key = "z", .value = "new"}));
  EXPECT_EQ(value_of(journal().record("other", "a")), std::nullopt);
}

TEST_P(JournalSuite, TheTreeIsOverTheLinesOfItsEvents) {
  for (int i = 0; i < 600; ++i) appended(journal(), batch_of({point("a"), point("b")}));
  TreeHead const head = value_of(journal().tree_head());
  EXPECT_EQ(head.size, 1200U);
  EXPECT_EQ(value_of(tree_root(journal(), 1200)), head.root);
  std::vector<Event> const events = all_events(journal());
  std::vector<Hash> const proof = value_of(inclusion_proof(journal(), 700, 1200));
  EXPECT_TRUE(verify_inclusion(leaf_hash(event_line(events[700])), 700, 1200, proof, head.root));
  open();
  if (GetParam().keeps) EXPECT_EQ(value_of(journal().tree_head()), head);
}

TEST_P(JournalSuite, WhatWasAnsweredIsThereAfterOpeningAgain) {
  if (!GetParam().keeps) return;
  appended(journal(), batch_of({open_span("a", "s"), point("b")}));
  NewEvent taker = close_span("a", "s");
  taker.keys = {"k"};
  Batch lease = batch_of({taker});
  lease.checks = {{.stream = "a", .raised = Fence{9}}};
  lease.checkpoint = "a note";
  appended(journal(), lease);
  open();
  EXPECT_EQ(all_events(journal()).size(), 3U);
  EXPECT_EQ(refused(journal(), batch_of({close_span("a", "s")})).current, 3U);
  EXPECT_EQ(refused(journal(), batch_of({open_span("a", "s")})).current, 1U);
  taker = point("c");
  taker.keys = {"k"};
  EXPECT_EQ(refused(journal(), batch_of({taker})).current, 3U);
  EXPECT_EQ(value_of(journal().stream("a")).fence, Fence{9});
  EXPECT_THAT(value_of(journal().checkpoints()), ElementsAre("a note"));
  EXPECT_EQ(appended(journal(), batch_of({point("a")})), Position{4});
}

TEST_P(JournalSuite, ManyAppendersAtOnceAreAnsweredInTheOrderOfTheirCalls) {
  std::promise<void> done;
  std::vector<std::uint64_t> firsts;  // the journal's thread only, until done
  constexpr int kCount = 500;
  for (int i = 0; i < kCount; ++i) {
    journal().append(batch_of({point("a"), point("b")}), [&](Result<AppendOutcome> outcome) {
      firsts.push_back(outcome && *outcome ? (*outcome)->first.value : 0);
      if (firsts.size() == kCount) done.set_value();
    });
  }
  done.get_future().wait();
  for (std::size_t at = 0; at < firsts.size(); ++at) EXPECT_EQ(firsts[at], 1 + 2 * at);
}

TEST_P(JournalSuite, RefusesWhatHasNoFormOrIsTooMuch) {
  auto const fault = [&](Batch batch) {
    Result<AppendOutcome> const outcome = append_now(journal(), std::move(batch));
    return outcome ? ErrorCode::Internal : outcome.error().code();
  };
  EXPECT_EQ(fault(batch_of({point("")})), ErrorCode::RequestInvalid);
  EXPECT_EQ(fault(batch_of({point("a\"b")})), ErrorCode::RequestInvalid);
  EXPECT_EQ(fault(batch_of({point("a\nb")})), ErrorCode::RequestInvalid);
  EXPECT_EQ(fault(batch_of({point(std::string(kNameBytesMax + 1, 'a'))})),
            ErrorCode::RequestInvalid);
  EXPECT_EQ(fault(batch_of({open_span("a", "")})), ErrorCode::RequestInvalid);
  for (char const* body :
       {"", "{", "{} ", "\"\n\"", "nul", "[1,]", "{\"a\" :1}", "01", "\"\xff\""}) {
    EXPECT_EQ(fault(batch_of({point("a", body)})), ErrorCode::RequestInvalid) << body;
  }
  EXPECT_EQ(fault(batch_of({point("a", "\"" + std::string(kBodyBytesMax, 'a') + "\"")})),
            ErrorCode::LimitReached);
  EXPECT_EQ(fault(batch_of(std::vector<NewEvent>(kBatchEventsMax + 1, point("a")))),
            ErrorCode::LimitReached);
  Batch batch = batch_of({point("a")});
  batch.checks = {{.stream = "b", .raised = Fence{1}}};
  EXPECT_EQ(fault(batch), ErrorCode::RequestInvalid);
  batch.checks = {{.stream = "a"}, {.stream = "a"}};
  EXPECT_EQ(fault(batch), ErrorCode::RequestInvalid);
  batch = batch_of({});
  batch.blobs = {blob_of("x")};
  batch.blobs[0].content = "y";
  EXPECT_EQ(fault(batch), ErrorCode::RequestInvalid);
  EXPECT_EQ(all_events(journal()).size(), 0U);
}

std::unique_ptr<Journal> open_store(std::string const& folder) {
  return value_of(open_sqlite_journal({.path = folder + "/store.db"}));
}

std::unique_ptr<Journal> open_database(std::string const& folder) {
  testing::PostgresServer* const server = testing::PostgresServer::get();
  if (server == nullptr) return nullptr;
  return value_of(open_postgres_journal({.url = server->url(testing::database_of(folder))}));
}

INSTANTIATE_TEST_SUITE_P(OnServer, JournalSuite,
                         ::testing::Values(BackEnd{
                             .name = "Postgres", .keeps = true, .open = open_database}),
                         [](auto const& each) { return std::string(each.param.name); });

INSTANTIATE_TEST_SUITE_P(
    BackEnds, JournalSuite,
    ::testing::Values(BackEnd{.name = "memory",
                              .keeps = false,
                              .open = [](std::string const&) { return open_memory_journal(); }},
                      BackEnd{.name = "sqlite", .keeps = true, .open = open_store}),
    [](auto const& each) { return std::string(each.param.name); });

}  // namespace
}  // namespace aether::journal
