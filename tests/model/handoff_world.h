// SPDX-License-Identifier: Apache-2.0
// HandoffWorld: the real swap and retirement machines, Aether's side of SRP and two programs that
// speak it, as one value. A Move is anything that can happen next; the explorer tries them all.
//
// The machines are the product's own code. What Aether's sessions (relay/srp_*.cc, docs/srp.md) and
// the SDK (sdk/python/aeterna/relay.py) do is modelled: messages in order, each connection able to
// end between any two of them, each process able to be slow for ever, to die, or to lie.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "relay/retirement_machine.h"
#include "relay/swap_machine.h"

namespace aether::model {

/// A set of updates, one bit each.
using Updates = std::uint8_t;

inline constexpr std::size_t kRevisions = 3;
inline constexpr std::size_t kInFlightMax = 5;

/// A deliberate defect, to prove that the checks bite. Each is one small change of the protocol.
enum class Mutation : std::uint8_t {
  None,
  ReleaseBeforeAck,       ///< The old one is released when its memory is only on its way.
  NoRelease,              ///< The old one is never told that its memory has an owner.
  FailingOneMayDrain,     ///< The new one may work on when the old one is told to.
  NoResume,               ///< A rollback forgets that the old one stands still.
  ForgetReclaimed,        ///< A rollback gives the old one its own memory, not what came back.
  NoDeadlines,            ///< Silence is waited out for ever.
  RetireOldAtDelivery,    ///< The old one is sent away before the new one has the memory.
  NoSteeringBack,         ///< A rollback leaves new connections with the new one.
  LaneOfTheDeadStays,     ///< What waits for a dead revision is not brought over.
  NoAnswerWithoutMemory,  ///< Who asks when there is nothing is not told so.
  OldWorksWhileExported,  ///< The SDK goes on taking work after it has exported.
  RollbackDoesNotWait,    ///< A rollback ends the new one without asking what it was told is done.
  ResumeYieldsToExport,   ///< RESUME is refused while an export runs.
  ResumeCutsHandBack,     ///< A second rollback cuts what the first one gives back.
  UnreadableIsLeftAlone,  ///< Who cannot read what comes back is not told to work on.
  SlowOneKeepsItsOwn,     ///< Who is slow to take its memory back is told to use its own.
  NothingKept,            ///< Aether drops what it handed back before that is confirmed.
  KeptForAnyone,          ///< What Aether keeps goes to whoever asks first.
  Count,
};

/// How much may happen in one run.
struct Bounds {
  std::uint8_t swaps = 1;
  std::uint8_t updates = 2;
  std::uint8_t faults = 1;  ///< Deaths, lost connections, lies.
  std::uint8_t wishes = 1;  ///< Rollbacks, forced reloads, verdicts of the judge.
};

struct Setup {
  relay::SwapPolicy policy;
  relay::RetirementPolicy retirement;
  Bounds bounds;
  Mutation mutation = Mutation::None;
};

struct Message {
  enum class Kind : std::uint8_t {
    Load,           ///< LOAD
    Export,         ///< EXPORT
    State,          ///< State frames or STATE_FD, with the memory
    NoMemory,       ///< ACK that there is none, of LOAD or of EXPORT
    StateTaken,     ///< ACK of a state
    StateRefused,   ///< ERROR of a state
    ExportRefused,  ///< ERROR of EXPORT
    Resume,         ///< RESUME with the own memory
    ResumeAttached,
    Resumed,  ///< ACK of RESUME
    Release,
    Garbage,
  };
  Kind kind = Kind::Load;
  Updates memory = 0;
  bool damaged = false;
};

/// One direction of a connection.
struct Channel {
  std::array<Message, kInFlightMax> queue{};
  std::uint8_t size = 0;
  [[nodiscard]] bool full() const { return size == kInFlightMax; }
  [[nodiscard]] bool empty() const { return size == 0; }
  void push(Message message) { queue.at(size++) = message; }
  Message pop();
};

struct Process {
  enum class Life : std::uint8_t { None, Runs, Dying, Gone };  ///< Gone: its exit was seen.
  enum class Gate : std::uint8_t { Starting, Loading, Open, Quiesced, Released, Failed };
  Life life = Life::None;
  Gate gate = Gate::Starting;
  bool owns = false;  ///< It takes itself for the owner of the service's memory.
  Updates memory = 0;
  bool has_attached = false;
  Updates attached = 0;
  bool ready = false;
  bool connected = false;
  bool stop_asked = false;
  bool reached = false;  ///< New connections went to it once.
  bool late = false;     ///< It missed a deadline: what only it has may go with it.
  bool keeps = false;    ///< It was asked for its memory, and could not give it.
  bool broke = false;    ///< It broke the protocol or the connection.
  Channel in;            ///< From Aether.
  Channel out;           ///< To Aether.
  [[nodiscard]] bool runs() const { return life == Life::Runs; }
  [[nodiscard]] bool works() const { return runs() && gate == Gate::Open; }
};

/// Aether's side of a connection.
struct Session {
  enum class Exchange : std::uint8_t { None, Export, Reclaim, Deliver, ResumeState, Resume };
  bool open = false;
  Exchange exchange = Exchange::None;
  std::uint8_t swap = 0;  ///< That the exchange is for.
  bool load_asked = false;
  std::uint8_t resumes_unanswered = 0;
};

struct Move {
  enum class Kind : std::uint8_t {
    ClientConnects,
    ClientSendsOn,  ///< On a connection that it has kept.
    Accepts,
    Reload,
    ForceReload,
    Rollback,
    Sick,
    PreflightPasses,
    PreflightFails,
    AsksMemory,
    BecomesReady,
    ForgetsToAsk,
    TakesMessage,
    TakesMessageBadly,
    NoticesTheEnd,
    StopsAsAsked,
    ConnectsAgain,
    Dies,
    CutsConnection,
    AetherReads,
    AetherSeesTheEnd,
    AetherSeesExit,
    QueueIsEmpty,
    LaneIsRetired,
    SessionTimer,
    SwapTimer,
    RetirementTimer,
  };
  Kind kind = Kind::ClientConnects;
  std::uint8_t revision = 0;  ///< 1 and up; 0: about none.
  std::uint8_t way = 0;       ///< Of those that can be done badly: how.
};

/// Thrown when a promise is broken.
struct Broken {
  std::string promise;
};

class HandoffWorld {
 public:
  /// One revision serves, with the memory, and nothing has happened.
  explicit HandoffWorld(Setup const* setup);

  [[nodiscard]] std::vector<Move> moves() const;
  /// Throws Broken.
  void make(Move move);
  /// Aether or the kernel makes it, even if nobody else does anything ever again.
  [[nodiscard]] static bool by_itself(Move move);
  /// No swap runs and nobody retires.
  [[nodiscard]] bool over() const;
  [[nodiscard]] std::string key() const;
  /// Nothing happens any more unless somebody outside begins something.
  [[nodiscard]] bool at_rest() const;
  [[nodiscard]] std::string describe() const;
  [[nodiscard]] std::string describe(Move move) const;
  [[nodiscard]] std::string_view phase() const { return relay::phase_name(swap_); }

 private:
  using Optional = std::optional<Updates>;

  // handoff_world.cc: the moves.
  void list_outside(std::vector<Move>& found) const;
  void list_process(std::vector<Move>& found, std::uint8_t revision) const;
  void list_aether(std::vector<Move>& found) const;
  void list_badly(std::vector<Move>& found, std::uint8_t revision) const;
  void make_outside(Move move);
  void make_timer(Move move);
  Process& process(std::uint8_t revision) { return processes_.at(revision - 1U); }
  [[nodiscard]] Process const& process(std::uint8_t revision) const {
    return processes_.at(revision - 1U);
  }
  Session& session(std::uint8_t revision) { return sessions_.at(revision - 1U); }
  [[nodiscard]] Session const& session(std::uint8_t revision) const {
    return sessions_.at(revision - 1U);
  }

  // handoff_programs.cc: what programs and their SDKs do.
  void make_program(Move move);
  void takes(std::uint8_t revision);
  void takes_badly(std::uint8_t revision, std::uint8_t way);
  void dies(std::uint8_t revision, bool by_itself);
  void accepts(std::uint8_t revision);
  void says(std::uint8_t revision, Message message);

  // handoff_aether.cc: the shell's actions and sessions.
  void begin(bool may);
  void post(relay::SwapEvent const& event);
  void post_for(std::uint8_t swap, relay::SwapEvent const& event);
  void turn(relay::SwapEvent const& event);
  void mutate(relay::SwapState const& before, relay::SwapActions& actions) const;
  void perform(relay::SwapAction const& action);
  void perform_memory(relay::SwapAction const& action);
  void retire(std::uint8_t revision, relay::Farewell farewell);
  void retirement_event(std::uint8_t revision, relay::RetirementEvent event);
  void perform_all(std::uint8_t revision, relay::RetirementActions const& actions);
  void export_from(std::uint8_t revision, Session::Exchange exchange);
  void deliver(std::uint8_t revision, Optional memory, std::uint8_t swap);
  void resume(std::uint8_t revision, Optional memory);
  void send_resume(std::uint8_t revision);
  void end_resume();
  void release(std::uint8_t revision);
  void check_release(std::uint8_t revision) const;
  void tell(std::uint8_t revision, Message message);
  void swap_is_over();
  void make_aether(Move move);
  void reads(std::uint8_t revision);
  void answers(std::uint8_t revision, Message message);
  void exported(std::uint8_t revision, Message message);
  void asked(std::uint8_t revision);
  void exchange_fails(std::uint8_t revision);
  void close(std::uint8_t revision);
  void exit_seen(std::uint8_t revision);
  [[nodiscard]] bool speaks(std::uint8_t revision) const;

  // handoff_checks.cc
  void check() const;
  void check_rest() const;
  void check_waiting(std::uint8_t revision) const;
  [[nodiscard]] Updates held_elsewhere(std::uint8_t than) const;
  [[nodiscard]] bool idle() const { return relay::is_idle(swap_); }
  [[noreturn]] void broken(std::string promise) const;

  Setup const* setup_;
  relay::SwapState swap_;
  std::array<Process, kRevisions> processes_{};
  std::array<Session, kRevisions> sessions_{};
  std::array<std::optional<relay::Retirement>, kRevisions> retirements_{};
  std::array<Updates, kRevisions> lanes_{};
  std::array<bool, kRevisions> lane_to_retire_{};
  std::array<bool, kRevisions> queue_watched_{};  ///< By the swap.
  std::array<bool, kRevisions> drain_watched_{};  ///< By the retirement.
  std::array<bool, kRevisions> release_waits_{};
  std::uint8_t steered_ = 1;
  std::uint8_t serving_ = 1;
  std::uint8_t revisions_ = 1;
  std::uint8_t resuming_ = 0;  ///< Whose RESUME is unanswered: a RELEASE waits for it.

  std::uint8_t swap_number_ = 0;
  std::uint8_t old_ = 0, next_ = 0;
  bool swap_runs_ = false;
  bool preflight_ = false;
  bool export_waits_ = false;  ///< For the RESUME of an earlier swap to be answered.
  bool judge_ = false;
  bool next_asked_ = false;
  bool reload_waits_ = false;
  std::uint8_t verdicts_ = 0;
  Optional memory_, reclaimed_, orphaned_;
  bool restart_ = false;  ///< The restart policy has the service.

  Updates accepted_ = 0;
  Updates excused_ = 0;  ///< Gone with the only one that had them, who died or would not give.
  std::uint8_t sent_ = 0;
  std::uint8_t faults_ = 0, wishes_ = 0;
  std::vector<relay::SwapEvent> inbox_;  ///< Empty between moves.
  bool turning_ = false;
  bool forgets_ = false;  ///< The policy says that memory may be forgotten, and it was.
};

}  // namespace aether::model
