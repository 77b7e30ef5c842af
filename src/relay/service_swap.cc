// SPDX-License-Identifier: Apache-2.0
// Performs what the swap machine decides, and tells it what happened. No decision about swaps is
// made here: what looks like one belongs into swap_machine.cc.
#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "async/timers.h"
#include "base/check.h"
#include "base/fault.h"
#include "base/log.h"
#include "relay/service_impl.h"
#include "relay/swap_policy.h"
#include "supervise/hook.h"

namespace aether::relay {
namespace {

/// Verdicts that can still be asked for after their swap: far more than one caller waits for.
constexpr std::size_t kReportsMax = 32;

/// The machine ends a drain by itself; the instance's own deadline only backs it up.
constexpr Duration kStopBackstop = std::chrono::seconds(10);

}  // namespace

// ---- Asking for swaps ---------------------------------------------------------------------------

Result<SwapId> Service::Impl::reload(ReloadRequest request) {
  if (stopping_) return fail(ErrorCode::NotRunning, fmt::format("{} is stopping", name_));
  TRY(check_listeners(request.spec));
  if (is_idle(swap_)) {
    SwapId const id{++swaps_};
    begin(id, std::move(request));
    return id;
  }
  // With its verdict out, a swap only drains: the next one waits for that and then begins.
  bool const only_drains = std::holds_alternative<Draining>(swap_) && !waiting_;
  if (only_drains && !request.force) {
    reload_later(std::move(request));
    return waiting_->id;
  }
  if (!request.force) {
    return fail(ErrorCode::SwapRunning,
                fmt::format("a swap of {} to revision {} is running (phase: {}); wait for its "
                            "verdict, or supersede it with --force",
                            name_, current_->report.next, phase_name(swap_)));
  }
  reload_later(std::move(request));
  SwapId const id = waiting_->id;
  post(event::RollbackRequested{"superseded by a newer reload"});
  return id;
}

Status Service::Impl::check_listeners(config::Service const& wanted) const {
  config::Service const& now = specs_.at(serving_);
  if (config::effective_listeners(now) == config::effective_listeners(wanted)) return {};
  return fail(ErrorCode::Unsupported,
              fmt::format("{}: its listeners changed, which a swap does not do yet; restart "
                          "Aether to apply that, or put listen: back as it was",
                          name_));
}

void Service::Impl::reload_later(ReloadRequest request) {
  if (stopping_) return;
  if (is_idle(swap_)) {
    if (auto begun = reload(std::move(request)); !begun) {
      log::error("{}: reload refused: {}", name_, begun.error().describe());
    }
    return;
  }
  if (auto same = check_listeners(request.spec); !same) {
    log::error("{}: reload refused: {}", name_, same.error().describe());
    return;
  }
  // One is remembered; the newer one takes its place, and its caller is told so.
  drop_waiting("superseded by a newer reload");
  waiting_ = Waiting{SwapId{++swaps_}, std::move(request)};
}

Result<SwapId> Service::Impl::rollback(std::string reason) {
  if (!is_idle(swap_)) {
    if (std::holds_alternative<Draining>(swap_)) {
      return fail(ErrorCode::SwapRunning,
                  fmt::format("{}: the swap has its verdict and the old revision is draining; "
                              "roll back when that is over",
                              name_));
    }
    SwapId const id = current_->report.id;
    post(event::RollbackRequested{std::move(reason)});
    return id;
  }
  auto const found = specs_.find(previous_);
  if (previous_ == RevisionId{} || found == specs_.end()) {
    return fail(ErrorCode::NotFound,
                fmt::format("{} has no earlier revision to go back to", name_));
  }
  return reload({.reason = std::move(reason), .spec = found->second});
}

async::Task<SwapReport> Service::Impl::verdict(SwapId swap) {
  for (;;) {
    auto const told = std::ranges::find(reports_, swap, &SwapReport::id);
    if (told != reports_.end()) co_return *told;
    bool const known =
        (current_ && current_->report.id == swap) || (waiting_ && waiting_->id == swap);
    if (!known) throw Error(ErrorCode::NotFound, fmt::format("no swap {} of {}", swap, name_));
    verdict_told_.reset();
    co_await verdict_told_.wait();
  }
}

void Service::Impl::begin(SwapId id, ReloadRequest request) {
  RevisionId const next{++revisions_};
  specs_.insert_or_assign(next, std::move(request.spec));
  Current swap;
  swap.report = {.id = id,
                 .old = serving_,
                 .next = next,
                 .reason = std::move(request.reason),
                 .began = deps_.clock.wall()};
  swap.began = deps_.clock.now();
  // What a swap left behind whose processes all died is for whoever serves next.
  if (!alive(serving_)) swap.memory = orphaned_memory_;
  if (supervise::Instance const* old = find(serving_)) swap.report.old_pid = old->pid();
  current_ = std::move(swap);
  restart_policy_.clear();
  ++restart_round_;  // A restart that was planned is void: this swap starts the service.
  policy_ = swap_policy(specs_.at(next));
  log::info("{}: swap {} to revision {} begins ({})", name_, id, next, current_->report.reason);
  post(event::ReloadRequested{.next = next, .old_alive = alive(serving_)});
}

void Service::Impl::begin_waiting() {
  if (!waiting_ || stopping_) return;
  Waiting waiting = std::move(*waiting_);
  waiting_.reset();
  begin(waiting.id, std::move(waiting.request));
}

void Service::Impl::drop_waiting(std::string why) {
  if (!waiting_) return;
  SwapReport dropped{.id = waiting_->id,
                     .old = serving_,
                     .reason = waiting_->request.reason,
                     .verdict = Verdict::RolledBack,
                     .why = std::move(why)};
  waiting_.reset();
  remember(std::move(dropped));
}

// ---- Turning the machine ------------------------------------------------------------------------

void Service::Impl::post_for(SwapId swap, SwapEvent event) {
  if (current_ && current_->report.id == swap) post(std::move(event));
}

void Service::Impl::post(SwapEvent event) {
  if (stopping_) return;
  inbox_.push_back(std::move(event));
  if (turning_) return;  // An action told its outcome at once: it is read after this turn.
  turning_ = true;
  while (!inbox_.empty()) {
    SwapEvent const next = std::move(inbox_.front());
    inbox_.pop_front();
    try {
      turn(next);
    } catch (Error const& error) {
      // An action that failed in a way nobody foresaw must not end all later swaps: the state's
      // deadline decides.
      log::error("{}: {}: {}", name_, event_name(next), error.describe());
    }
  }
  turning_ = false;
  if (is_idle(swap_)) begin_waiting();
}

void Service::Impl::turn(SwapEvent const& event) {
  std::string_view const before = phase_name(swap_);
  SwapActions const actions = step(swap_, event, deps_.clock.now(), policy_);
  std::string_view const after = phase_name(swap_);
  if (before != after) log::debug("{}: {} -> {} ({})", name_, before, after, event_name(event));
  if (current_ && !is_idle(swap_)) current_->phases.enter(after, deps_.clock.now());
  for (SwapAction const& action : actions) {
    std::visit([this](auto const& one) { perform(one); }, action);
  }
  deadline_changed_.set();
  if (is_idle(swap_) && current_) {
    current_->over->set();
    previous_ = current_->report.verdict == Verdict::Succeeded ? current_->report.old : previous_;
    RevisionId const next = current_->report.next;
    current_.reset();
    // One that never ran has no burial to wait for.
    if (next != serving_ && find(next) == nullptr) specs_.erase(next);
  }
  notice_silent_loss();
  tell_state();
}

/// The process that serves from now on may have died while its verdict was being told: the machine
/// takes that for the restart policy's business.
void Service::Impl::notice_silent_loss() {
  bool const decided = is_idle(swap_) || std::holds_alternative<Draining>(swap_);
  if (!decided || life_ != Life::Running || alive(serving_)) return;
  serving_lost({}, "ended while its swap was decided");
}

async::Task<void> Service::Impl::tick() {
  for (;;) {
    deadline_changed_.reset();
    std::optional<Instant> const at = due(swap_);
    if (!at) {
      co_await deadline_changed_.wait();
      continue;
    }
    bool const changed = co_await deadline_changed_.wait_until(*at);
    if (!changed) post(event::Tick{});
  }
}

// ---- Actions ------------------------------------------------------------------------------------

void Service::Impl::spawn_for_swap(std::string name, async::Task<void> task) {
  tasks_.spawn(std::move(name), while_swapping(current_->over, std::move(task)));
}

async::Task<void> Service::Impl::while_swapping(std::shared_ptr<async::Event> over,
                                                async::Task<void> task) {
  co_await async::until(*over, std::move(task));
}

void Service::Impl::perform(action::RunPreflight) {
  spawn_for_swap("preflight", preflight(current_->report.id, current_->report.next));
}

async::Task<void> Service::Impl::preflight(SwapId swap, RevisionId next) {
  auto const found = specs_.find(next);
  if (found == specs_.end()) co_return;  // The swap was over before this began.
  config::Service const spec = found->second;
  std::vector<std::string> const environment = hook_environment(next);
  if (auto passed = fault::pass(fault::Point::SwapPreflight); !passed) {
    post_for(swap, event::PreflightFailed{passed.error().message()});
    co_return;
  }
  // A command that does not exist is known before anything is touched.
  auto const command =
      os::find_command(spec.command.front(), environment, spec.workdir.value_or(""));
  if (!command) {
    post_for(swap, event::PreflightFailed{command.error().message()});
    co_return;
  }
  for (config::Hook const& hook : spec.orchestration.pre_flight) {
    supervise::HookSpec run = hook_run(hook, spec, next, environment);
    supervise::HookResult const result = co_await supervise::run_hook(deps_.clock, std::move(run));
    Status const status = supervise::hook_status(hook.name, result);
    if (status) continue;
    if (hook.block_on_fail) {
      post_for(swap, event::PreflightFailed{status.error().message()});
      co_return;
    }
    log::warn("{}: {} (block_on_fail is off: the swap goes on)", name_, status.error().message());
  }
  post_for(swap, event::PreflightPassed{});
}

void Service::Impl::perform(action::Launch action) {
  auto launched = launch(action.revision);
  bool const is_next = current_ && action.revision == current_->report.next;
  if (!launched) {
    std::string why = launched.error().message();
    if (is_next) {
      post(event::NextExited{std::move(why)});
    } else {
      post(event::OldExited{std::move(why)});
    }
    return;
  }
  if (is_next) current_->report.next_pid = (*launched)->pid();
  deps_.observer.restarted(name_, "reload");
}

void Service::Impl::perform(action::SteerTo action) {
  Status steered = fault::pass(fault::Point::SteerPoint);
  if (steered) steered = listeners_.steer_to(action.revision);
  if (!steered) {
    log::error("{}: new connections could not be steered to revision {}: {}", name_,
               action.revision, steered.error().describe());
    if (current_ && action.revision == current_->report.next) {
      post(event::NextSick{steered.error().message()});
    }
    return;
  }
  if (current_ && action.revision == current_->report.next) {
    // With memory to move, whoever connects from now on waits for the new one to have it.
    if (!current_->blind_since) current_->blind_since = deps_.clock.now();
  }
}

void Service::Impl::perform(action::WatchQueue action) {
  spawn_for_swap("accept queue", watch_queue(current_->report.id, action.revision));
}

async::Task<void> Service::Impl::watch_queue(SwapId swap, RevisionId revision) {
  co_await listeners_.until_queues_empty(revision);
  post_for(swap, event::QueueEmpty{});
}

void Service::Impl::perform(action::StartJudge) {
  if (auto passed = fault::pass(fault::Point::SwapSoak); !passed) {
    post(event::NextSick{passed.error().message()});
    return;
  }
  RevisionId const next = current_->report.next;
  config::Service const& spec = specs_.at(next);
  auto const& check = spec.orchestration.canary.health_check;
  if (!check) return;
  supervise::ProbeSpec probe{.environment = hook_environment(next),
                             .workdir = spec.workdir,
                             .user = spec.user,
                             .known = &deps_.known};
  if (auto lanes = listeners_.lanes(next); lanes && !lanes->empty()) {
    probe.port = lanes->front().address.port;
  }
  health_.start(tasks_, *check, std::move(probe),
                [this, swap = current_->report.id](std::string why) {
                  post_for(swap, event::NextSick{std::move(why)});
                });
}

void Service::Impl::perform(action::StopJudge) {
  health_.stop();
}

void Service::Impl::perform(action::Stop action) {
  supervise::Instance* const instance = find(action.revision);
  if (instance == nullptr) return post_gone(action.revision);
  if (auto passed = fault::pass(fault::Point::SwapDrain); !passed) {
    // As if the signal were lost: the deadline of the drain ends it.
    log::error("{}: revision {}: {}", name_, action.revision, passed.error().describe());
    return;
  }
  config::Service const& spec = specs_.at(action.revision);
  if (!current_->blind_since && policy_.overlap == SwapPolicy::Overlap::No) {
    current_->blind_since = deps_.clock.now();
  }
  instance->begin_stop(spec.stop_signal, policy_.drain_limit + kStopBackstop);
}

void Service::Impl::perform(action::Kill action) {
  supervise::Instance* const instance = find(action.revision);
  if (instance != nullptr && !instance->exit_status()) {
    instance->kill_tree();
  } else {
    post_gone(action.revision);
  }
}

void Service::Impl::post_gone(RevisionId revision) {
  if (current_ && revision == current_->report.next) {
    post(event::NextExited{"is gone already"});
  } else {
    post(event::OldExited{"is gone already"});
  }
}

void Service::Impl::perform(action::RetireLane action) {
  tasks_.spawn("retire lane", retire(action.revision));
}

async::Task<void> Service::Impl::retire(RevisionId revision) {
  // Whatever is left of the tree is ended by its instance; the lane is closed after the last one.
  co_await until_buried(revision);
  bool const used_again = steered(swap_) == revision || alive(revision);
  if (!used_again) {
    std::uint64_t const taken = co_await listeners_.retire(revision, rescue_);
    if (taken > 0) {
      log::info("{}: {} connections that waited for revision {} go to revision {}", name_, taken,
                revision, steered(swap_));
    }
  }
  bool const remembered =
      revision == previous_ || revision == serving_ ||
      (current_ && (revision == current_->report.old || revision == current_->report.next));
  if (!remembered) specs_.erase(revision);
  if (!alive(revision)) with_memory_.erase(revision);
}

void Service::Impl::perform(action::Succeed const& action) {
  RevisionId const retired = previous_;
  serving_ = current_->report.next;
  if (retired != serving_ && retired != current_->report.old) specs_.erase(retired);
  problem_.reset();
  orphaned_memory_.reset();
  set_life(Life::Running);
  // Both could accept for a while: nobody ever waited for an owner.
  if (!current_->report.blackout) current_->report.blackout = Duration::zero();
  conclude(Verdict::Succeeded, action.note);
}

void Service::Impl::perform(action::Fail const& action) {
  // Where the connections go tells who serves: nearly always the old one.
  serving_ = steered(swap_);
  if (alive(serving_)) set_life(Life::Running);
  conclude(Verdict::RolledBack, action.why);
}

void Service::Impl::perform(action::GiveUp const& action) {
  serving_ = steered(swap_);
  // What was on its way when both processes were gone is for the one that is started now.
  if (current_) orphaned_memory_ = current_->reclaimed ? current_->reclaimed : current_->memory;
  serving_lost({}, action.why);
}

void Service::Impl::conclude(Verdict verdict, std::string why) {
  SwapReport& report = current_->report;
  if (report.verdict != Verdict::Running) return;
  report.verdict = verdict;
  report.why = std::move(why);
  report.phases = current_->phases.finish(deps_.clock.now());
  for (PhaseTime const& phase : report.phases) {
    deps_.observer.phase_ended(name_, phase.name, phase.took);
  }
  bool const good = verdict == Verdict::Succeeded;
  if (!good) {
    auto const passed = fault::pass(fault::Point::SwapRollback);
    if (!passed) log::error("{}: {}", name_, passed.error().describe());
  }
  if (good) {
    log::info("{}: swap {} succeeded: revision {} serves (pid {})", name_, report.id, report.next,
              report.next_pid);
  } else {
    log::error("{}: swap {} was rolled back: {}", name_, report.id, report.why);
  }
  deps_.observer.swap_ended(name_, report);
  config::Orchestration const& orchestration = specs_.at(report.next).orchestration;
  auto const& hooks = good ? orchestration.on_success : orchestration.on_failure;
  if (!hooks.empty())
    tasks_.spawn("post-process hooks", run_hooks(hooks, specs_.at(report.next), report.next,
                                                 hook_environment(report.next)));
  remember(report);
}

void Service::Impl::remember(SwapReport report) {
  reports_.push_back(std::move(report));
  if (reports_.size() > kReportsMax) reports_.pop_front();
  verdict_told_.set();
}

supervise::HookSpec Service::Impl::hook_run(config::Hook const& hook,
                                            config::Service const& service, RevisionId revision,
                                            std::vector<std::string> environment) {
  supervise::HookSpec run = supervise::hook_spec(hook);
  run.environment = std::move(environment);
  run.workdir = service.workdir;
  run.user = service.user;
  run.revision = revision;
  run.logs = &logs_;
  run.known = &deps_.known;
  return run;
}

async::Task<void> Service::Impl::run_hooks(std::vector<config::Hook> hooks, config::Service service,
                                           RevisionId revision,
                                           std::vector<std::string> environment) {
  for (config::Hook const& hook : hooks) {
    supervise::HookSpec run = hook_run(hook, service, revision, environment);
    supervise::HookResult const result = co_await supervise::run_hook(deps_.clock, std::move(run));
    if (auto status = supervise::hook_status(hook.name, result); !status) {
      log::warn("{}: {}", name_, status.error().message());
    }
  }
}

}  // namespace aether::relay
