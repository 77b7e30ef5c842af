// SPDX-License-Identifier: Apache-2.0
// How instances come and go: spawned or copied, ready, ended, buried.
#include <signal.h>

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "functions/function_impl.h"
#include "functions/handler.h"
#include "functions/handler_hooks.h"
#include "os/proc.h"

namespace aether::functions {
namespace {

/// Beyond our own limit, which says more: Instance's own for readiness never strikes first.
constexpr Duration kReadySlack = std::chrono::minutes(5);
constexpr std::uint64_t kMegabyte = 1024 * 1024;

os::SandboxLevel sandbox_level(config::Sandbox sandbox) {
  switch (sandbox) {
    case config::Sandbox::None:
      return os::SandboxLevel::None;
    case config::Sandbox::Basic:
      return os::SandboxLevel::Basic;
    case config::Sandbox::Strict:
      return os::SandboxLevel::Strict;
  }
  return os::SandboxLevel::Basic;
}

bool says_ready(config::Function const& function) {
  return std::holds_alternative<config::ReadyNotify>(function.ready);
}

}  // namespace

Function::Impl::Live* Function::Impl::find(InstanceId instance) {
  auto const found = lives_.find(instance);
  return found == lives_.end() ? nullptr : found->second.get();
}

supervise::LaunchSpec Function::Impl::launch_spec(Revision const& revision, InstanceId instance,
                                                  std::uint16_t port) const {
  config::Function const& function = revision.spec.function;
  std::size_t const slash = function.handler_path.rfind('/');
  supervise::LaunchSpec spec{
      .service = id_,
      .revision = revision.id,
      .instance = instance,
      .command = revision.command,
      .env = handler_environment({.function = id_,
                                  .socket = socket_path_,
                                  .port = port,
                                  .has_ring = has_ring(revision),
                                  .sdk = deps_.sdk_folder},
                                 function.environment),
      .workdir = slash == std::string::npos || slash == 0
                     ? std::nullopt
                     : std::optional(function.handler_path.substr(0, slash)),
      .limits = {.memory = static_cast<std::uint64_t>(function.memory_limit_mb) * kMegabyte,
                 .cpu = function.cpu,
                 .processes = function.processes},
      // Whoever need not say that it is ready, is so as soon as it runs: the rest is ours.
      .ready = says_ready(function) ? config::Ready(config::ReadyNotify{})
                                    : config::Ready(config::ReadyDelay{Duration::zero()}),
      .ready_timeout = function.ready_timeout + kReadySlack,
      .stop_timeout = kStopTimeout,
      .runtime_dir = deps_.runtime_dir};
  spec.new_pid_namespace = revision.own_numbers && instance == revision.original;
  spec.sandbox = {.level = sandbox_level(function.sandbox),
                  .read_only = {deps_.sdk_folder},
                  .copies_have_pid_namespaces = spec.new_pid_namespace};
  if (scratch_ && function.sandbox == config::Sandbox::Strict) {
    spec.sandbox.read_write = {scratch_->path()};
    spec.env.emplace_back("TMPDIR", scratch_->path());
  }
  return spec;
}

supervise::InstanceWorld Function::Impl::world() {
  return {.executor = deps_.executor,
          .clock = deps_.clock,
          .logs = logs_,
          .known = &deps_.known,
          .own_environment = deps_.own_environment};
}

Result<Function::Impl::Live*> Function::Impl::spawn(RevisionPtr revision, InstanceId instance) {
  std::uint16_t port = revision->port;
  std::optional<supervise::PassedListener> lane;
  supervise::InstanceWorld around = world();
  auto const binds = std::make_shared<std::optional<steer::BindRewriter>>();
  if (revision->binds_documented) {
    port = revision->spec.function.trigger_port;
    TRY_ASSIGN(around.own_binds, own_binds(binds));
  } else if (is_direct()) {
    TRY_ASSIGN(lane, direct_->lane(revision->id));
  } else if (instance != revision->original) {
    TRY_ASSIGN(port, free_inner_port());
  }
  // The strict sandbox lets it write nowhere else.
  if (!scratch_ && revision->spec.function.sandbox == config::Sandbox::Strict) {
    TRY_ASSIGN(scratch_, os::TempDir::create(fmt::format("aether-{}", id_)));
  }
  auto const events = [this](InstanceId id, supervise::InstanceEvent const& event) {
    on_event(id, event);
  };
  supervise::LaunchSpec spec = launch_spec(*revision, instance, port);
  if (lane) spec.listeners = {std::move(*lane)};
  TRY_ASSIGN(std::shared_ptr<HandlerRing> ring, make_ring(*revision));
  if (ring) spec.passed = ring->handler_ends();
  TRY_ASSIGN(auto launched,
             supervise::Instance::launch(std::move(spec), std::move(around), events));
  auto live = std::make_unique<Live>();
  if (ring) ring->close_handler_ends();
  live->ring = std::move(ring);
  live->revision = std::move(revision);
  live->instance = std::move(launched);
  live->port = port;
  live->binds = std::move(*binds);
  live->made = StartTier::Cold;
  live->since = deps_.clock.wall();
  return lives_.emplace(instance, std::move(live)).first->second.get();
}

async::Task<Result<Function::Impl::Live*>> Function::Impl::copy(RevisionPtr revision,
                                                                InstanceId instance,
                                                                Duration limit) {
  supervise::LaunchSpec spec = launch_spec(*revision, instance, revision->port);
  auto ring = make_ring(*revision);
  if (!ring) co_return fail(std::move(ring).error());
  std::vector<LentDescriptor> lent;
  for (std::size_t i = 0; *ring && i < kRingDescriptors.size(); ++i)
    lent.push_back({.number = kRingDescriptors.at(i), .fd = (*ring)->handler_ends().at(i)});
  bool const listens_itself = (!is_direct() || is_looked_up()) && !*ring;
  // A socket whose port the kernel hides tells the documented one.
  std::uint16_t const seen =
      revision->binds_documented ? revision->spec.function.trigger_port : revision->port;
  async::Task<Result<FreshCopy>> copying =
      revision->worker->copy(listens_itself ? std::optional(seen) : std::nullopt,
                             supervise::group_name(spec), limit, std::move(lent));
  auto copied = co_await std::move(copying);
  if (!copied) co_return fail(std::move(copied).error());
  pid_t const pid = copied->child.pid();
  auto live = std::make_unique<Live>();
  live->revision = revision;
  if (*ring) (*ring)->close_handler_ends();
  live->ring = std::move(*ring);
  live->port = listens_itself ? copied->port : revision->port;
  if (Status const taken = take_listener(*live, *copied); !taken) {
    (void)copied->child.signal(SIGKILL);
    co_return fail(taken.error());
  }
  live->made = StartTier::Clone;
  live->since = deps_.clock.wall();
  live->ready_said = true;
  live->instance = supervise::Instance::adopt(
      std::move(spec),
      {.child = std::move(copied->child),
       .cgroup = std::move(copied->cgroup),
       .stdout_pipe = std::move(copied->stdout_pipe),
       .stderr_pipe = std::move(copied->stderr_pipe)},
      world(),
      [this](InstanceId id, supervise::InstanceEvent const& event) { on_event(id, event); });
  ready_->tell(pid, restored_line(instance));
  live->instance->signal_main(kHookSignal);
  Live* const added = lives_.emplace(instance, std::move(live)).first->second.get();
  co_return added;
}

void Function::Impl::on_ready_word(pid_t pid) {
  auto const said_by = std::ranges::find_if(
      lives_, [&](auto const& one) { return one.second->instance->pid() == pid; });
  // A handler behind a shell is another process of the tree.
  auto const found =
      said_by != lives_.end() ? said_by : std::ranges::find_if(lives_, [&](auto const& one) {
        return one.second->instance->owns(pid);
      });
  if (found == lives_.end())
    log::warn("{}: process {}, which is none of its handlers, said READY", id_, pid);
  else
    found->second->instance->mark_ready_by_sdk();
}

void Function::Impl::on_event(InstanceId instance, supervise::InstanceEvent const& event) {
  Live* const live = find(instance);
  if (live == nullptr) return;
  if (std::holds_alternative<supervise::event::BecameReady>(event)) {
    live->ready_said = true;
    live->moved.set();
    live->moved.reset();
  }
  if (auto const* exited = std::get_if<supervise::event::Exited>(&event))
    on_exited(instance, *live, *exited);
  if (std::holds_alternative<supervise::event::TreeEnded>(event) && !stopped_)
    tasks_.spawn("bury", bury(instance));
}

void Function::Impl::on_exited(InstanceId instance, Live& live,
                               supervise::event::Exited const& exited) {
  live.exited = exited;
  live.moved.set();
  live.moved.reset();
  std::string why = fmt::format("handler {}", exited.status.describe());
  bool const is_original = live.revision->worker && live.revision->original == instance;
  bool const of_memory = exited.status.signal == SIGKILL && live.instance->memory_kills() > 0;
  if (of_memory)
    why = fmt::format("handler was killed: memory limit of {} MB exceeded",
                      live.revision->spec.function.memory_limit_mb);
  if (!live.ending) {
    ++(of_memory ? out_of_memory_ : crashes_);
    problem_ = why;
    log::warn("{}: instance {} (process {}): {}", id_, instance, live.instance->pid(),
              with_last_lines(why, exited.last_lines));
  }
  if (is_original) return watch_original_end(live.revision, why);
  if (live.ending && !live.reason.empty()) why = live.reason;
  auto const kind = of_memory     ? BackendEnd::Kind::OutOfMemory
                    : live.ending ? BackendEnd::Kind::Retired
                                  : BackendEnd::Kind::Died;
  bool const is_told = !live.ending || !live.reason.empty() || of_memory;
  withdraw_way(
      instance,
      {.kind = is_told && kind == BackendEnd::Kind::Retired ? BackendEnd::Kind::Died : kind,
       .message = why});
}

async::Task<void> Function::Impl::bury(InstanceId instance) {
  Live* const live = find(instance);
  if (live == nullptr) co_return;
  async::Task<void> closing = live->instance->close();
  co_await std::move(closing);
  std::string const why =
      live->ending || !live->exited ? std::string() : live->exited->status.describe();
  lives_.erase(instance);
  happen(pool::Gone{.instance = instance, .why = why});
}

void Function::Impl::end(Live& live) {
  live.ending = true;
  live.ring.reset();  // when the gateway has let go of it too, the handler sees its end
  if (!heeds_term(live)) return live.instance->kill_tree();
  live.instance->begin_stop();
  // A frozen one must run to see a signal, and then sees it before it does anything else.
  (void)live.instance->thaw();
}

}  // namespace aether::functions
