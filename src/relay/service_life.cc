// SPDX-License-Identifier: Apache-2.0
// What happens to the instances of a service: launch, readiness, end, restart, burial.
#include <algorithm>
#include <chrono>
#include <ranges>
#include <utility>

#include <fmt/format.h>

#include "async/timers.h"
#include "base/fault.h"
#include "base/log.h"
#include "relay/service_impl.h"
#include "relay/why_ended.h"
#include "supervise/printable.h"

namespace aether::relay {

void Service::Impl::launch_serving(RevisionId revision, std::string_view reason) {
  set_life(Life::Starting);
  ++restart_round_;
  serving_ = revision;
  if (auto steered = listeners_.steer_to(listeners_of(revision), revision); !steered) {
    log::error("{}: {}", name_, steered.error().describe());
  }
  auto launched = launch(revision);
  if (!launched) {
    problem_code_ = launched.error().code();
    // As a shell would have it (man 1 sh, EXIT STATUS).
    if (problem_code_ == ErrorCode::CommandNotFound) exit_code_ = 127;
    if (problem_code_ == ErrorCode::CommandNotExecutable) exit_code_ = 126;
    serving_lost({}, launched.error().message());
    return;
  }
  log::info("{}: revision {} started (pid {}, {})", name_, revision, (*launched)->pid(), reason);
}

Result<supervise::Instance*> Service::Impl::launch(RevisionId revision) {
  TRY(fault::pass(fault::Point::SwapLaunch));
  config::Service const& spec = specs_.at(revision);
  supervise::LaunchSpec launch = supervise::launch_spec(spec, revision, deps_.next_instance());
  TRY_ASSIGN(launch.listeners, listeners_.lanes(listeners_of(revision), revision));
  os::UniqueFd work_line;
  if (spec.is_worker && deps_.work_line) {
    // Who asks for work is ready: not every language can say READY=1.
    auto on_claim = [this, id = launch.instance, here = std::weak_ptr<bool>(here_)] {
      if (here.expired()) return;
      auto const found = instances_.find(id);
      if (found != instances_.end()) found->second->mark_ready_by_sdk();
    };
    TRY_ASSIGN(work_line, deps_.work_line(name_, std::move(on_claim)));
    launch.work_fd = work_line.get();
    launch.env.insert(launch.env.begin(), deps_.worker_env.begin(), deps_.worker_env.end());
  }
  launch.runtime_dir = deps_.runtime_dir;
  launch.state_socket = state_socket_;
  // For a program that is stopped without being told of a drain first.
  if (Duration const spread = spec.orchestration.drain.spread; spread > Duration::zero()) {
    auto const ms = std::chrono::duration_cast<std::chrono::milliseconds>(spread).count();
    launch.env.emplace_back("AETERNA_DRAIN_SPREAD_MS", fmt::format("{}", ms));
  }
  launch.priority = spec.orchestration.startup_priority;
  launch.beside = alive(serving_);
  std::optional<supervise::OwnBinds> binds = own_binds(launch.instance, revision);
  fd_store_.set_max(static_cast<std::size_t>(spec.fd_store));
  InstanceId const id = launch.instance;
  supervise::InstanceWorld world{
      .executor = deps_.executor,
      .clock = deps_.clock,
      .logs = logs_,
      .known = &deps_.known,
      .store = spec.fd_store > 0 ? &fd_store_ : nullptr,
      .introduce =
          [this, revision](std::uint16_t source_port) { listeners_.admit(revision, source_port); },
      .own_binds = std::move(binds),
      .own_environment = supervise::own_environment()};
  TRY_ASSIGN(
      InstancePtr instance,
      supervise::Instance::launch(std::move(launch), std::move(world),
                                  [this](InstanceId from, supervise::InstanceEvent const& event) {
                                    on_instance_event(from, event);
                                  }));
  return instances_.emplace(id, std::move(instance)).first->second.get();
}

void Service::Impl::on_instance_event(InstanceId id, supervise::InstanceEvent const& event) {
  auto const found = instances_.find(id);
  if (found == instances_.end()) return;
  supervise::Instance const& instance = *found->second;
  if (auto const* ready = std::get_if<supervise::event::BecameReady>(&event)) {
    on_ready(instance, *ready);
  } else if (auto const* exited = std::get_if<supervise::event::Exited>(&event)) {
    on_exited(instance, *exited);
  } else if (std::holds_alternative<supervise::event::TreeEnded>(event)) {
    tasks_.spawn("bury", bury(id));
  } else if (auto const* missed = std::get_if<supervise::event::WatchdogMissed>(&event)) {
    log::warn("{}: revision {} missed its watchdog for {}", name_, instance.revision(),
              humanize(missed->silent));
  }
}

void Service::Impl::on_ready(supervise::Instance const& instance,
                             supervise::event::BecameReady const& ready) {
  RevisionId const revision = instance.revision();
  look_at(instance);
  log::info("{}: revision {} is ready after {} (pid {}, {})", name_, revision,
            humanize(ready.after), instance.pid(), supervise::ready_by_name(ready.how));
  if (revision == serving_ && life_ == Life::Starting) {
    problem_.reset();
    set_life(Life::Running);
  }
  if (!current_) return;
  if (revision == current_->report.next) {
    bool const forgets = !current_->next_asked && holds_memory(current_->report.old);
    if (policy_.overlap == SwapPolicy::Overlap::No && current_->blind_since) {
      current_->report.blackout = deps_.clock.now() - *current_->blind_since;
    }
    post(event::NextReady{.forgets_memory = forgets});
  } else if (revision == current_->report.old) {
    post(event::OldReady{});
  }
}

void Service::Impl::on_exited(supervise::Instance const& instance,
                              supervise::event::Exited const& exited) {
  RevisionId const revision = instance.revision();
  bool const is_next = current_ && revision == current_->report.next;
  using Around = EndSurroundings;
  std::string why = why_ended(
      exited, {.listeners = listeners_.empty() ? Around::Listeners::None : Around::Listeners::Held,
               .neighbour = is_next ? Around::Neighbour::OldRevision : Around::Neighbour::None});
  log::info("{}: revision {} (pid {}) {}", name_, revision, instance.pid(),
            exited.status.describe());
  if (stopping_) {
    if (revision == serving_) exit_code_ = exited.status.shell_code();
    return;
  }
  using Outcome = supervise::ServiceEnd::Outcome;
  supervise::ServiceEnd const end{
      .outcome = exited.status.success() ? Outcome::Success : Outcome::Failure,
      .ready_for = exited.ready_for};
  if (retirees_.contains(revision)) return;  // Its retirement ends with the last of its tree.
  if (is_next) {
    current_->next_end = {supervise::service_result(exited.status, exited.cause), exited.status};
    current_->bad_news = instance.started() + exited.lived;
    post(event::NextExited{fmt::format("the new revision {}", why)});
  } else if (current_ && revision == current_->report.old) {
    exit_code_ = exited.status.shell_code();
    tell_old_exited(revision, fmt::format("the old revision {}", why));
  } else if (revision == serving_) {
    exit_code_ = exited.status.shell_code();
    // Its end may have been noticed when its swap was decided: one end, one restart.
    bool const known = life_ == Life::WaitingToRestart || life_ == Life::Down;
    bool const late = exited.cause == supervise::EndCause::ReadyTimeout;
    problem_code_ = late ? ErrorCode::NotReady : ErrorCode::ExitedEarly;
    restart_reason_ = exited.cause == supervise::EndCause::Watchdog ? "watchdog" : "crash";
    if (!known) serving_lost(end, std::move(why));
  }
}

void Service::Impl::tell_old_exited(RevisionId revision, std::string why) {
  if (policy_.overlap == SwapPolicy::Overlap::Yes) {
    post(event::OldExited{std::move(why)});
    return;
  }
  // One owner at a time: the next one waits for the last process of the tree, not for the first.
  tasks_.spawn("old revision ends",
               tell_when_buried(current_->report.id, revision, std::move(why)));
}

async::Task<void> Service::Impl::tell_when_buried(SwapId swap, RevisionId revision,
                                                  std::string why) {
  co_await until_buried(revision);
  post_for(swap, event::OldExited{std::move(why)});
}

void Service::Impl::serving_lost(supervise::ServiceEnd end, std::string why) {
  if (stopping_) return;
  problem_ = why;
  auto const verdict = restart_policy_.ended(end, deps_.clock.now());
  if (auto const* again = std::get_if<supervise::RestartAfter>(&verdict)) {
    // With an echo its last lines have been shown already.
    log::warn("{}: starting it again in {}: {}", name_, humanize(again->wait),
              deps_.echo ? supervise::without_quotes(why) : why);
    set_life(Life::WaitingToRestart);
    tasks_.spawn("restart", restart_after(again->wait, serving_));
    return;
  }
  if (auto const* loop = std::get_if<supervise::CrashLoop>(&verdict)) {
    problem_code_ = ErrorCode::CrashLoop;
    problem_ = fmt::format(
        "crash loop: it ended {} times within {}. Mend it, then run: aether reload {}. Last: {}",
        loop->ends, humanize(loop->within), name_, why);
    log::error("{}: {}", name_, deps_.echo ? supervise::without_quotes(*problem_) : *problem_);
    set_life(Life::Down);
    return;
  }
  log::info("{}: it stays down, as restart: says", name_);
  set_life(Life::Down);
  if (on_ended_) on_ended_();
}

async::Task<void> Service::Impl::restart_after(Duration wait, RevisionId revision) {
  std::uint64_t const round = restart_round_;
  co_await async::sleep_for(wait);
  // The dead one's tree must be gone: the lane is given to one instance at a time.
  co_await until_buried(revision);
  if (stopping_ || round != restart_round_ || life_ != Life::WaitingToRestart) co_return;
  ++restarts_;
  deps_.observer.restarted(name_, restart_reason_);
  launch_serving(revision, "restart");
}

async::Task<void> Service::Impl::bury(InstanceId id) {
  auto const found = instances_.find(id);
  if (found == instances_.end()) co_return;
  supervise::Instance& instance = *found->second;
  RevisionId const revision = instance.revision();
  co_await instance.close();
  instances_.erase(id);
  listeners_.routes().gone(id);
  bound_changed_.set();
  buried_.set();
  if (find(revision) == nullptr) tell_retiree(revision, RetirementEvent::Exited);
}

async::Task<void> Service::Impl::until_buried(RevisionId revision) {
  while (find(revision) != nullptr) {
    buried_.reset();
    co_await buried_.wait();
  }
}

supervise::Instance* Service::Impl::find(RevisionId revision) const {
  // The newest one: a dead one of the same revision may still await its burial.
  for (auto const& [id, instance] : std::views::reverse(instances_)) {
    if (instance->revision() == revision) return instance.get();
  }
  return nullptr;
}

bool Service::Impl::alive(RevisionId revision) const {
  supervise::Instance const* instance = find(revision);
  return instance != nullptr && !instance->exit_status();
}

void Service::Impl::set_life(Life life) {
  life_ = life;
  life_changed_.set();
  tell_state();
}

}  // namespace aether::relay
