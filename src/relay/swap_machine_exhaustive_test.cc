// SPDX-License-Identifier: Apache-2.0
// Every state that a swap can reach, under every policy, with every event in each: what holds
// always is checked in all of them.
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "relay/swap_machine.h"
#include "relay/swap_machine_moves.h"

namespace aether::relay {
namespace {

using swap::Cases;

constexpr RevisionId kOld{1};
constexpr RevisionId kNext{2};
/// Far beyond what a swap needs: more steps of silence than this is a swap that never ends.
constexpr int kSilentStepsMax = 10;

std::vector<SwapEvent> all_events() {
  return {event::ReloadRequested{RevisionId{3}},
          event::PreflightPassed{},
          event::PreflightFailed{"hook"},
          event::NextReady{false},
          event::NextReady{true},
          event::NextAskedMemory{},
          event::QueueEmpty{},
          event::Exported{},
          event::ExportFailed{"export"},
          event::Delivered{},
          event::DeliveryFailed{"delivery"},
          event::Reclaimed{false},
          event::Reclaimed{true},
          event::NextSick{"sick"},
          event::NextExited{"exit"},
          event::OldExited{"exit"},
          event::RollbackRequested{"rollback"},
          event::OldReady{},
          event::Tick{}};
}

std::vector<SwapPolicy> all_policies() {
  std::vector<SwapPolicy> policies;
  for (int bits = 0; bits < 32; ++bits) {
    SwapPolicy policy;
    policy.overlap = (bits & 1) != 0 ? SwapPolicy::Overlap::No : SwapPolicy::Overlap::Yes;
    policy.on_handoff_failure = (bits & 2) != 0 ? SwapPolicy::OnHandoffFailure::Continue
                                                : SwapPolicy::OnHandoffFailure::Abort;
    policy.soak = std::chrono::seconds((bits & 4) != 0 ? 0 : 30);
    policy.warmup = std::chrono::seconds((bits & 8) != 0 ? 3 : 0);
    if ((bits & 16) != 0)
      policy.parts = {{{}, 10}, {std::chrono::seconds(5), 50}, {std::chrono::seconds(9), 100}};
    policies.push_back(policy);
  }
  return policies;
}

std::string describe(SwapPolicy const& policy) {
  return fmt::format("overlap {}, continue {}, soak {}, warmup {}, {} parts",
                     policy.overlap == SwapPolicy::Overlap::Yes,
                     policy.on_handoff_failure == SwapPolicy::OnHandoffFailure::Continue,
                     format_duration(policy.soak), format_duration(policy.warmup),
                     policy.parts.size());
}

/// All of a state that its future depends on, with times as they lie ahead.
std::string key(SwapState const& state, Instant now) {
  std::string text(phase_name(state));
  text += fmt::format(" #{}", state.index());
  std::visit(Cases{[&](Idle const& s) { text += fmt::format(" serving {}", s.serving); },
                   [&](auto const& s) {
                     text +=
                         fmt::format(" {}/{} steered {} alive {} memory {} due {}", s.old, s.next,
                                     s.steered, s.old_alive, int(s.memory), (s.due - now).count());
                     if constexpr (requires { s.part; }) text += fmt::format(" part {}", s.part);
                     if constexpr (requires { s.stage; })
                       text += fmt::format(" stage {}", int(s.stage));
                     if constexpr (requires { s.killed; })
                       text += fmt::format(" killed {}", s.killed);
                     if constexpr (requires { s.rollback; })
                       text += fmt::format(" back {}", !s.rollback.empty());
                     if constexpr (requires { s.asked_memory; })
                       text += fmt::format(" asked {}", s.asked_memory);
                     if constexpr (requires { s.next_ready; })
                       text += fmt::format(" ready {}", s.next_ready);
                     if constexpr (requires { s.forgets; })
                       text += fmt::format(" forgets {}", s.forgets);
                     if constexpr (requires { s.next_served; })
                       text += fmt::format(" served {}", s.next_served);
                   }},
             state);
  return text;
}

/// The smallest world that the actions mean something in.
struct Process {
  bool alive = false;
  bool killed = false;
  bool quiesced = false;    ///< It was asked for its memory, and waits.
  bool may_own = false;     ///< It may be changing the service's memory.
  bool waiting = false;     ///< It asked for memory and has no answer.
  bool being_told = false;  ///< Memory, or that there is none, is on its way to it.
  bool retired = false;     ///< It is sent away: how it ends is no concern of the swap's.
  auto operator<=>(Process const&) const = default;
};

struct World {
  Process old;
  Process next;
  RevisionId steered = kOld;
  int percent = 100;  ///< Of what is new, to `steered`; the rest goes to the other one.
  int verdicts = 0;
  bool gave_up = false;
  auto operator<=>(World const&) const = default;

  Process& of(RevisionId revision) { return revision == kOld ? old : next; }

  /// False: the event cannot happen in this world.
  bool happens(SwapEvent const& event) {
    return std::visit(
        Cases{[&](event::NextExited const&) {
                if (!next.alive) return false;
                next = Process{};
                return true;
              },
              [&](event::OldExited const&) {
                if (!old.alive) return false;
                old = Process{};
                return true;
              },
              [&](event::NextAskedMemory const&) {
                // Who waits for an answer cannot ask again.
                if (!next.alive || next.being_told) return false;
                next.waiting = true;
                return true;
              },
              [&](event::Reclaimed const& e) {
                if (e.memory && next.quiesced) next.may_own = false;
                return next.alive;
              },
              [&](event::DeliveryFailed const&) {
                next.may_own = false;
                return std::exchange(next.being_told, false);
              },
              [&](event::Exported const&) { return old.alive; },
              [&](event::ExportFailed const&) { return old.alive; },
              [&](event::OldReady const&) { return old.alive; },
              [&](event::NextReady const&) { return next.alive; },
              [&](event::Delivered const&) { return std::exchange(next.being_told, false); },
              [&](event::NextSick const&) { return next.alive; }, [](auto const&) { return true; }},
        event);
  }
};

using Problems = std::vector<std::string>;

/// Performs actions in the world and says what is wrong with them.
struct Performer {
  World& world;
  SwapActions const& actions;
  Problems& problems;

  void require(bool good, std::string_view what) {
    if (!good) problems.emplace_back(what);
  }
  /// Its process is to come: launched or left to the restart policy in this very step.
  [[nodiscard]] bool comes(RevisionId revision) const {
    for (SwapAction const& action : actions) {
      if (std::holds_alternative<action::GiveUp>(action)) return true;
      auto const* launch = std::get_if<action::Launch>(&action);
      if (launch != nullptr && launch->revision == revision) return true;
    }
    return false;
  }

  void perform(action::Launch a) {
    Process& process = world.of(a.revision);
    require(!process.alive || process.killed, "launches a revision that lives");
    process = Process{.alive = true, .may_own = a.revision == kOld};
  }
  void perform(action::SteerTo a) {
    require(a.revision == kOld || a.revision == kNext, "steers to a stranger");
    require(world.of(a.revision).alive || comes(a.revision), "steers to the dead");
    world.steered = a.revision;
    world.percent = 100;
  }
  void perform(action::Split a) {
    require(a.revision == kNext && a.other == kOld, "splits between strangers");
    needs_life(a.revision, "gives a part to the dead");
    needs_life(a.other, "leaves the rest to the dead");
    require(a.percent > world.percent || world.steered == kOld, "takes back what it gave");
    require(!world.old.quiesced, "splits with one whose memory was taken");
    world.steered = a.revision;
    world.percent = a.percent;
  }
  void perform(action::ExportMemory a) {
    needs_life(a.from, "exports from the dead");
    world.of(a.from).quiesced = true;
    world.of(a.from).may_own = false;
  }
  void perform(action::DeliverMemory a) {
    needs_life(a.to, "delivers to the dead");
    require(!world.old.alive || !world.old.may_own || !world.next.waiting || !handing_off,
            "gives memory away that the old one still changes");
    world.of(a.to).waiting = false;
    world.of(a.to).being_told = true;
    world.of(a.to).may_own = true;
  }
  void perform(action::ReclaimMemory a) {
    needs_life(a.from, "reclaims from the dead");
    world.of(a.from).quiesced = true;
  }
  void perform(action::Resume a) {
    needs_life(a.revision, "resumes the dead");
    Process const& other = a.revision == kOld ? world.next : world.old;
    require(!other.alive || other.killed || !other.may_own, "two revisions own the memory");
    require(!a.with_reclaimed_memory || !forgot, "overwrites the old one's memory with less");
    world.of(a.revision).quiesced = false;
    world.of(a.revision).may_own = true;
  }
  void perform(action::Release a) { needs_life(a.revision, "releases the dead"); }
  void perform(action::WatchQueue a) { needs_life(a.revision, "watches the queue of the dead"); }
  void perform(action::Stop a) { needs_life(a.revision, "stops the dead"); }
  void perform(action::Kill a) {
    needs_life(a.revision, "kills the dead");
    world.of(a.revision).killed = true;
  }
  void perform(action::Retire a) {
    needs_life(a.revision, "retires the dead");
    require(world.steered != a.revision, "retires the revision that is steered to");
    Process& process = world.of(a.revision);
    if (a.farewell == Farewell::AtOnce) process.killed = true;
    process.retired = true;
  }
  void perform(action::RetireLane a) {
    Process const& process = world.of(a.revision);
    require(!process.alive || process.killed, "retires the lane of the living");
    require(world.steered != a.revision, "retires the lane that is steered to");
  }
  void perform(action::Succeed const&) { ++world.verdicts; }
  void perform(action::Fail const&) { ++world.verdicts; }
  void perform(action::GiveUp const&) { world.gave_up = true; }
  void perform(action::RunPreflight) {}
  void perform(action::StartJudge) {}
  void perform(action::StopJudge) {}

  void needs_life(RevisionId revision, std::string_view what) {
    require(world.of(revision).alive && !world.of(revision).killed, what);
  }

  bool handing_off = false;
  bool forgot = false;
};

struct Node {
  SwapState state;
  World world;
  Instant now;
  std::size_t parent = 0;
  std::string event;
};

class Explorer {
 public:
  explicit Explorer(SwapPolicy policy) : policy_(policy) {
    for (bool const old_alive : {true, false}) {
      Node start{Idle{kOld}, World{}, Instant(std::chrono::hours(1)), 0, "start"};
      start.world.old = Process{.alive = old_alive, .may_own = old_alive};
      nodes_.push_back(start);
      take(nodes_.size() - 1, event::ReloadRequested{kNext, old_alive});
    }
  }

  void run() {
    for (std::size_t i = 0; i < nodes_.size() && problems_.empty(); ++i) {
      if (is_idle(nodes_[i].state)) continue;
      for (SwapEvent const& event : all_events()) take(i, event);
      ends_in_silence(nodes_[i]);
      waits_for_its_time(nodes_[i]);
    }
  }

  [[nodiscard]] Problems const& problems() const { return problems_; }
  [[nodiscard]] std::size_t size() const { return nodes_.size(); }
  [[nodiscard]] std::set<std::size_t> const& phases() const { return phases_; }
  [[nodiscard]] std::set<std::string> const& performed() const { return performed_; }

 private:
  void take(std::size_t from, SwapEvent const& event) {
    Node node = nodes_[from];
    node.parent = from;
    node.event = std::string(event_name(event));
    if (!node.world.happens(event)) return;
    if (std::holds_alternative<event::Tick>(event)) node.now = *due(node.state);
    Problems found;
    turn(node, event, found);
    for (std::string const& problem : found) {
      problems_.push_back(fmt::format("{}: {}", problem, path(node)));
    }
    phases_.insert(node.state.index());
    std::string const mark = key(node.state, node.now);
    if (seen_.emplace(mark, node.world).second) nodes_.push_back(std::move(node));
  }

  void turn(Node& node, SwapEvent const& event, Problems& found) {
    SwapState const before = node.state;
    SwapActions const actions = step(node.state, event, node.now, policy_);
    auto const* handing = std::get_if<HandingOff>(&before);
    Performer performer{node.world, actions, found};
    performer.handing_off = handing != nullptr;
    performer.forgot = handing != nullptr && handing->forgets;
    for (SwapAction const& action : actions) {
      std::visit([&](auto const& a) { performer.perform(a); }, action);
      performed_.emplace(action_name(action));
    }
    if (percent(node.state, policy_) != node.world.percent)
      found.emplace_back("gives another part than its state says");
    check(node, actions, found);
  }

  static void check(Node const& node, SwapActions const& actions, Problems& found) {
    auto const require = [&](bool good, std::string_view what) {
      if (!good) found.emplace_back(what);
    };
    require(steered(node.state) == node.world.steered, "is not steered where its state says");
    require(is_idle(node.state) != due(node.state).has_value(), "has no deadline");
    Process const& rest = node.world.steered == kOld ? node.world.next : node.world.old;
    require(node.world.percent == 100 || (rest.alive && !rest.killed && !rest.retired),
            "gives a part to one that does not serve");
    require(node.world.verdicts <= 1, "tells two verdicts");
    bool const retired = node.world.old.retired || node.world.next.retired;
    if (!is_idle(node.state)) {
      require(!node.world.gave_up, "gave up and goes on");
      require(!retired, "sends a revision away and goes on");
      require(node.world.verdicts == 0, "tells its verdict and goes on");
      return;
    }
    require(node.world.verdicts == 1, "ends without a verdict");
    bool const gives_up = std::ranges::any_of(actions, [](SwapAction const& action) {
      return std::holds_alternative<action::GiveUp>(action);
    });
    RevisionId const serving = std::get<Idle>(node.state).serving;
    Process const& process = serving == kOld ? node.world.old : node.world.next;
    bool const serves = process.alive && !process.killed;
    Process const& other = serving == kOld ? node.world.next : node.world.old;
    require(serves != gives_up, "nobody serves in the end");
    require(!process.retired, "sends away the revision that serves");
    require(!other.alive || other.retired || other.killed, "leaves a revision behind");
    require(!serves || !process.quiesced, "the serving revision still stands still");
    require(!serves || !process.waiting, "the serving revision waits for memory for ever");
  }

  /// Nobody ever answers: time alone ends the swap.
  void ends_in_silence(Node node) {
    int steps = 0;
    for (; !is_idle(node.state) && steps < kSilentStepsMax; ++steps) {
      node.now = *due(node.state);
      std::ignore = step(node.state, event::Tick{}, node.now, policy_);
    }
    if (!is_idle(node.state)) problems_.push_back("never ends in silence: " + path(node));
  }

  void waits_for_its_time(Node node) {
    node.now = *due(node.state) - std::chrono::nanoseconds(1);
    std::string const before = key(node.state, node.now);
    if (!step(node.state, event::Tick{}, node.now, policy_).empty() ||
        key(node.state, node.now) != before) {
      problems_.push_back("does not wait for its deadline: " + path(node));
    }
  }

  [[nodiscard]] std::string path(Node const& node) const {
    std::string text = fmt::format("{} [{}]", node.event, key(node.state, node.now));
    for (std::size_t i = node.parent; nodes_[i].event != "start"; i = nodes_[i].parent) {
      text = fmt::format("{} [{}]\n  -> {}", nodes_[i].event, key(nodes_[i].state, nodes_[i].now),
                         text);
    }
    return text;
  }

  SwapPolicy policy_;
  std::vector<Node> nodes_;
  std::set<std::pair<std::string, World>> seen_;
  std::set<std::size_t> phases_;
  std::set<std::string> performed_;
  Problems problems_;
};

TEST(SwapMachineExhaustive, HoldsItsPromisesInEveryReachableStateUnderEveryPolicy) {
  std::set<std::size_t> phases;
  std::set<std::string> performed;
  std::size_t states = 0;
  for (SwapPolicy const& policy : all_policies()) {
    SCOPED_TRACE(describe(policy));
    Explorer explorer(policy);
    explorer.run();
    for (std::string const& problem : explorer.problems()) ADD_FAILURE() << problem;
    phases.insert(explorer.phases().begin(), explorer.phases().end());
    performed.insert(explorer.performed().begin(), explorer.performed().end());
    states += explorer.size();
  }
  RecordProperty("states", static_cast<int>(states));
  EXPECT_EQ(phases.size(), std::variant_size_v<SwapState>) << "a state was never reached";
  EXPECT_EQ(performed.size(), std::variant_size_v<SwapAction>) << "an action was never asked for";
}

/// The world plays no part here: whatever a confused shell reports, in whatever order.
TEST(SwapMachineExhaustive, SurvivesEveryEventInEveryStateEvenImpossibleOnes) {
  for (SwapPolicy const& policy : all_policies()) {
    SCOPED_TRACE(describe(policy));
    Instant const start(std::chrono::hours(1));
    std::map<std::string, std::pair<SwapState, Instant>> seen;
    std::vector<std::pair<SwapState, Instant>> todo{{Idle{kOld}, start}};
    while (!todo.empty()) {
      auto const [state, now] = todo.back();
      todo.pop_back();
      for (SwapEvent const& event : all_events()) {
        SwapState after = state;
        bool const tick = std::holds_alternative<event::Tick>(event);
        Instant const then = tick ? due(state).value_or(now) : now;
        RevisionId steered_to = steered(state);
        for (SwapAction const& action : step(after, event, then, policy)) {
          auto const* steer = std::get_if<action::SteerTo>(&action);
          auto const* split = std::get_if<action::Split>(&action);
          if (steer != nullptr) steered_to = steer->revision;
          if (split != nullptr) steered_to = split->revision;
        }
        ASSERT_EQ(steered(after), steered_to) << key(state, now) << " + " << event_name(event);
        ASSERT_EQ(is_idle(after), !due(after).has_value());
        if (is_idle(after)) continue;
        if (seen.try_emplace(key(after, then), after, then).second) todo.emplace_back(after, then);
      }
    }
    EXPECT_GT(seen.size(), 10U);
  }
}

TEST(SwapMachineExhaustive, IgnoresLateNewsInIdle) {
  for (SwapEvent const& event : all_events()) {
    if (std::holds_alternative<event::ReloadRequested>(event)) continue;
    SwapState state = Idle{kOld};
    EXPECT_TRUE(step(state, event, Instant(std::chrono::hours(1)), SwapPolicy{}).empty())
        << event_name(event);
    EXPECT_TRUE(is_idle(state));
    EXPECT_EQ(steered(state), kOld);
  }
}

TEST(SwapMachineExhaustive, HasAWordForEachEventAndAction) {
  std::set<std::string_view> words;
  for (SwapEvent const& event : all_events()) words.insert(event_name(event));
  EXPECT_EQ(words.size(), std::variant_size_v<SwapEvent>);
}

}  // namespace
}  // namespace aether::relay
