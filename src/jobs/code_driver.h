// SPDX-License-Identifier: Apache-2.0
// The driver of an agent with code: what the run does next is what the worker that holds it asks
// for. Pure: messages and the state go in; decisions, and answers from what is durable, come out.
//
// One driver is one holding of the run, by one worker. The code is run from its beginning, asks for
// its steps again, and is given what is recorded; what it asks for beyond that is decided. A step
// is known by its path. Code that asks for other steps than those recorded diverges: the run is
// stuck, the message names what was recorded and what came, and the right code may go on with it.
#pragma once
#include <cstdint>
#include <deque>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "jobs/call_step.h"
#include "jobs/driver.h"
#include "jobs/work_message.h"

namespace aether::jobs {

/// Where an answer belongs.
struct WorkPlace {
  std::uint64_t frame = 0;
  std::size_t index = 0;
  bool operator==(WorkPlace const&) const = default;
};
struct WorkAnswer {
  WorkPlace place;
  boost::json::object body;
};

class CodeDriver final : public Driver {
 public:
  /// What is asked stays until answers() has an answer for it.
  void ask(WorkPlace place, WorkMessage message);
  /// Does not wait for an answer any more; what it began goes on.
  void forget(std::uint64_t frame);
  [[nodiscard]] std::size_t pending() const { return pending_.size(); }

  [[nodiscard]] std::vector<Decision> decide(RunState const& state) const override;
  /// What can be said now, in the order in which it was asked. `state` is durable.
  [[nodiscard]] std::vector<WorkAnswer> answers(RunState const& state);

 private:
  struct Pending {
    WorkPlace place;
    WorkMessage message;
  };
  /// Whether the message has its answer in the state, and nothing is to be decided for it.
  [[nodiscard]] bool is_met(RunState const& state, WorkMessage const& message) const;
  void decide_for(RunState const& state, WorkMessage const& message,
                  std::vector<Decision>& decisions) const;
  void decide_begin(RunState const& state, WorkMessage const& message,
                    std::vector<Decision>& decisions) const;
  void decide_end(RunState const& state, WorkMessage const& message,
                  std::vector<Decision>& decisions) const;
  void decide_call(RunState const& state, WorkMessage const& message,
                   std::vector<Decision>& decisions) const;
  void decide_wait(RunState const& state, WorkMessage const& message,
                   std::vector<Decision>& decisions) const;
  void decide_close(RunState const& state, WorkMessage const& message,
                    std::vector<Decision>& decisions) const;
  /// Notes that the step was asked for. What is wrong with that, if something is.
  [[nodiscard]] std::optional<Diverged> visit(RunState const& state,
                                              WorkMessage const& message) const;
  void note_going_on(RunState const& state);
  [[nodiscard]] std::optional<std::string> passed_over(RunState const& state) const;
  [[nodiscard]] EffectState const* effect_of(RunState const& state,
                                             WorkMessage const& message) const;

  std::deque<Pending> pending_;
  /// Frames that are told of a wait that is over: the worker goes on with it.
  std::set<std::uint64_t> going_on_;
  mutable RunMemory memory_;
  mutable std::set<std::string, std::less<>> visited_;  ///< Paths that this holding asked for.
  mutable std::optional<std::size_t> recorded_;         ///< Steps that it found.
  mutable std::size_t replayed_ = 0;                    ///< Of those, what it asked for.
};

}  // namespace aether::jobs
