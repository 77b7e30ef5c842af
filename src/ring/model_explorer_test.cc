// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "ring/model.h"

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/common_interface_defs.h>
#define AETHER_FIBERS_ARE_ANNOTATED 1
// A fiber that is given up half way would leave its second stack behind, a hundred thousand times.
extern "C" char const* __asan_default_options();  // NOLINT(bugprone-reserved-identifier)
extern "C" char const* __asan_default_options() {
  return "detect_stack_use_after_return=0";
}
#endif

namespace aether::ring::model {
namespace {

constexpr std::size_t kStackSize = 64 << 10;

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15ULL;
  return hash ^ hash >> 29;
}

std::uint64_t mix(std::uint64_t hash, Knowledge const& known) {
  for (std::size_t at = 0; at < known.view.size(); at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, known.view.data() + at, 8);
    hash = mix(hash, word);
  }
  for (std::uint16_t const time : known.clock) hash = mix(hash, time);
  return hash;
}

// Tells AddressSanitizer on which stack the program goes on.
void switch_stack(ucontext_t* from, ucontext_t* to, void const* stack, std::size_t size) {
#ifdef AETHER_FIBERS_ARE_ANNOTATED
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, stack, size);
  ::swapcontext(from, to);
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
  (void)stack, (void)size;
  ::swapcontext(from, to);
#endif
}

void const* scheduler_stack = nullptr;
std::size_t scheduler_stack_size = 0;

bool is_release(int order) {
  return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

}  // namespace

void Knowledge::join(Knowledge const& other) {
  for (std::size_t at = 0; at < view.size(); ++at) view[at] = std::max(view[at], other.view[at]);
  for (std::size_t at = 0; at < clock.size(); ++at)
    clock[at] = std::max(clock[at], other.clock[at]);
}

// ---- executions ----

Outcome Explorer::run(std::function<Program()> const& make, Mistake mistake) {
  mistake_ = mistake;
  choices_.clear();
  seen_.clear();
  failure_.clear();
  Outcome outcome;
  do {
    learnt_ = false;
    Program const program = make();
    start(program);
    while (extend()) {
    }
    ++outcome.executions;
    if (learnt_) {
      choices_.clear();
      seen_.clear();
      failure_.clear();
    }
    if (!failure_.empty()) break;
  } while (learnt_ || choose());
  outcome.failure = failure_;
  outcome.states = seen_.size();
  return outcome;
}

void Explorer::start(Program const& program) {
  program_ = &program;
  count_ = program.threads.size();
  depth_ = 0;
  fences_ = {};
  for (std::size_t at = 0; at < locations_.size(); ++at) {
    std::uint64_t value = 0;
    std::memcpy(&value, addresses_[at].first, addresses_[at].second);
    Location fresh;
    fresh.owner = locations_[at].owner;
    fresh.shared = locations_[at].shared;
    locations_[at] = std::move(fresh);
    locations_[at].stores.push_back({value, {}});
  }
  for (std::size_t at = 0; at < count_; ++at) {
    Thread& thread = threads_[at];
    std::unique_ptr<char[]> stack = std::move(thread.stack);
    thread = {};
    thread.stack = stack ? std::move(stack) : std::make_unique<char[]>(kStackSize);
    thread.body = &program.threads[at];
    thread.known.clock[at] = 1;
    ::getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = kStackSize;
    auto const self = reinterpret_cast<std::uintptr_t>(this);
    ::makecontext(&thread.context, reinterpret_cast<void (*)()>(&Explorer::enter), 2,
                  static_cast<unsigned>(self), static_cast<unsigned>(self >> 32));
  }
}

void Explorer::enter(unsigned low, unsigned high) {
  auto* const self = reinterpret_cast<Explorer*>(std::uintptr_t{low} | std::uintptr_t{high} << 32);
#ifdef AETHER_FIBERS_ARE_ANNOTATED
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
#endif
  (*self->threads_.at(self->current_).body)();
  self->pause(Step::Ended, 0);
}

std::size_t Explorer::alternatives(Thread const& thread) const {
  switch (thread.pending) {
    case Step::Load:
      return locations_[thread.location].stores.size() - thread.known.view.at(thread.location);
    case Step::Begin:
    case Step::Other:
    case Step::FutexWait:
      return 1;
    case Step::Join:
      return others_are_over(thread) ? 1 : 0;
    default:
      return 0;
  }
}

bool Explorer::others_are_over(Thread const& thread) const {
  return std::all_of(threads_.begin(), threads_.begin() + static_cast<std::ptrdiff_t>(count_),
                     [&](Thread const& each) {
                       return &each == &thread || each.pending == Step::Ended ||
                              each.pending == Step::Killed;
                     });
}

// One step; false when the execution is over or known from here on.
bool Explorer::extend() {
  std::size_t options = 0;
  for (std::size_t at = 0; at < count_; ++at) options += alternatives(threads_.at(at));
  bool const killable = program_->mortal >= 0 &&
                        alternatives(threads_.at(static_cast<std::size_t>(program_->mortal)));
  if (options == 0) {
    if (failure_.empty()) failure_ = blocked();
    if (failure_.empty()) failure_ = program_->verdict();
    return false;
  }
  if (depth_ == choices_.size()) {
    if (!seen_.insert(fingerprint()).second) return false;
    choices_.emplace_back(0, options + (killable ? 1 : 0));
  }
  if (depth_ >= kStepsMax) {
    failure_ = "an execution does not come to its end";
    return false;
  }
  std::size_t chosen = choices_[depth_++].first;
  if (chosen == options) {
    threads_.at(static_cast<std::size_t>(program_->mortal)).pending = Step::Killed;
    return true;
  }
  for (current_ = 0; chosen >= alternatives(threads_.at(current_)); ++current_) {
    chosen -= alternatives(threads_.at(current_));
  }
  alternative_ = chosen;
  Thread& thread = threads_.at(current_);
  switch_stack(&scheduler_, &thread.context, thread.stack.get(), kStackSize);
  return failure_.empty() && !learnt_;
}

bool Explorer::choose() {
  while (!choices_.empty() && ++choices_.back().first >= choices_.back().second) {
    choices_.pop_back();
  }
  return !choices_.empty();
}

std::uint64_t Explorer::fingerprint() const {
  std::uint64_t hash = 1;
  for (std::size_t at = 0; at < count_; ++at) {
    Thread const& thread = threads_.at(at);
    hash = mix(mix(hash, thread.history), static_cast<std::uint64_t>(thread.pending));
    hash = mix(mix(mix(hash, thread.known), thread.released), thread.pending_acquire);
  }
  for (std::size_t at = 0; at < locations_.size(); ++at) {
    Location const& location = locations_[at];
    if (location.stores.size() == 1 && location.writer < 0 && location.reads == Clock{}) continue;
    hash = mix(hash, at << 32 | location.written);
    for (Store const& store : location.stores) hash = mix(mix(hash, store.value), store.carried);
    for (std::uint16_t const read : location.reads) hash = mix(hash, read);
  }
  return mix(hash, fences_);
}

std::string Explorer::blocked() const {
  for (std::size_t at = 0; at < count_; ++at) {
    Step const step = threads_.at(at).pending;
    if (step == Step::Blocked || step == Step::Join)
      return fmt::format("thread {} sleeps and nobody will wake it", at);
  }
  return {};
}

// ---- steps, on the fibers ----

// Waits to be chosen; says which of the alternatives was taken.
std::size_t Explorer::pause(Step step, std::size_t location) {
  Thread& thread = threads_.at(current_);
  thread.pending = step;
  thread.location = location;
  switch_stack(&thread.context, &scheduler_, scheduler_stack, scheduler_stack_size);
  return alternative_;
}

// As pause, but for what one thread alone touches: there it sees its own last store.
std::size_t Explorer::pause_if_shared(Step step, std::size_t location) {
  Location& place = locations_[location];
  if (place.owner == kThreadsMax) place.owner = current_;
  if (place.owner != current_ && !place.shared) place.shared = learnt_ = true;
  return place.shared ? pause(step, location) : 0;
}

std::size_t Explorer::locate(void const* at, std::size_t size) {
  auto const [place, added] = indices_.try_emplace(at, indices_.size());
  if (added) {
    std::uint64_t value = 0;
    std::memcpy(&value, at, size);
    addresses_.emplace_back(at, size);
    locations_.emplace_back().stores.push_back({value, {}});
    if (indices_.size() > kLocationsMax) fail("too many locations for the explorer");
  }
  return place->second;
}

void Explorer::remember(std::uint64_t value) {
  Thread& thread = threads_.at(current_);
  thread.history = mix(thread.history + 1, value);
}

void Explorer::fail(std::string message) {
  if (failure_.empty()) failure_ = std::move(message);
  pause(Step::Ended, 0);
}

void Explorer::acquire(Store const& store, bool now) {
  Thread& thread = threads_.at(current_);
  (now ? thread.known : thread.pending_acquire).join(store.carried);
}

void Explorer::append(Location& location, std::size_t index, std::uint64_t value, bool release,
                      Knowledge const* also) {
  Thread& thread = threads_.at(current_);
  auto const time = static_cast<std::uint8_t>(location.stores.size());
  thread.known.view.at(index) = time;
  Store store{value, release ? thread.known : thread.released};
  store.carried.view.at(index) = time;
  if (also != nullptr) store.carried.join(*also);
  location.stores.push_back(store);
}

std::uint64_t Explorer::load(std::string_view site, void const* at, std::size_t size, int order) {
  std::size_t const index = locate(at, size);
  if (planted(site, Mistake::Kind::Unlooked)) return 0;
  std::size_t const back = pause_if_shared(Step::Load, index);
  Location const& location = locations_[index];
  std::size_t const time = location.stores.size() - 1 - back;
  Store const& store = location.stores[time];
  threads_.at(current_).known.view.at(index) = static_cast<std::uint8_t>(time);
  acquire(store, order != __ATOMIC_RELAXED && !planted(site, Mistake::Kind::Relaxed));
  remember(store.value);
  return store.value;
}

void Explorer::store(std::string_view site, void* at, std::size_t size, std::uint64_t value,
                     int order) {
  std::size_t const index = locate(at, size);
  if (planted(site, Mistake::Kind::Unwritten)) return;
  pause_if_shared(Step::Other, index);
  append(locations_[index], index, value,
         is_release(order) && !planted(site, Mistake::Kind::Relaxed), nullptr);
  remember(0);
}

std::uint64_t Explorer::exchange(std::string_view site, void* at, std::size_t size,
                                 std::uint64_t value) {
  std::size_t const index = locate(at, size);
  pause_if_shared(Step::Other, index);
  Store const last = locations_[index].stores.back();
  bool const ordered = !planted(site, Mistake::Kind::Relaxed);
  acquire(last, ordered);
  append(locations_[index], index, value, ordered, &last.carried);
  remember(last.value);
  return last.value;
}

bool Explorer::compare_exchange(std::string_view site, void* at, std::size_t size,
                                std::uint64_t& expected, std::uint64_t desired) {
  std::size_t const index = locate(at, size);
  pause_if_shared(Step::Other, index);
  Store const last = locations_[index].stores.back();
  bool const same = last.value == expected;
  bool const ordered = same && !planted(site, Mistake::Kind::Relaxed);
  acquire(last, ordered);
  threads_.at(current_).known.view.at(index) =
      static_cast<std::uint8_t>(locations_[index].stores.size() - 1);
  if (same) append(locations_[index], index, desired, ordered, &last.carried);
  expected = last.value;
  remember(last.value);
  return same;
}

void Explorer::fence(std::string_view site) {
  if (planted(site, Mistake::Kind::NoFence)) return;
  pause(Step::Other, 0);
  Thread& thread = threads_.at(current_);
  thread.known.join(thread.pending_acquire);
  thread.pending_acquire = {};
  // Of fences before this one the stores are seen, which does not order plain accesses.
  for (std::size_t at = 0; at < kLocationsMax; ++at) {
    std::uint8_t const most = std::max(thread.known.view[at], fences_.view[at]);
    thread.known.view[at] = fences_.view[at] = most;
  }
  thread.released = thread.known;
  remember(0);
}

void Explorer::race(Location& location, bool writes) {
  Clock const& clock = threads_.at(current_).known.clock;
  bool ordered = location.writer < 0 ||
                 clock.at(static_cast<std::size_t>(location.writer)) >= location.written;
  for (std::size_t at = 0; writes && at < kThreadsMax; ++at) {
    ordered = ordered && clock.at(at) >= location.reads.at(at);
  }
  if (!ordered) fail(fmt::format("thread {} races for a payload", current_));
}

void Explorer::plain_write(void* at, std::uint64_t value) {
  std::size_t const index = locate(at, 8);
  ++threads_.at(current_).known.clock.at(current_);  // A thread's clock counts its plain accesses.
  Location& location = locations_[index];
  race(location, true);
  location.writer = static_cast<int>(current_);
  location.written = threads_.at(current_).known.clock.at(current_);
  append(location, index, value, false, nullptr);
  remember(0);
}

std::uint64_t Explorer::plain_read(void const* at) {
  std::size_t const index = locate(at, 8);
  ++threads_.at(current_).known.clock.at(current_);  // A thread's clock counts its plain accesses.
  Location& location = locations_[index];
  race(location, false);
  location.reads.at(current_) = threads_.at(current_).known.clock.at(current_);
  remember(location.stores.back().value);
  return location.stores.back().value;
}

void Explorer::futex_wait(void* at, std::uint32_t value) {
  std::size_t const index = locate(at, 4);
  pause(Step::FutexWait, index);
  bool const sleeps = locations_[index].stores.back().value == value;
  remember(sleeps ? 1 : 0);
  if (sleeps) pause(Step::Blocked, index);
}

void Explorer::futex_wake(void* at) {
  std::size_t const index = locate(at, 4);
  pause(Step::Other, index);
  for (std::size_t each = 0; each < count_; ++each) {
    Thread& thread = threads_.at(each);
    if (thread.pending == Step::Blocked && thread.location == index) thread.pending = Step::Other;
  }
  remember(0);
}

bool Explorer::dead() {
  pause(Step::Other, 0);
  Thread const& mortal = threads_.at(static_cast<std::size_t>(std::max(program_->mortal, 0)));
  bool const gone = program_->mortal >= 0 && mortal.pending == Step::Killed;
  if (gone) threads_.at(current_).known.join(mortal.known);
  remember(gone ? 1 : 0);
  return gone;
}

void Explorer::join_others() {
  pause(Step::Join, 0);
  for (std::size_t each = 0; each < count_; ++each) {
    threads_.at(current_).known.join(threads_.at(each).known);
  }
  remember(0);
}

}  // namespace aether::ring::model
