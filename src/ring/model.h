// SPDX-License-Identifier: Apache-2.0
// An explorer of all executions of a few threads under a weak memory order, for tests. The threads
// run the real code, as fibers; each access to shared memory is a step, and at each step every
// thread that can go on does, with every value that it may see.
//
// The memory is C++20's but for two things: a store takes effect when its thread performs it (no
// load sees a store that its own thread has still to come to), and a location's stores are ordered
// as they are performed. A load may see any store of its location that is not older than one this
// thread knows of (its view); release stores carry the view of their thread, acquire loads take it
// over; a sequentially consistent fence joins the view with that of all such fences before. Plain
// accesses are checked for races by vector clocks; where there is none, they and what only one
// thread touches cannot be told apart by when they happen, and are no steps. States that were met
// before are not walked through again: an execution is cut where it joins another.
#pragma once
#include <ucontext.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace aether::ring::model {

inline constexpr std::size_t kLocationsMax = 64;
inline constexpr std::size_t kThreadsMax = 3;
inline constexpr std::size_t kStepsMax = 600;  // Longer means that a loop waits for nothing.

/// One planted mistake, at all places of this name.
struct Mistake {
  std::string_view site;
  enum class Kind : std::uint8_t {
    None,
    Relaxed,    ///< its order becomes relaxed
    NoFence,    ///< the fence is left out
    Unlooked,   ///< the load is left out: it gives 0
    Unwritten,  ///< the store is left out
  } kind = Kind::None;
};

using View = std::array<std::uint8_t, kLocationsMax>;
using Clock = std::array<std::uint16_t, kThreadsMax>;

/// What one thread knows.
struct Knowledge {
  View view{};
  Clock clock{};
  void join(Knowledge const& other);
  bool operator==(Knowledge const&) const = default;
};

struct Program {
  std::vector<std::function<void()>> threads;
  /// What must hold when all threads have ended; empty if it does.
  std::function<std::string()> verdict;
  /// The thread that may be killed between any two of its steps, -1: none.
  int mortal = -1;
};

struct Outcome {
  std::string failure;  ///< empty: none was found
  std::size_t executions = 0;
  std::size_t states = 0;
};

class Explorer {
 public:
  /// Runs every execution of the program that `make` gives (afresh each time), until one fails.
  Outcome run(std::function<Program()> const& make, Mistake mistake = {});

  // What the threads' accesses come down to. `size` in bytes.
  std::uint64_t load(std::string_view site, void const* at, std::size_t size, int order);
  void store(std::string_view site, void* at, std::size_t size, std::uint64_t value, int order);
  std::uint64_t exchange(std::string_view site, void* at, std::size_t size, std::uint64_t value);
  bool compare_exchange(std::string_view site, void* at, std::size_t size, std::uint64_t& expected,
                        std::uint64_t desired);
  void fence(std::string_view site);
  void plain_write(void* at, std::uint64_t value);
  std::uint64_t plain_read(void const* at);
  void futex_wait(void* at, std::uint32_t value);
  void futex_wake(void* at);
  /// Whether the mortal thread is dead; who learns that it is sees all it has done.
  bool dead();
  /// Waits until every other thread has ended or is dead, and then sees all they have done.
  void join_others();
  void fail(std::string message);

 private:
  struct Store {
    std::uint64_t value;
    Knowledge carried;
  };
  struct Location {
    std::vector<Store> stores;
    int writer = -1;  // plain accesses: who wrote last, when, and when each thread last read
    Clock reads{};
    std::uint16_t written = 0;
    std::size_t owner = kThreadsMax;  // the only thread that was seen here
    bool shared = false;
  };
  enum class Step : std::uint8_t { Begin, Load, Other, FutexWait, Blocked, Join, Ended, Killed };
  struct Thread {
    ucontext_t context{};
    std::unique_ptr<char[]> stack;
    std::function<void()> const* body = nullptr;
    Step pending = Step::Begin;
    std::size_t location = 0;
    std::uint64_t awaited = 0;
    std::uint64_t history = 0;
    Knowledge known;
    Knowledge released;  // by the last fence: what its relaxed stores carry
    Knowledge pending_acquire;
  };

  static void enter(unsigned low, unsigned high);
  void start(Program const& program);
  bool extend();
  [[nodiscard]] std::size_t alternatives(Thread const& thread) const;
  [[nodiscard]] bool others_are_over(Thread const& thread) const;
  bool choose();
  std::size_t pause(Step step, std::size_t location);
  std::size_t pause_if_shared(Step step, std::size_t location);
  std::size_t locate(void const* at, std::size_t size);
  void append(Location& location, std::size_t index, std::uint64_t value, bool release,
              Knowledge const* also);
  void acquire(Store const& store, bool now);
  void remember(std::uint64_t value);
  [[nodiscard]] bool planted(std::string_view site, Mistake::Kind kind) const {
    return mistake_.kind == kind && mistake_.site == site;
  }
  [[nodiscard]] std::uint64_t fingerprint() const;
  [[nodiscard]] std::string blocked() const;
  void race(Location& location, bool writes);

  Mistake mistake_;
  Program const* program_ = nullptr;
  std::map<void const*, std::size_t> indices_;
  std::vector<std::pair<void const*, std::size_t>> addresses_;
  std::vector<Location> locations_;
  std::array<Thread, kThreadsMax> threads_;
  std::size_t count_ = 0;
  std::size_t current_ = 0;
  std::size_t alternative_ = 0;
  ucontext_t scheduler_{};
  Knowledge fences_;
  std::vector<std::pair<std::size_t, std::size_t>> choices_;  // taken, of how many
  std::size_t depth_ = 0;
  std::unordered_set<std::uint64_t> seen_;
  std::string failure_;
  bool learnt_ = false;  // a location was found to be shared: all is walked through again
};

}  // namespace aether::ring::model
