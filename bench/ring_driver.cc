// SPDX-License-Identifier: Apache-2.0
// ring-driver WAY PLACE MODE SIZE ROUNDS: messages from one process to another, by a ring, a Unix
// socket, a pipe or TCP; prints one line of JSON. For bench/ring.py.
//   WAY    ring | ring-trusted | ring-crc32c | ring-unchecked | unix | pipe | tcp
//   PLACE  across: a core for each side; same: one core for both
//   MODE   latency: one message at a time, the reader looks; blocked: the reader sleeps before
//   each;
//          stream: as many as go through
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/checksum.h"
#include "bench/ring_way.h"
#include "ring/ring.h"

namespace {

using aether::bench::now_ns;
using aether::bench::Shared;
using aether::bench::Way;
using Bytes = std::vector<std::byte>;

void pin(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  if (::sched_setaffinity(0, sizeof set, &set) != 0) std::perror("sched_setaffinity");
}

// What else runs on the machine is not what is measured. Without the right it goes on as it is.
bool be_realtime() {
  sched_param const priority{.sched_priority = 10};
  return ::sched_setscheduler(0, SCHED_FIFO, &priority) == 0;
}

struct Case {
  std::string way;
  bool across;
  std::string mode;
  std::size_t size;
  std::size_t rounds;
};

// One message at a time: it carries when it was sent, the reader says how long it took, then it
// lets the writer send the next. `blocked`: the writer gives the reader time to fall asleep.
void write_one_by_one(Case const& each, Way& way, Shared& shared) {
  Bytes message(each.size, std::byte{7});
  for (std::uint64_t round = 1; round <= each.rounds; ++round) {
    if (each.mode == "blocked") ::usleep(100);
    std::uint64_t const now = now_ns();
    std::memcpy(message.data(), &now, sizeof now);
    way.write(message);
    while (shared.heard.load(std::memory_order_acquire) < round) {
      if (!each.across) ::sched_yield();
    }
  }
}

void read_one_by_one(Case const& each, Way& way, Shared& shared) {
  for (std::uint64_t round = 1; round <= each.rounds; ++round) {
    std::uint64_t const sent = way.read(each.mode == "blocked" || !each.across);
    shared.took[round - 1] = now_ns() - sent;
    shared.heard.store(round, std::memory_order_release);
  }
}

void write_stream(Case const& each, Way& way) {
  Bytes const message(each.size, std::byte{7});
  for (std::size_t round = 0; round < each.rounds; ++round) way.write_more(message);
  way.finish();
}

void read_stream(Case const& each, Way& way, Shared& shared) {
  std::size_t const warm = each.rounds / 10;
  way.read_many(warm);
  std::uint64_t const begin = now_ns();
  way.read_many(each.rounds - warm);
  shared.took[0] = now_ns() - begin;
  shared.heard.store(each.rounds - warm);
}

// One core's pass over a message: copied into another place, and its checksum taken there.
double copy_with_crc(std::size_t size) {
  Bytes const from(size, std::byte{7});
  Bytes to(std::max<std::size_t>(4 << 20, size));
  std::size_t const rounds = std::max<std::size_t>((256 << 20) / size, 10);
  std::uint32_t sum = 0;
  std::uint64_t best = ~0ULL;
  for (int pass = 0; pass < 5; ++pass) {
    std::uint64_t const begin = now_ns();
    for (std::size_t round = 0; round < rounds; ++round) {
      std::byte* const at = to.data() + round * size % (to.size() - size + 1) / 64 * 64;
      std::memcpy(at, from.data(), size);
      sum ^= aether::crc32(std::span(at, size));
    }
    best = std::min(best, now_ns() - begin);
  }
  return sum == 1 ? 0 : static_cast<double>(size * rounds) / static_cast<double>(best);
}

int report(Case const& each, Shared const& shared, bool realtime) {
  std::printf(
      "{\"way\": \"%s\", \"place\": \"%s\", \"mode\": \"%s\", \"size\": %zu, "
      "\"realtime\": %s, ",
      each.way.c_str(), each.across ? "across" : "same", each.mode.c_str(), each.size,
      realtime ? "true" : "false");
  if (each.mode == "stream") {
    double const seconds = static_cast<double>(shared.took[0]) / 1e9;
    double const rate = static_cast<double>(shared.heard.load()) / seconds;
    std::printf("\"per_second\": %.0f, \"gb_per_second\": %.3f, \"copy_with_crc\": %.3f}\n", rate,
                rate * static_cast<double>(each.size) / 1e9, copy_with_crc(each.size));
    return 0;
  }
  std::vector<std::uint64_t> took(shared.took, shared.took + each.rounds);
  took.erase(took.begin(), took.begin() + static_cast<std::ptrdiff_t>(each.rounds / 10));
  std::ranges::sort(took);
  std::printf("\"p50_ns\": %lu, \"p99_ns\": %lu}\n", took.at(took.size() / 2),
              took.at(took.size() * 99 / 100));
  return 0;
}

int run(Case const& each) {
  auto* const shared = static_cast<Shared*>(
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  std::unique_ptr<Way> const way = aether::bench::make_way(each.way);
  if (way == nullptr || each.rounds > Shared::kRoundsMax) return 2;
  pid_t const reader = ::fork();
  bool const realtime = be_realtime();
  if (reader == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin(each.across ? 1 : 0);
    way->begin_reading();
    shared->ready.store(1);
    each.mode == "stream" ? read_stream(each, *way, *shared) : read_one_by_one(each, *way, *shared);
    ::_exit(0);
  }
  pin(0);
  way->begin_writing();
  while (shared->ready.load() == 0) ::usleep(100);
  each.mode == "stream" ? write_stream(each, *way) : write_one_by_one(each, *way, *shared);
  int status = 0;
  ::waitpid(reader, &status, 0);
  return status != 0 ? 1 : report(each, *shared, realtime);
}

}  // namespace

int main(int count, char** words) {
  if (count != 6) {
    std::fputs("ring-driver WAY PLACE MODE SIZE ROUNDS\n", stderr);
    return 2;
  }
  return run({.way = words[1],
              .across = std::string_view(words[2]) == "across",
              .mode = words[3],
              .size = std::strtoul(words[4], nullptr, 10),
              .rounds = std::strtoul(words[5], nullptr, 10)});
}
