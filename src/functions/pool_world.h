// SPDX-License-Identifier: Apache-2.0
// For the tests of the pool machine: the smallest world in which its actions mean something, a
// gateway and processes. It keeps what the shell promises, and checks what the machine promises.
#pragma once
#include <cstdint>
#include <deque>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "functions/pool_machine.h"

namespace aether::functions::testing {

struct BrokenPromise : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class PoolWorld {
 public:
  struct Process {
    enum class State : std::uint8_t { Making, Running, Freezing, Frozen, Thawing, Ending };
    State state = State::Making;
    RevisionId revision;
    bool offered = false;
    bool withdrawn = false;  ///< Gets no more; Drained is owed.
    std::uint32_t in_flight = 0;
    bool operator==(Process const&) const = default;
  };
  enum class Answer : std::uint8_t { Well, Badly };

  // ---- What may happen. False: not here and now.
  void deploy(RevisionId revision, PoolPolicy const& policy);
  void scale(std::uint32_t wish) { tell(pool::Scale{wish}); }
  void stop() { tell(pool::StopAsked{}); }
  void arrive();
  bool finish(InstanceId instance);
  /// What is owed for this instance: Started, Frozen, Thawed, Drained, Gone.
  bool answer(InstanceId instance, Answer how);
  bool die(InstanceId instance);
  bool unreachable(InstanceId instance);
  /// The clock goes on to what is due.
  bool tick();
  /// Of the gateway's letters, if they are held back.
  bool deliver();

  /// Everything is answered well, nothing comes any more: the world must come to rest, with nobody
  /// waiting and what the policy asks for.
  void come_to_rest();
  /// As come_to_rest, when all starts fail: nobody may wait for ever.
  void refuse_all();
  /// Stopped, it must end.
  void come_to_an_end();

  PoolMachine machine;
  std::map<InstanceId, Process> processes;
  std::uint32_t queue = 0;
  Instant now{std::chrono::seconds(1)};
  std::uint64_t ids = 0;
  bool holds_letters = false;
  std::deque<PoolInput> letters;  ///< Of the gateway, on their way.
  // Ever.
  std::uint64_t starts = 0;
  std::uint64_t served = 0;
  std::uint64_t refused = 0;
  std::uint64_t cut_off = 0;
  std::uint64_t story = 14695981039346656037U;  ///< A hash of all that was said (FNV-1a).
  std::vector<std::string>* trace = nullptr;

 private:
  using State = Process::State;
  [[nodiscard]] bool fair_step(Answer starts_go);
  void run_down(Answer starts_go);

  void tell(PoolInput const& input);
  /// The gateway says it: at once, or in a letter.
  void say(PoolInput input);
  /// The machine hears what was said.
  void pump();
  void remember(std::string const& text);
  void hand_out();
  Process& process(InstanceId instance, char const* action);

  void perform(pool::Start const& action);
  void perform(pool::Freeze const& action);
  void perform(pool::Thaw const& action);
  void perform(pool::Offer const& action);
  void perform(pool::Withdraw const& action);
  void perform(pool::End const& action);
  void perform(pool::FailWaiting const& action);
  void perform(pool::DropRevision const& action);
  void check(bool ticked);
  [[nodiscard]] bool due() const;

  std::deque<PoolInput> said_;
  bool telling_ = false;
  std::uint64_t starts_seen_ = 0;
};

}  // namespace aether::functions::testing
