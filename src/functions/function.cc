// SPDX-License-Identifier: Apache-2.0
#include "functions/function.h"

#include <utility>

#include <fmt/format.h>

#include "async/timers.h"
#include "base/check.h"
#include "base/log.h"
#include "functions/function_impl.h"

namespace aether::functions {
namespace {

/// For SIGKILL to do its work at the end.
constexpr Duration kKillLimit = std::chrono::seconds(5);
constexpr Duration kTasksEnd = std::chrono::seconds(5);
/// A function whose first revision failed is tried again by a request, but not by each.
constexpr Duration kRetryAfter = std::chrono::seconds(5);
/// Requests that may be in flight and queued, for each that can be answered at once; 429 above.
constexpr std::uint32_t kInflightFactor = 100;
constexpr std::uint32_t kInflightMin = 1000;

}  // namespace

Function::Impl::Impl(FunctionSpec spec, std::uint64_t number, FunctionDeps deps)
    : id_(spec.function.id),
      spec_(std::move(spec)),
      logs_(id_, deps.clock),
      deps_(std::move(deps)),
      socket_path_(fmt::format("{}/ready-{}", deps_.runtime_dir, number)),
      autoscaler_(scaling()),
      tasks_(deps_.executor, fmt::format("function {}", id_)) {
  if (!deps_.echo) return;
  logs_.set_tap([this](std::string_view, supervise::LogLine const& line) {
    deps_.echo(id_, line.revision, line.text);
  });
}

Function::Impl::~Impl() {
  AETHER_CHECK(lives_.empty(), "function {} was destroyed without stop()", id_);
}

AutoscalerPolicy Function::Impl::scaling() const {
  return autoscaler_policy(static_cast<std::uint32_t>(spec_.function.concurrency),
                           spec_.function.idle_timeout);
}

RouteSpec Function::Impl::route() const {
  config::Function const& function = spec_.function;
  auto const places = static_cast<std::uint32_t>(function.concurrency * function.max_instances);
  Duration const timeout = std::chrono::milliseconds(function.timeout_ms);
  return {.function = id_,
          .trigger_port = function.trigger_port,
          .timeout = timeout,
          .queue_timeout = timeout,
          .concurrency = static_cast<std::uint32_t>(function.concurrency),
          .max_inflight = std::max(kInflightMin, places * kInflightFactor)};
}

Status Function::Impl::open() {
  TRY(check(spec_.function));
  TRY_ASSIGN(ready_, ReadySocket::open(deps_.executor, socket_path_,
                                       [this](pid_t pid) { on_ready_word(pid); }));
  TRY(open_way());
  opened_ = true;
  tasks_.spawn("pool clock", tick());
  tasks_.spawn("autoscaler", scale());
  return {};
}

async::Task<Result<Deployed>> Function::Impl::deploy(FunctionSpec spec) {
  if (stopping_) co_return fail(ErrorCode::NotRunning, fmt::format("{} is stopping", id_));
  if (deploying_)
    co_return fail(ErrorCode::SwapRunning,
                   fmt::format("{}: another revision is being made ready", id_));
  if (Status const same = check_way(spec.function); !same) co_return fail(same.error());
  Instant const began = deps_.clock.now();
  RevisionId const from = pool_.serving();
  async::Task<Result<RevisionPtr>> preparing = prepare_alone(spec);
  auto prepared = co_await std::move(preparing);
  if (!prepared) {
    problem_ = prepared.error().describe();
    retry_at_ = deps_.clock.now() + kRetryAfter;
    if (from == RevisionId{}) refuse_waiting(*problem_);
    co_return fail(std::move(prepared).error());
  }
  Revision const& revision = **prepared;
  if (Status const steered = steer_way(revision.id); !steered) co_return fail(steered.error());
  problem_.reset();
  spec_ = revision.spec;
  autoscaler_.change(scaling());
  if (!is_direct()) deps_.gateway.change(route());
  bool const is_spare = revision.making == Making::Spawn;
  happen(pool::Deployed{.revision = revision.id,
                        .policy = policy_of(revision),
                        .first = is_spare ? std::optional(revision.original) : std::nullopt});
  Duration const took = deps_.clock.now() - began;
  std::string const told =
      fmt::format("{}: revision {} serves ({}), ready after {}", id_, revision.id,
                  is_spare ? "each instance is spawned" : "instances are copies", humanize(took));
  // Who starts Aether is shown the first ones by `up`.
  if (from == RevisionId{})
    log::debug("{}", told);
  else
    log::info("{}", told);
  co_return Deployed{.from = from, .revision = revision.id, .took = took};
}

async::Task<Result<Function::Impl::RevisionPtr>> Function::Impl::prepare_alone(FunctionSpec spec) {
  deploying_ = true;
  Result<RevisionPtr> prepared;
  try {
    async::Task<Result<RevisionPtr>> preparing = prepare(std::move(spec));
    prepared = co_await std::move(preparing);
  } catch (Error const& error) {
    prepared = fail(error);
  }
  deploying_ = false;
  moved_.set();
  moved_.reset();
  co_return prepared;
}

Result<Deployed> Function::Impl::rollback() {
  RevisionId const from = pool_.serving();
  RevisionPtr const previous = revision_of(pool_.previous());
  if (!previous || stopping_)
    return fail(ErrorCode::NotFound,
                fmt::format("{} has no revision before {} that could serve again", id_, from));
  TRY(steer_way(previous->id));
  spec_ = previous->spec;
  autoscaler_.change(scaling());
  if (!is_direct()) deps_.gateway.change(route());
  happen(pool::Deployed{.revision = previous->id, .policy = policy_of(*previous)});
  log::info("{}: back from revision {} to {}", id_, from, previous->id);
  return Deployed{.from = from, .revision = previous->id};
}

async::Task<void> Function::Impl::stop(Duration limit) {
  Instant const deadline = deps_.clock.now() + limit;
  stopping_ = true;
  while (deploying_) co_await moved_.wait();
  if (opened_) {
    tasks_.spawn("close the way in", close_way(limit));
    happen(pool::StopAsked{});
    async::Task<void> emptying = until_empty(deadline);
    co_await std::move(emptying);
  }
  for (auto const& [id, live] : lives_) live->ending = true;
  while (!revisions_.empty()) {
    RevisionPtr const revision = revisions_.begin()->second;
    revisions_.erase(revisions_.begin());
    if (!revision->worker) continue;
    async::Task<void> dropping = revision->worker->drop();
    co_await std::move(dropping);
  }
  for (auto const& [id, live] : lives_) live->instance->kill_tree();
  Instant const end = deps_.clock.now() + kKillLimit;
  while (!lives_.empty()) {
    bool const more = co_await moved_.wait_until(end);
    if (!more) break;
  }
  async::Task<std::vector<std::string>> stopping = tasks_.stop(kTasksEnd);
  co_await std::move(stopping);
  // Whoever does not end, not even by SIGKILL, is closed all the same: it has been named.
  for (auto const& [id, live] : lives_) {
    async::Task<void> closing = live->instance->close();
    co_await std::move(closing);
  }
  lives_.clear();
  if (direct_) {
    async::Task<void> ending = direct_->stop();
    co_await std::move(ending);
  }
  if (ready_) {
    async::Task<void> closing = ready_->close();
    co_await std::move(closing);
  }
  logs_.close();
  stopped_ = true;
}

async::Task<void> Function::Impl::until_empty(Instant deadline) {
  while (!pool_.over()) {
    bool const more = co_await moved_.wait_until(deadline);
    if (!more) break;
  }
  if (!pool_.over()) happen(pool::StopAsked{});
}

void Function::Impl::wanted(std::uint32_t waiting) {
  happen(pool::Wanted{waiting});
  bool const may_wait = pool_.serving() != RevisionId{} || deploying_ || stopping_ || waiting == 0;
  if (may_wait) return;
  if (deps_.clock.now() >= retry_at_)
    tasks_.spawn("start again", remake(spec_));
  else
    refuse_waiting(problem_.value_or("it has not been started"));
}

void Function::Impl::hurry() {
  if (!opened_) return;
  happen(pool::StopAsked{});
  happen(pool::StopAsked{});
  for (auto const& [id, live] : lives_) live->instance->kill_tree();
}

// ---- the face -----------------------------------------------------------------------------------

Function::Function(FunctionSpec spec, std::uint64_t number, FunctionDeps deps)
    : impl_(std::make_unique<Impl>(std::move(spec), number, std::move(deps))) {}
Function::~Function() = default;

std::string const& Function::id() const {
  return impl_->id_;
}
FunctionSpec const& Function::spec() const {
  return impl_->spec_;
}
Status Function::open() {
  return impl_->open();
}
async::Task<Result<Deployed>> Function::deploy(FunctionSpec spec) {
  return impl_->deploy(std::move(spec));
}
Result<Deployed> Function::rollback() {
  return impl_->rollback();
}
async::Task<void> Function::stop(Duration limit) {
  return impl_->stop(limit);
}
void Function::hurry() {
  impl_->hurry();
}
void Function::wanted(std::uint32_t waiting) {
  impl_->wanted(waiting);
}
void Function::busy(InstanceId instance, std::uint32_t in_flight) {
  impl_->busy(instance, in_flight);
}
void Function::timed_out(InstanceId instance) {
  impl_->timed_out(instance);
}
void Function::unreachable(InstanceId instance, std::string why) {
  impl_->unreachable(instance, std::move(why));
}
FunctionStatus Function::status() const {
  return impl_->status();
}
supervise::LogBook& Function::log_book() {
  return impl_->logs_;
}

}  // namespace aether::functions
