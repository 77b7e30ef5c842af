// SPDX-License-Identifier: Apache-2.0
// SwapWorld: a service with processes, accept queues and memory, as far as a swap can tell it from
// a real one. It performs the swap machine's actions with random delays, lets things go wrong
// between any two of them, and checks after every happening that no promise is broken.
//
// What is taken for granted, as the shell guarantees it: exits are always reported, if late; other
// news may be lost, late or told twice; news of an earlier swap is kept from the machine; an event
// waits until the actions of the one before are performed.
#pragma once
#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "agenda.h"
#include "random.h"
#include "relay/swap_machine.h"

namespace aether::sim {

/// A promise was broken; the text says which, and where the swap stood.
class BrokenPromise : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Statistics {
  std::uint64_t swaps = 0;
  std::uint64_t succeeded = 0;
  std::uint64_t failed = 0;
  std::uint64_t had_to_succeed = 0;
  std::uint64_t gave_up = 0;
  std::uint64_t happenings = 0;
  std::uint64_t connections = 0;
  std::uint64_t dropped = 0;
  std::uint64_t memory_checked = 0;  ///< Swaps after which each update was found again.
  std::uint64_t retired = 0;
  std::uint64_t hurried = 0;    ///< Of these, ended early because they were in the way.
  std::uint64_t reclaimed = 0;  ///< Rollbacks that brought the new one's memory back.
  std::array<std::uint64_t, std::variant_size_v<relay::SwapState>> phases{};
  std::map<std::string, std::uint64_t, std::less<>> actions;
};

class SwapWorld {
 public:
  explicit SwapWorld(std::uint64_t seed, bool trace = false);
  ~SwapWorld();
  SwapWorld(SwapWorld const&) = delete;
  SwapWorld& operator=(SwapWorld const&) = delete;

  /// One swap to its end. Throws BrokenPromise.
  void swap_once();
  [[nodiscard]] Statistics const& statistics() const { return statistics_; }
  /// The last happenings, when tracing.
  [[nodiscard]] std::string trace() const;

 private:
  struct Process {
    RevisionId revision;
    bool alive = true;
    bool killed = false;    ///< It runs no code of its own any more, and is about to be gone.
    bool reported = false;  ///< The shell knows of its exit.
    bool ready = false;
    bool stopping = false;
    bool quiesced = false;
    bool waiting = false;  ///< In load_context().
    bool asked = false;
    bool owner = false;  ///< It changes the service's memory.
    bool past = false;   ///< Of an earlier swap: it only finishes what it has.
    std::uint64_t updates = 0;
    std::uint64_t held = 0;  ///< Connections accepted and not yet answered.
    [[nodiscard]] bool runs() const { return alive && !killed; }
  };
  using ProcessPtr = std::shared_ptr<Process>;

  /// How a step that somebody else does turns out.
  enum class Fate : std::uint8_t { Good, Fails, Hangs };

  /// What is decided by lot for one swap.
  struct Plan {
    relay::SwapPolicy policy;
    Fate hooks = Fate::Good;
    Fate launch = Fate::Good;
    Fate exporting = Fate::Good;
    Fate delivery = Fate::Good;
    Fate reclaim = Fate::Good;
    bool asks = true;           ///< The new one calls load_context().
    bool asks_late = false;     ///< ... after it was taken for ready.
    bool ignores_stop = false;  ///< The old one does nothing on its stop signal.
    bool immortal = false;      ///< A killed process stays longer than the stop limit.
    relay::RetirementPolicy retirement;
    std::size_t revisions_max = 2;
    /// Nothing goes wrong that the policy does not allow for: the swap must succeed.
    bool must_succeed = false;
    std::uint64_t sudden = 0;  ///< One action in so many is preceded by a sudden death; 0: none.
  };

  // swap_world.cc: the service's life and the clients.
  ProcessPtr start_process(RevisionId revision);
  [[nodiscard]] ProcessPtr find(RevisionId revision) const;
  [[nodiscard]] bool exit_unreported(RevisionId revision) const;
  void becomes_ready(ProcessPtr const& process);
  void asks_memory(ProcessPtr const& process);
  void dies(ProcessPtr const& process);
  void exit_seen(ProcessPtr const& process);
  void plan_restart();
  void restart(std::uint64_t round);
  void client_arrives();
  void accept(RevisionId revision);
  void answer_one(ProcessPtr const& process);
  void serve_all(Process& process);
  void apply_update(Process& process);
  [[nodiscard]] bool news_for(std::uint64_t swap) const;
  void note(std::string_view what);

  // swap_world_actions.cc: the machine and its actions.
  void tell(relay::SwapEvent event);
  void tell_later(relay::SwapEvent event);
  void turn();
  void perform_next();
  void tick_when_due();
  void perform(relay::action::RunPreflight);
  void perform(relay::action::Launch a);
  void perform(relay::action::SteerTo a);
  void perform(relay::action::Split a);
  void perform(relay::action::WatchQueue a);
  void perform(relay::action::ExportMemory a);
  void perform(relay::action::DeliverMemory a);
  void perform(relay::action::Release a);
  void perform(relay::action::ReclaimMemory a);
  void perform(relay::action::Resume a);
  void perform(relay::action::StartJudge);
  void perform(relay::action::StopJudge);
  void perform(relay::action::Stop a);
  void perform(relay::action::Kill a);
  void perform(relay::action::Retire a);
  void perform(relay::action::RetireLane a);
  void perform(relay::action::Succeed const& a);
  void perform(relay::action::Fail const& a);
  void perform(relay::action::GiveUp const& a);
  void delivered(ProcessPtr const& next, std::optional<std::uint64_t> memory, bool abort);
  void stop(ProcessPtr const& process);
  void kill(ProcessPtr const& process);
  void move_lane(RevisionId revision);
  [[nodiscard]] bool is_given(RevisionId revision) const;

  // swap_world_retire.cc: revisions that end.
  void tell_retiree(RevisionId revision, relay::RetirementEvent event);
  void carry_out(RevisionId revision, relay::RetirementActions const& actions);
  void watch_retiree_queue(RevisionId revision);
  void watch_use(RevisionId revision);
  void tick_retiree_when_due(RevisionId revision);
  void make_room();
  [[nodiscard]] bool has_room() const;

  // swap_world_checks.cc: the plan of a swap, and what must hold.
  void draw_plan();
  [[nodiscard]] relay::RetirementPolicy draw_retirement();
  void let_it_succeed();
  void plan_disturbances();
  void disturb();
  void settle();
  void check() const;
  void check_lanes() const;
  [[nodiscard]] bool process_to_come(RevisionId revision) const;
  void check_owners() const;
  void check_end() const;
  void check_settled();
  [[noreturn]] void broken(std::string const& promise) const;

  Random random_;
  Agenda agenda_;
  Statistics statistics_;
  bool tracing_;
  std::deque<std::string> notes_;

  relay::SwapState state_;
  Plan plan_;
  std::deque<relay::SwapAction> pending_;
  std::deque<relay::SwapEvent> inbox_;
  std::uint64_t swap_ = 0;  ///< The number of the running swap, or of the last one.
  RevisionId old_, next_;
  std::uint64_t revisions_ = 1;
  ProcessPtr old_process_;  ///< The old revision's, as the swap began.
  int verdicts_ = 0;
  bool succeeded_ = false;
  bool gave_up_ = false;

  RevisionId serving_;
  RevisionId steered_;
  int percent_ = 100;  ///< Of what is new, to `steered_`; the rest goes to `other_`.
  RevisionId other_;
  std::vector<ProcessPtr> processes_;
  std::map<RevisionId, relay::Retirement> retirees_;
  std::size_t most_before_ = 0;                ///< Processes that there were as the swap began.
  std::map<RevisionId, std::uint64_t> lanes_;  ///< Connections waiting in each.
  std::uint64_t restart_round_ = 0;
  bool restart_planned_ = false;
  bool clients_come_ = true;
  std::uint64_t arrived_ = 0, answered_ = 0, dropped_ = 0;

  bool has_memory_ = false;
  std::uint64_t applied_ = 0;  ///< Updates that clients were told of.
  std::uint64_t floor_ = 0;    ///< Updates that the old one had when it exported.
  bool may_forget_ = false;    ///< A fault took memory that nobody else had, or the policy did.
  bool forgot_ = false;        ///< The new one has begun a memory of its own beside the old one's.
  bool next_owned_ = false;
  std::optional<std::uint64_t> exported_;
  std::optional<std::uint64_t> reclaimed_;
};

}  // namespace aether::sim
