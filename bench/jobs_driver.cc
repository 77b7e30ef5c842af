// SPDX-License-Identifier: Apache-2.0
// jobs-driver: what bench/jobs.py measures of durable work, each as one JSON object on its output.
//
//   disk FOLDER SECONDS              one fdatasync, and SQLite's own commits
//   steps FOLDER IN-FLIGHT RUNS      runs of kSteps calls in a row, IN-FLIGHT of them at once
//   park FOLDER RUNS                 makes runs that wait, for signals and for times by turns
//   queue FOLDER RUNS                makes runs that nobody has begun
//   recover FOLDER                   begins over what the two have left
//   fill FOLDER EVENTS               writes that many events of runs that have ended
#include "jobs_driver.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <cstdlib>
#include <functional>
#include <string_view>

#include <fmt/format.h>

#include "journal/sqlite/database.h"
#include "os/unique_fd.h"

namespace {

using namespace aether;
using namespace aether::bench;

constexpr std::size_t kPage = 4096;

/// How often the work is done in so many seconds; microseconds of the middle one.
struct Rate {
  double per_second;
  double p50_us;
};
Rate rate_of(double seconds, std::function<void()> const& work) {
  std::vector<double> took;
  double const began = now_us();
  while (now_us() - began < seconds * 1e6) {
    double const at = now_us();
    work();
    took.push_back(now_us() - at);
  }
  double const all = now_us() - began;
  return {static_cast<double>(took.size()) / all * 1e6, quantile(took, 0.5)};
}

int disk(std::string const& folder, double seconds) {
  os::UniqueFd const file(::open((folder + "/log").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  std::string const bytes(kPage, 'x');
  off_t at = 0;
  Rate const sync = rate_of(seconds, [&] {
    AETHER_CHECK(::pwrite(file.get(), bytes.data(), bytes.size(), at) == kPage);
    AETHER_CHECK(::fdatasync(file.get()) == 0);
    at += kPage;
  });
  using journal::Database;
  Database database = or_throw(Database::open(folder + "/plain.db", Database::Access::Write, ""));
  or_throw(
      database.run("PRAGMA page_size=16384; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; "
                   "CREATE TABLE log(id INTEGER PRIMARY KEY, line TEXT)"));
  journal::Statement insert = or_throw(database.prepare("INSERT INTO log(line) VALUES(?1)"));
  std::string const line(400, 'x');
  Rate const commit =
      rate_of(seconds, [&] { or_throw(insert.bind(std::string_view(line)).run()); });
  fmt::print(
      "{{\"fdatasync_us\": {:.1f}, \"fdatasync_per_second\": {:.0f}, \"commit_us\": {:.1f}, "
      "\"commits_per_second\": {:.0f}}}\n",
      sync.p50_us, sync.per_second, commit.p50_us, commit.per_second);
  return 0;
}

int steps(std::string const& folder, int in_flight, std::uint32_t runs) {
  Judge judge(runs, kSteps);
  auto const store = open_store(folder);
  double const submitted = queue_runs(*store, runs);
  CallTool* calls = nullptr;
  tools::ToolSet tools;
  auto tool = std::make_unique<CallTool>(judge.pipe(), runs);
  calls = tool.get();
  or_throw(tools.add(std::move(tool)));
  Ends ends(runs, 3 + 4 * kSteps);
  SystemClock const clock;
  double took = 0;
  {
    jobs::Engine engine(*store, tools, clock, {.concurrency = in_flight});
    engine.on_progress([&ends](jobs::RunId const&, auto told) { ends.note(told.sequence); });
    double const began = now_us();
    or_throw(engine.start());
    ends.wait();
    took = now_us() - began;
  }
  Judge::Verdict const verdict = judge.verdict();
  fmt::print(
      "{{\"in_flight\": {}, \"runs\": {}, \"steps\": {}, \"seconds\": {:.3f}, "
      "\"steps_per_second\": {:.0f}, \"p50_us\": {:.1f}, \"p99_us\": {:.1f}, "
      "\"submits_per_second\": {:.0f}, \"effects\": {}, \"twice\": {}, \"missing\": {}}}\n",
      in_flight, runs, runs * kSteps, took / 1e6, runs * kSteps / took * 1e6,
      quantile(calls->between_us(), 0.5), quantile(calls->between_us(), 0.99), submitted,
      verdict.effects, verdict.twice, verdict.missing);
  return verdict.twice == 0 && verdict.missing == 0 ? 0 : 1;
}

int park(std::string const& folder, std::uint32_t runs) {
  auto const store = open_store(folder);
  std::uint64_t const before = resident_bytes();
  tools::ToolSet tools;
  SystemClock const clock;
  jobs::Engine engine(*store, tools, clock, {.concurrency = 256});
  // Opened, the lease, the step, its wait.
  Ends ends(runs, 4);
  engine.on_progress([&ends](jobs::RunId const&, auto told) { ends.note(told.sequence); });
  or_throw(engine.start());
  double const began = now_us();
  submit_all(engine, runs, [](std::uint32_t at) { return waiting_graph(at % 2 == 0); });
  ends.wait();
  double const took = now_us() - began;
  std::uint64_t const after = resident_bytes();
  double const each = (static_cast<double>(after) - static_cast<double>(before)) / runs;
  fmt::print("{{\"runs\": {}, \"seconds\": {:.3f}, \"bytes_per_parked_run\": {:.0f}}}\n", runs,
             took / 1e6, each);
  return 0;
}

int queue(std::string const& folder, std::uint32_t runs) {
  auto const store = open_store(folder);
  double const rate = queue_runs(*store, runs);
  fmt::print("{{\"runs\": {}, \"submits_per_second\": {:.0f}}}\n", runs, rate);
  return 0;
}

int recover(std::string const& folder) {
  std::uint64_t const before = resident_bytes();
  double const began = now_us();
  auto const store = open_store(folder);
  double const opened = now_us();
  tools::ToolSet tools;
  or_throw(tools.add(std::make_unique<HangTool>()));
  SystemClock const clock;
  jobs::Engine engine(*store, tools, clock, {.concurrency = 64});
  or_throw(engine.start());
  double const started = now_us();
  // The first answer that changes something; the run waits on afterwards.
  std::string const last = or_throw(engine.list({.count = 1})).front().run.text;
  std::promise<void> answered;
  engine.signal({"bench"}, jobs::RunId{last}, {.name = "ping", .payload = {}},
                [&answered](Result<jobs::RunStatus> status) {
                  or_throw(std::move(status));
                  answered.set_value();
                });
  answered.get_future().wait();
  double const ready = now_us();
  fmt::print(
      "{{\"open_ms\": {:.1f}, \"start_ms\": {:.1f}, \"first_answer_ms\": {:.1f}, "
      "\"recovery_ms\": {:.1f}, \"resident_bytes\": {}}}\n",
      (opened - began) / 1e3, (started - opened) / 1e3, (ready - started) / 1e3,
      (ready - began) / 1e3, resident_bytes() - before);
  std::fflush(stdout);
  return 0;
}

int fill(std::string const& folder, std::uint64_t events) {
  auto const store = open_store(folder);
  double const began = now_us();
  std::uint64_t const written = write_history(*store, events);
  fmt::print("{{\"events\": {}, \"seconds\": {:.3f}}}\n", written, (now_us() - began) / 1e6);
  return 0;
}

int usage() {
  fmt::print(stderr, "usage: jobs-driver disk|steps|park|queue|recover|fill FOLDER [NUMBER...]\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> const words(argv, argv + argc);
  if (argc < 3) return usage();
  std::string const& folder = words[2];
  auto const number = [&words](std::size_t at) {
    return at < words.size() ? std::strtoull(words[at].c_str(), nullptr, 10) : 0;
  };
  auto const count = static_cast<std::uint32_t>(number(3));
  if (words[1] == "recover") return recover(folder);
  if (argc < 4) return usage();
  if (words[1] == "disk") return disk(folder, std::strtod(words[3].c_str(), nullptr));
  if (words[1] == "steps" && argc == 5)
    return steps(folder, static_cast<int>(count), static_cast<std::uint32_t>(number(4)));
  if (words[1] == "park") return park(folder, count);
  if (words[1] == "queue") return queue(folder, count);
  if (words[1] == "fill") return fill(folder, number(3));
  return usage();
}
