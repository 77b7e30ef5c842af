// SPDX-License-Identifier: Apache-2.0
#include "functions/pool_world.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "functions/pool_rig.h"

namespace aether::functions::testing {

namespace {

/// More than any world of these tests needs to come to rest.
constexpr int kStepsToRest = 3000;

[[noreturn]] void broken(std::string const& what) {
  throw BrokenPromise(what);
}

}  // namespace

// ---- The machine's side -------------------------------------------------------------------------

void PoolWorld::remember(std::string const& text) {
  for (char const c : text) story = (story ^ static_cast<unsigned char>(c)) * 1099511628211U;
  if (trace != nullptr)
    trace->push_back(fmt::format("{:.3f} {}", to_seconds(now.time_since_epoch()), text));
}

void PoolWorld::say(PoolInput input) {
  if (holds_letters)
    letters.push_back(std::move(input));
  else
    said_.push_back(std::move(input));
}

void PoolWorld::tell(PoolInput const& input) {
  said_.push_back(input);
  pump();
}

void PoolWorld::pump() {
  if (std::exchange(telling_, true)) return;
  while (!said_.empty()) {
    PoolInput const next = std::move(said_.front());
    said_.pop_front();
    remember(fmt::format("<- {} {}", next.index(),
                         std::visit(
                             [](auto const& i) -> std::uint64_t {
                               if constexpr (requires { i.instance; }) return i.instance.value;
                               if constexpr (requires { i.waiting; }) return i.waiting;
                               return 0;
                             },
                             next)));
    std::visit(
        [&](auto const& i) {
          if constexpr (requires { i.instance; }) {
            auto const found = machine.members().find(i.instance);
            if (found != machine.members().end() &&
                PoolMachine::meaning(found->second.state, next) == Meaning::Illegal)
              broken(fmt::format("input {} about {} in {}", next.index(), i.instance,
                                 member_state_name(found->second.state)));
          }
        },
        next);
    PoolActions const actions = machine.step(next, now, [this] { return InstanceId{++ids}; });
    for (PoolAction const& action : actions) {
      remember("-> " + text_of(action));
      std::visit([this](auto const& a) { perform(a); }, action);
    }
    check(std::holds_alternative<pool::Tick>(next));
  }
  telling_ = false;
}

PoolWorld::Process& PoolWorld::process(InstanceId instance, char const* action) {
  auto const found = processes.find(instance);
  if (found == processes.end())
    broken(fmt::format("{} of {}, which does not live", action, instance));
  return found->second;
}

void PoolWorld::perform(pool::Start const& action) {
  ++starts;
  if (machine.stopping()) broken("a start after the stop");
  if (action.revision != machine.serving()) broken("a start of a revision that does not serve");
  if (action.limit <= Duration::zero()) broken("a start without a limit");
  if (!processes.emplace(action.instance, Process{.revision = action.revision}).second)
    broken("a number was given twice");
}

void PoolWorld::perform(pool::Freeze const& action) {
  Process& it = process(action.instance, "freeze");
  if (it.state != State::Running || it.offered || it.in_flight > 0)
    broken("a freeze of one in use");
  it.state = State::Freezing;
}

void PoolWorld::perform(pool::Thaw const& action) {
  Process& it = process(action.instance, "thaw");
  if (it.state != State::Frozen) broken("a thaw of one that is not frozen");
  it.state = State::Thawing;
}

void PoolWorld::perform(pool::Offer const& action) {
  Process& it = process(action.instance, "offer");
  if (it.state != State::Running || it.offered)
    broken("an offer of one that cannot serve, or serves");
  if (machine.stopping()) broken("an offer after the stop");
  it.offered = true;
  hand_out();
}

void PoolWorld::perform(pool::Withdraw const& action) {
  Process& it = process(action.instance, "withdraw");
  if (!it.offered || it.withdrawn) broken("a withdrawal of one that was not offered");
  it.withdrawn = true;
}

void PoolWorld::perform(pool::End const& action) {
  Process& it = process(action.instance, "end");
  if (it.state == State::Ending) broken("ended twice");
  if (it.in_flight > 0 && action.why.empty() && !machine.stopping())
    broken("requests were cut off without a reason");
  cut_off += it.in_flight;
  it = {.state = State::Ending, .revision = it.revision};
}

void PoolWorld::perform(pool::FailWaiting const& action) {
  if (action.why.empty()) broken("a refusal without a reason");
  refused += std::exchange(queue, 0);
}

void PoolWorld::perform(pool::DropRevision const& action) {
  for (auto const& [instance, it] : processes)
    if (it.revision == action.revision) broken("a revision was dropped of which something lives");
  if (action.revision == machine.serving() && !machine.stopping())
    broken("what serves was dropped");
}

void PoolWorld::check(bool ticked) {
  PoolPolicy const& policy = machine.policy();
  std::uint32_t wanted = 0;
  std::uint32_t all = 0;
  std::uint32_t parked = 0;
  for (auto const& [instance, member] : machine.members()) {
    if (!processes.contains(instance)) broken("a member has no process");
    if (member.revision != machine.serving() || member.state == MemberState::Ending) continue;
    ++all;
    bool const coming = member.for_demand || member.state == MemberState::Thawing;
    if (coming || member.state == MemberState::Warm) ++wanted;
    if (member.state == MemberState::Parked) ++parked;
  }
  if (processes.size() != machine.members().size()) broken("a process is no member");
  if (wanted > policy.max_instances) broken("more than max_instances warm or coming");
  if (parked > policy.parked) broken("more parked than the policy says");
  // There may be more for a moment, when a new policy has fewer places; then none is made.
  if (all > policy.max_instances && starts != starts_seen_)
    broken("a start beyond max_instances of all kinds");
  starts_seen_ = starts;
  if (ticked && due()) broken("a tick did not do what was due");
}

bool PoolWorld::due() const {
  return machine.next_due() && *machine.next_due() <= now;
}

// ---- The world's side ---------------------------------------------------------------------------

void PoolWorld::deploy(RevisionId revision, PoolPolicy const& policy) {
  tell(pool::Deployed{.revision = revision, .policy = policy});
}

void PoolWorld::hand_out() {
  bool const waited = queue > 0;
  for (auto& [instance, it] : processes) {
    std::uint32_t const before = it.in_flight;
    while (queue > 0 && it.offered && !it.withdrawn &&
           it.in_flight < machine.policy().concurrency) {
      --queue;
      ++it.in_flight;
    }
    if (it.in_flight != before) say(pool::Busy{instance, it.in_flight});
  }
  if (waited && queue == 0) say(pool::Wanted{0});
}

void PoolWorld::arrive() {
  remember("a request");
  ++queue;
  hand_out();
  if (queue > 0) say(pool::Wanted{queue});
  pump();
}

bool PoolWorld::finish(InstanceId instance) {
  Process& it = processes.at(instance);
  if (it.in_flight == 0) return false;
  remember("an answer");
  ++served;
  --it.in_flight;
  std::uint32_t const left = it.in_flight;
  hand_out();
  if (it.in_flight == left) say(pool::Busy{instance, left});
  pump();
  return true;
}

bool PoolWorld::answer(InstanceId instance, Answer how) {
  Process& it = processes.at(instance);
  bool const well = how == Answer::Well;
  switch (it.state) {
    case State::Making:
      if (well) {
        it.state = State::Running;
        tell(pool::Started{instance});
      } else {
        tell(pool::StartFailed{.instance = instance, .why = "it does not start"});
      }
      return true;
    case State::Freezing:
      if (well) {
        it.state = State::Frozen;
        tell(pool::Frozen{instance});
      } else {
        tell(pool::Broken{.instance = instance, .why = "it does not freeze"});
      }
      return true;
    case State::Thawing:
      if (well) {
        it.state = State::Running;
        tell(pool::Thawed{instance});
      } else {
        tell(pool::Broken{.instance = instance, .why = "it does not thaw"});
      }
      return true;
    case State::Running:
      if (!it.withdrawn || it.in_flight > 0) return false;
      it.withdrawn = it.offered = false;
      tell(pool::Drained{instance});
      return true;
    case State::Ending:
      processes.erase(instance);
      tell(pool::Gone{.instance = instance});
      return true;
    case State::Frozen:
      return false;
  }
  return false;
}

bool PoolWorld::die(InstanceId instance) {
  if (processes.at(instance).state == State::Ending) return false;
  cut_off += processes.at(instance).in_flight;
  processes.erase(instance);
  tell(pool::Gone{.instance = instance, .why = "killed by signal 9"});
  return true;
}

bool PoolWorld::unreachable(InstanceId instance) {
  Process& it = processes.at(instance);
  if (!it.offered || it.in_flight == 0) return false;
  // Nothing of them was sent: they wait again.
  queue += std::exchange(it.in_flight, 0);
  it.withdrawn = true;
  hand_out();
  if (queue > 0) say(pool::Wanted{queue});
  tell(pool::Broken{.instance = instance, .why = "connection refused", .unreachable = true});
  return true;
}

bool PoolWorld::tick() {
  if (!machine.next_due()) return false;
  now = std::max(now, *machine.next_due());
  tell(pool::Tick{});
  return true;
}

bool PoolWorld::deliver() {
  if (letters.empty()) return false;
  PoolInput const letter = std::move(letters.front());
  letters.pop_front();
  tell(letter);
  return true;
}

// ---- What must follow from every state ----------------------------------------------------------

bool PoolWorld::fair_step(Answer starts_go) {
  if (deliver()) return true;
  std::vector<InstanceId> all;
  for (auto const& [instance, it] : processes) all.push_back(instance);
  for (InstanceId const instance : all) {
    if (!processes.contains(instance)) continue;
    Answer const how = processes.at(instance).state == State::Making ? starts_go : Answer::Well;
    if (finish(instance) || answer(instance, how)) return true;
  }
  return false;
}

void PoolWorld::run_down(Answer starts_go) {
  for (int i = 0; i < kStepsToRest; ++i) {
    if (fair_step(starts_go)) continue;
    // What fails is tried for ever; nobody may wait for that.
    if (starts_go == Answer::Badly && queue == 0) return;
    if (!tick()) return;
  }
  broken("it does not come to rest");
}

void PoolWorld::come_to_rest() {
  run_down(Answer::Well);
  if (machine.stopping()) return;
  if (queue > 0) broken("somebody waits for ever");
  PoolPolicy const& policy = machine.policy();
  std::uint32_t const warm = std::min(policy.min_instances, policy.max_instances);
  std::uint32_t const parked = std::min(policy.parked, policy.max_instances - warm);
  if (machine.count(MemberState::Warm) != warm)
    broken(fmt::format("{} warm at rest", machine.count(MemberState::Warm)));
  if (machine.count(MemberState::Parked) != parked)
    broken(fmt::format("{} parked at rest", machine.count(MemberState::Parked)));
  if (machine.members().size() != warm + parked) broken("others live at rest");
}

void PoolWorld::refuse_all() {
  run_down(Answer::Badly);
  if (queue > 0) broken("somebody waits for ever for starts that fail");
}

void PoolWorld::come_to_an_end() {
  stop();
  run_down(Answer::Well);
  if (!machine.over()) broken("the stop does not end");
  if (queue > 0) broken("somebody waits for a function that has ended");
}

// ---- The world itself ---------------------------------------------------------------------------

TEST(PoolWorld, ServesARequestFromNothingAndComesBackToNothing) {
  PoolWorld world;
  world.deploy(RevisionId{1}, {.parked = 2, .making = Making::Copy});
  world.arrive();
  world.come_to_rest();
  EXPECT_EQ(world.served, 1U);
  EXPECT_EQ(world.refused, 0U);
  EXPECT_EQ(world.machine.count(MemberState::Parked), 2U);
  world.come_to_an_end();
  EXPECT_TRUE(world.processes.empty());
}

TEST(PoolWorld, RefusesWhenNothingStarts) {
  PoolWorld world;
  world.deploy(RevisionId{1}, {.parked = 0});
  world.arrive();
  world.refuse_all();
  EXPECT_EQ(world.refused, 1U);
  EXPECT_EQ(world.starts, 1U);
}

}  // namespace aether::functions::testing
