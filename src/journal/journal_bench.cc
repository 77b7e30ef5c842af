// SPDX-License-Identifier: Apache-2.0
// Appends a second with so many appenders that each wait for their answer, beside what the disk and
// SQLite can do by themselves, in the same run and folder (AETHER_BENCH_DIR, else $TMPDIR or /tmp).
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/check.h"
#include "journal/fsck.h"
#include "journal/memory/memory_journal.h"
#include "journal/sqlite/database.h"
#include "journal/sqlite/sqlite_journal.h"
#include "os/temp_dir.h"
#include "os/unique_fd.h"

namespace aether::journal {
namespace {

os::TempDir bench_folder() {
  char const* const parent = std::getenv("AETHER_BENCH_DIR");
  return *os::TempDir::create("journal-bench", parent == nullptr ? std::string() : parent);
}

/// About 400 bytes with its line's other fields.
NewEvent some_event(int appender, std::uint64_t number, Mark mark) {
  NewEvent event;
  event.stream = "019ab4c2-7e1f-7000-8000-00000000" + std::to_string(1000 + appender);
  event.kind = mark == Mark::Open ? "step.opened" : "step.closed";
  event.mark = mark;
  event.span = "step/" + std::to_string(number);
  event.at = WallTime(std::chrono::milliseconds(1'795'258'562'123));
  event.actor = "worker/1";
  event.body = R"({"input":")" + std::string(180, 'x') + R"("})";
  return event;
}

/// Appenders in one chain each: the answer to one batch appends the next.
class Appenders {
 public:
  Appenders(Journal& journal, int count, std::uint64_t appends)
      : journal_(journal), left_to_begin_(appends), left_to_end_(appends) {
    for (int appender = 0; appender < count; ++appender) next(appender, 0);
  }
  void wait() { done_.get_future().wait(); }

 private:
  void next(int appender, std::uint64_t number) {
    // The journal's thread, but for the first of each appender.
    if (left_to_begin_.fetch_sub(1) <= 0) return;
    Batch batch;
    batch.events.push_back(
        some_event(appender, number / 2, number % 2 == 0 ? Mark::Open : Mark::Close));
    journal_.append(std::move(batch), [this, appender, number](Result<AppendOutcome> outcome) {
      AETHER_CHECK(outcome && *outcome, "an append failed");
      next(appender, number + 1);
      if (left_to_end_.fetch_sub(1) == 1) done_.set_value();
    });
  }
  Journal& journal_;
  std::atomic<std::int64_t> left_to_begin_;
  std::atomic<std::int64_t> left_to_end_;
  std::promise<void> done_;
};

void appends(benchmark::State& state) {
  os::TempDir const folder = bench_folder();
  int const appenders = static_cast<int>(state.range(0));
  std::uint64_t const count = appenders == 1 ? 2000 : 40'000;
  int run = 0;
  for (auto _ : state) {
    state.PauseTiming();
    std::string const path = folder.file("store" + std::to_string(run++) + ".db");
    std::unique_ptr<Journal> journal = *open_sqlite_journal({.path = path});
    state.ResumeTiming();
    Appenders work(*journal, appenders, count);
    work.wait();
    state.PauseTiming();
    journal.reset();
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(count));
}
BENCHMARK(appends)->Arg(1)->Arg(16)->Arg(64)->Arg(256)->UseRealTime()->Unit(
    benchmark::kMillisecond);

void one_fdatasync(benchmark::State& state) {
  os::TempDir const folder = bench_folder();
  os::UniqueFd const file(::open(folder.file("log").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  std::string const bytes(4096, 'x');
  off_t at = 0;
  for (auto _ : state) {
    AETHER_CHECK(::pwrite(file.get(), bytes.data(), bytes.size(), at) == 4096);
    AETHER_CHECK(::fdatasync(file.get()) == 0);
    at += 4096;
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(one_fdatasync)->UseRealTime()->Unit(benchmark::kMicrosecond);

void sqlite_commits(benchmark::State& state) {
  os::TempDir const folder = bench_folder();
  Database database = *Database::open(folder.file("plain.db"), Database::Access::Write, "");
  AETHER_CHECK(
      database.run("PRAGMA page_size=16384; PRAGMA journal_mode=WAL; "
                   "PRAGMA synchronous=FULL; CREATE TABLE log(id INTEGER PRIMARY KEY, "
                   "line TEXT)"));
  Statement insert = *database.prepare("INSERT INTO log(line) VALUES(?1)");
  std::string const line(400, 'x');
  for (auto _ : state) AETHER_CHECK(insert.bind(std::string_view(line)).run());
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(sqlite_commits)->UseRealTime()->Unit(benchmark::kMicrosecond);

/// What `aether fsck` does with 100 000 events.
void fsck_events(benchmark::State& state) {
  os::TempDir const folder = bench_folder();
  std::unique_ptr<Journal> const journal = *open_sqlite_journal({.path = folder.file("store.db")});
  Appenders work(*journal, 1000, 100'000);
  work.wait();
  for (auto _ : state) AETHER_CHECK(fsck(*journal, "")->findings.empty());
  state.SetItemsProcessed(state.iterations() * 100'000);
}
BENCHMARK(fsck_events)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace aether::journal
