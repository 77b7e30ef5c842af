// SPDX-License-Identifier: Apache-2.0
#include "jobs/engine_core.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

#include "async/timers.h"
#include "base/check.h"
#include "base/fault.h"
#include "base/log.h"

namespace aether::jobs {
namespace {

/// Of one read from the kernel: a few hundred ids.
constexpr std::size_t kRandomBlock = 4096;
/// The longest sleep while something is due: a wall clock that was set is noticed by then.
constexpr Duration kClockCheck = std::chrono::seconds(5);
/// After calls were cancelled at a stop: a tool that does not heed it is left alone then.
constexpr Duration kStopGrace = std::chrono::seconds(5);

/// The shortest sleep: a time that is due already is looked at in the next turn of the loop.
constexpr Duration kTimerGrain = std::chrono::microseconds(200);

constexpr std::string_view kHexDigits = "0123456789abcdef";
std::string hex_of(std::string_view bytes) {
  std::string text;
  for (unsigned char const byte : bytes) {
    text += kHexDigits[byte >> 4U];
    text += kHexDigits[byte & 15U];
  }
  return text;
}

}  // namespace

void Mail::post(Work work) {
  bool is_first = false;
  {
    std::lock_guard const lock(mutex_);
    is_first = waiting_.empty();
    waiting_.push_back(std::move(work));
  }
  if (is_first) boost::asio::post(executor_, [this] { drain(); });
}

void Mail::drain() {
  std::vector<Work> work;
  {
    std::lock_guard const lock(mutex_);
    work.swap(waiting_);
  }
  for (Work& each : work) each();
}

std::string RandomBytes::take(std::size_t count) {
  if (used_ + count > block_.size()) {
    block_.resize(kRandomBlock);
    used_ = 0;
    ssize_t const got = ::getrandom(block_.data(), block_.size(), 0);
    AETHER_CHECK(got == static_cast<ssize_t>(block_.size()), "getrandom gave {}", got);
  }
  used_ += count;
  return block_.substr(used_ - count, count);
}

EngineCore::EngineCore(journal::Journal& its_journal, tools::ToolSet& its_tools,
                       Clock const& its_clock, EngineLimits its_limits, DriverFactory factory,
                       async::Executor executor)
    : journal(its_journal),
      tools(its_tools),
      clock(its_clock),
      limits(its_limits),
      salts([this] { return random_.take(journal::kSaltBytes); },
            its_limits.all_erasable ? 0 : kInlineBytesMax),
      mail(std::make_shared<Mail>(executor)),
      began(its_clock.wall()),
      factory_(std::move(factory)),
      scheduler_({.concurrency = its_limits.concurrency, .lease = its_limits.lease}),
      sharing_(its_journal.sharing()),
      group_(executor, "jobs") {
  holder = fmt::format("engine:{}:{}", ::getpid(), hex_of(random_.take(4)));
  world_.emplace(TurnWorld{.tools = tools,
                           .now = {},
                           .call_timeout = limits.call_timeout,
                           .salts = salts,
                           .make_token = [this] { return make_token(); },
                           .make_run = [this] { return make_run(); },
                           .key_holder = [this](auto const& key) { return key_holder(key); },
                           .child_end = [this](auto const& run) { return child_end(run); }});
  group_.spawn("clock", keep_time());
}

EngineCore::~EngineCore() = default;

TurnWorld const& EngineCore::world() {
  world_->now = clock.wall();
  return *world_;
}

std::string EngineCore::make_token() {
  return hex_of(random_.take(16));
}

RunId EngineCore::make_run() {
  return make_run_id(clock.wall(), random_.take(8));
}

Result<std::unique_ptr<Driver>> EngineCore::make_driver(RunState const& state) const {
  return factory_(state.opening);
}

RunActor* EngineCore::find_or_load(RunId const& run, Error* why) {
  auto const found = actors_.find(run.text);
  if (found != actors_.end()) return found->second.get();
  Status const passed = fault::pass(fault::Point::JobsLoad);
  Result<RunState> loaded = load_run(journal, run);
  if (!loaded || !passed) {
    Error const error = loaded ? passed.error() : loaded.error();
    if (why != nullptr)
      *why = error;
    else
      log::error("run {} cannot be read: {}", run.text, error.describe());
    return nullptr;
  }
  idle_.reset();
  auto actor = std::make_unique<RunActor>(*this, std::move(*loaded));
  return actors_.emplace(run.text, std::move(actor)).first->second.get();
}

namespace {
async::Task<void> deliver_later(EngineCore* core, RunId run, Input input) {
  co_await async::sleep_for(core->limits.retry);
  core->deliver(run, std::move(input));
}
}  // namespace

void EngineCore::deliver(RunId const& run, Input input) {
  Error why(ErrorCode::NotFound, "");
  if (RunActor* actor = find_or_load(run, &why)) return actor->deliver(std::move(input));
  if (input.reply) return input.reply(fail(why));
  log::error("run {} cannot be read: {}", run.text, why.describe());
  bool const is_for_good =
      why.code() == ErrorCode::NotFound || why.code() == ErrorCode::StoreDamaged;
  // Nobody would say it again: the end of a child, a time that has come.
  if (!is_for_good && !stopping) group_.spawn("retry", deliver_later(this, run, std::move(input)));
}

void EngineCore::release(RunActor& actor) {
  scheduler_.release(actor.id());
  give_back(actor.id());
}

void EngineCore::appoint(RunId const& run, std::optional<WallTime> at) {
  if (!at) return scheduler_.forget(run);
  bool const is_held = !due_after_ || due_key(*at, run) <= *due_after_;
  if (!is_held) return;
  scheduler_.wake_at(run, *at);
  if (!armed_ || *at < *armed_) wake_.set();
}

void EngineCore::retire(RunActor& actor) {
  (void)fault::pass(fault::Point::JobsRetire);
  if (actor.is_leased()) release(actor);
  auto const found = actors_.find(actor.id().text);
  AETHER_CHECK(found != actors_.end() && found->second.get() == &actor);
  // Its own frames may be on the stack still.
  if (gone_.empty()) boost::asio::post(mail->executor(), [this] { sweep(); });
  gone_.push_back(std::move(found->second));
  actors_.erase(found);
  if (actors_.empty()) idle_.set();
  schedule();
}

void EngineCore::sweep() {
  std::erase_if(gone_, [](auto const& actor) { return actor->is_gone(); });
  if (!gone_.empty()) boost::asio::post(mail->executor(), [this] { sweep(); });
}

void EngineCore::retry_later(RunId run) {
  group_.spawn("retry", deliver_later(this, std::move(run), {.actor = {}, .fact = Woken{}}));
}

void EngineCore::tell(RunId const& run, RunProgress progress) {
  if (!listener_ || !fault::pass(fault::Point::JobsProgress)) return;
  listener_(run, progress);
}

void EngineCore::listen(std::function<void(RunId const&, RunProgress)> listener) {
  listener_ = std::move(listener);
}

void EngineCore::schedule() {
  again_ = true;
  if (std::exchange(scheduling_, true)) return;
  while (std::exchange(again_, false)) {
    std::vector<ScheduleAction> const actions = scheduler_.poll(clock.wall());
    for (ScheduleAction const& action : actions) {
      std::visit([this](auto const& each) { perform(each); }, action);
    }
    if (due_after_ && scheduler_.timers() < kDueWindow / 2) {
      if (Status const read = read_due(); !read)
        log::error("times of runs cannot be read: {}", read.error().describe());
    }
    serve_claims();
    again_ = again_ || !actions.empty();
  }
  scheduling_ = false;
  want_work();
  std::optional<WallTime> const next = scheduler_.next();
  if (next && (!armed_ || *next < *armed_)) wake_.set();
}

void EngineCore::perform(BeginRun const& begin) {
  Status const passed = fault::pass(fault::Point::JobsBegin);
  RunActor* actor = passed ? find_or_load(begin.run.run, nullptr) : nullptr;
  if (actor != nullptr) return actor->begin(begin.lease_until);
  scheduler_.release(begin.run.run);
  give_back(begin.run.run);
  // Not at once: what cannot be read now is not readable a moment later.
  retry_later(begin.run.run);
}

void EngineCore::perform(WakeRun const& wake) {
  if (Status const passed = fault::pass(fault::Point::JobsWake); !passed)
    return retry_later(wake.run);
  deliver(wake.run, {.actor = {}, .fact = Woken{}});
}

void EngineCore::perform(RenewLease const& renew) {
  (void)fault::pass(fault::Point::JobsRenew);
  auto const found = actors_.find(renew.run.text);
  if (found == actors_.end()) return;
  if (found->second->has_worker()) {
    (void)renew_worker(*found->second, found->second->state().fence);
    return;
  }
  // Not recorded: who shares the store is told by the claim, which the journal renews by itself.
  found->second->renew(renew.until);
  (void)scheduler_.renew(renew.run, found->second->state().fence, renew.until);
}

void EngineCore::perform(ReclaimRun const& reclaim) {
  auto const found = actors_.find(reclaim.run.text);
  if (found == actors_.end()) return;
  if (found->second->has_worker()) {
    if (renew_worker(*found->second, reclaim.fence)) return;
    (void)fault::pass(fault::Point::WorkLost);
    return found->second->lose_worker(GiveBack::Lost, "it was silent for too long");
  }
  // The clock jumped; the run is here, and works on.
  WallTime const until = clock.wall() + limits.lease;
  scheduler_.adopt(ready_of(found->second->state()), reclaim.fence, until);
  found->second->renew(until);
}

async::Task<void> EngineCore::keep_time() {
  while (true) {
    std::optional<WallTime> const next = scheduler_.next();
    armed_ = next;
    wake_.reset();
    Duration sleep = kClockCheck;
    if (next) sleep = std::clamp<Duration>(*next - clock.wall(), Duration::zero(), kClockCheck);
    if (next) {
      async::Task<bool> waiting = wake_.wait_for(std::max<Duration>(sleep, kTimerGrain));
      co_await std::move(waiting);
    } else {
      co_await wake_.wait();
    }
    schedule();
  }
}

async::Task<void> EngineCore::stop(Duration grace) {
  (void)fault::pass(fault::Point::JobsStop);
  stopping = true;
  scheduler_.hold(true);
  for (WaitingClaim& waiting : std::exchange(claims_, {})) waiting.reply(std::vector<ClaimedRun>());
  drop_workers(false);
  Instant const end = async::deadline_in(grace);
  std::vector<std::string> held;
  bool ended = actors_.empty();
  if (!ended) {
    async::Task<bool> waiting = idle_.wait_until(end);
    ended = co_await std::move(waiting);
  }
  if (!ended) {
    drop_workers(true);
    for (auto const& [run, actor] : actors_) held.push_back(run);
    for (std::string const& run : held) {
      auto const found = actors_.find(run);
      if (found == actors_.end()) continue;
      found->second->cancel_calls();
      if (found->second->waits_to_retry()) found->second->give_up();
    }
    async::Task<bool> waiting = idle_.wait_for(kStopGrace);
    co_await std::move(waiting);
  }
  for (int turns = 0; turns < 10'000 && (appends_in_flight > 0 || !gone_.empty()); ++turns) {
    async::Task<void> pause = async::sleep_for(std::chrono::milliseconds(1));
    co_await std::move(pause);
  }
  if (is_shared()) sharing_->end();
  async::Task<std::vector<std::string>> stopping_group = group_.stop(kStopGrace);
  co_await std::move(stopping_group);
}

}  // namespace aether::jobs
