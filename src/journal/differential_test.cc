// SPDX-License-Identifier: Apache-2.0
// The same random batches to every back end: what memory answers, the others answer. It ends only
// when every operation has succeeded and each kind of refusal has occurred, so that it cannot pass
// without having looked. AETHER_SEED=n for one seed, AETHER_ROUNDS=n for a longer run.
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <set>

#include <gtest/gtest.h>

#include "journal/fsck.h"
#include "journal/journal.h"
#include "journal/memory/memory_journal.h"
#include "journal/postgres/postgres_journal.h"
#include "journal/postgres/testing_server.h"
#include "journal/sqlite/sqlite_journal.h"
#include "journal/testing.h"
#include "os/temp_dir.h"

namespace aether::journal {
namespace {

using testing::append_to;
using testing::blob_of;
using testing::point;
using testing::value_of;

std::uint64_t number_from(char const* variable, std::uint64_t otherwise) {
  char const* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

/// Makes batches of few names, so that they meet each other.
class Workload {
 public:
  /// @param oracle Asked for what is so, that half of the checks are right.
  Workload(std::uint64_t seed, Journal& oracle) : chance_(seed), oracle_(oracle) {}

  Batch batch() {
    Batch batch;
    for (std::uint64_t left = chance_.below(5); left > 0; --left) batch.events.push_back(event());
    if (chance_.one_in(3)) add_check(batch);
    if (chance_.one_in(4)) batch.blobs.push_back(blob());
    if (chance_.one_in(3)) batch.records.push_back(record());
    if (chance_.one_in(40)) batch.views_dropped.push_back(name("view", 3));
    if (chance_.one_in(30)) batch.blobs_erased.push_back(blob().hash);
    if (chance_.one_in(50)) batch.checkpoint = name("note", 1000);
    return batch;
  }
  std::string name(std::string const& what, std::uint64_t count) {
    return what + std::to_string(chance_.below(count));
  }
  Blob blob() { return blob_of(name("content", 40)); }
  Chance& chance() { return chance_; }

 private:
  NewEvent event() {
    NewEvent event = point(name("stream", 12), "[" + name("", 1000) + "]");
    event.mark = static_cast<Mark>(chance_.below(3));
    if (event.mark != Mark::Point || chance_.one_in(2)) event.span = name("span", 200);
    if (chance_.one_in(5)) event.keys.push_back(name("key", 300));
    if (chance_.one_in(8)) event.blobs.push_back(blob().hash);
    if (chance_.one_in(10)) event.cause = Position{1 + chance_.below(3000)};
    event.at += std::chrono::microseconds(chance_.below(1'000'000'000));
    return event;
  }
  void add_check(Batch& batch) {
    StreamCheck check{.stream = batch.events.empty() ? name("stream", 12) : batch.events[0].stream};
    StreamState const state = value_of(oracle_.stream(check.stream));
    if (chance_.one_in(3)) check.expected = Sequence{state.last.value + chance_.below(2)};
    if (chance_.one_in(3)) check.held = Fence{state.fence.value + chance_.below(2)};
    if (chance_.one_in(2) && !batch.events.empty()) {
      check.raised = Fence{state.fence.value + chance_.below(3)};
    }
    batch.checks.push_back(check);
  }
  RecordChange record() {
    RecordChange change{.view = name("view", 3), .key = name("", 30), .value = std::nullopt};
    if (!chance_.one_in(3)) change.value = name("value", 100);
    return change;
  }

  Chance chance_;
  Journal& oracle_;
};

void compare_reads(Journal& oracle, Journal& other, Workload& workload) {
  Position const from{workload.chance().below(200)};
  EXPECT_EQ(value_of(oracle.read(from, 50)), value_of(other.read(from, 50)));
  std::string const stream = workload.name("stream", 13);
  Sequence const since{workload.chance().below(40)};
  EXPECT_EQ(value_of(oracle.read_stream(stream, since, 9)),
            value_of(other.read_stream(stream, since, 9)));
  EXPECT_EQ(value_of(oracle.stream(stream)), value_of(other.stream(stream)));
  EXPECT_EQ(value_of(oracle.streams(stream, 5)), value_of(other.streams(stream, 5)));
  std::string const key = workload.name("key", 300);
  EXPECT_EQ(value_of(oracle.key_holder(key)), value_of(other.key_holder(key)));
  BlobHash const hash = workload.blob().hash;
  EXPECT_EQ(value_of(oracle.blob(hash)), value_of(other.blob(hash)));
  std::string const view = workload.name("view", 3);
  EXPECT_EQ(value_of(oracle.records(view, "1", "25", 20)),
            value_of(other.records(view, "1", "25", 20)));
  EXPECT_EQ(value_of(oracle.tree_head()), value_of(other.tree_head()));
  EXPECT_EQ(value_of(oracle.checkpoints()), value_of(other.checkpoints()));
}

/// What has succeeded so far, by name.
std::set<std::string> operations_in(Batch const& batch, Journal& oracle) {
  std::set<std::string> done;
  for (NewEvent const& event : batch.events) {
    done.insert(std::string(text_of(event.mark)));
    if (!event.keys.empty()) done.insert("key");
    if (!event.blobs.empty()) done.insert("blob named");
    if (event.cause) done.insert("cause");
  }
  for (StreamCheck const& check : batch.checks) {
    if (check.expected && check.expected->value > 0) done.insert("sequence expected");
    if (check.held && check.held->value > 0) done.insert("fence held");
    if (check.raised) done.insert("fence raised");
  }
  for (RecordChange const& change : batch.records) {
    done.insert(change.value ? "record written" : "record taken away");
  }
  if (!batch.blobs.empty()) done.insert("blob stored");
  if (!batch.blobs_erased.empty()) done.insert("blob erased");
  if (!batch.views_dropped.empty()) done.insert("view dropped");
  if (batch.checkpoint) done.insert("checkpoint");
  if (value_of(oracle.tree_head()).size > 256) done.insert("node kept");
  return done;
}
constexpr std::size_t kOperations = 16;

using Open = std::function<std::unique_ptr<Journal>()>;

void compare_with_memory(std::uint64_t rounds, Open const& open) {
  std::uint64_t const seed = number_from("AETHER_SEED", 20'261'121);
  rounds = number_from("AETHER_ROUNDS", rounds);
  SCOPED_TRACE("AETHER_SEED=" + std::to_string(seed));
  std::unique_ptr<Journal> const oracle = open_memory_journal();
  std::unique_ptr<Journal> other = open();
  ASSERT_TRUE(other);
  Workload workload(seed, *oracle);
  std::set<std::string> succeeded;
  std::map<Refusal::Why, int> refusals;
  std::uint64_t round = 0;
  for (; round < rounds || succeeded.size() < kOperations || refusals.size() < kRefusalKinds;
       ++round) {
    ASSERT_LT(round, 20'000U) << "not every operation succeeds";
    Batch const batch = workload.batch();
    Batch copy = batch;
    AppendOutcome const expected = append_to(*oracle, batch);
    ASSERT_EQ(expected, append_to(*other, std::move(copy))) << "round " << round;
    if (expected) {
      succeeded.merge(operations_in(batch, *oracle));
    } else {
      ++refusals[expected.error().why];
    }
    compare_reads(*oracle, *other, workload);
    if (::testing::Test::HasFailure()) FAIL() << "round " << round;
    // Opening again forgets what the writer remembers.
    if (workload.chance().one_in(200)) {
      other.reset();
      other = open();
      ASSERT_TRUE(other);
    }
  }
  EXPECT_EQ(succeeded.size(), kOperations);
  FsckReport const report = value_of(fsck(*other, ""));
  for (Finding const& finding : report.findings) {
    // The notes of this test are none, and fsck says so.
    if (finding.kind != Finding::Kind::CheckpointBroken) ADD_FAILURE() << describe(finding);
  }
}

TEST(Differential, SqliteAnswersWhatMemoryAnswers) {
  os::TempDir const folder = value_of(os::TempDir::create("journal-differential"));
  SqliteOptions const options{.path = folder.file("store.db")};
  compare_with_memory(1500, [&] { return value_of(open_sqlite_journal(options)); });
}

TEST(PostgresDifferential, PostgresAnswersWhatMemoryAnswers) {
  testing::PostgresServer* const server = testing::PostgresServer::get();
  if (server == nullptr) GTEST_SKIP() << testing::kNoServer;
  PostgresOptions const options{.url = server->url("differential")};
  compare_with_memory(600, [&] { return value_of(open_postgres_journal(options)); });
}

}  // namespace
}  // namespace aether::journal
