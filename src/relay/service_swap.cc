// SPDX-License-Identifier: Apache-2.0
// Asking for swaps, turning the machine, and the verdict.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/fault.h"
#include "base/log.h"
#include "relay/service_impl.h"
#include "relay/swap_policy.h"

namespace aether::relay {
namespace {

/// Verdicts that can still be asked for after their swap: far more than one caller waits for.
constexpr std::size_t kReportsMax = 32;

}  // namespace

Result<SwapId> Service::Impl::reload(ReloadRequest request) {
  if (stopping_) return fail(ErrorCode::NotRunning, fmt::format("{} is stopping", name_));
  TRY(check_listeners(request.spec));
  if (is_idle(swap_)) {
    SwapId const id{++swaps_};
    begin(id, std::move(request));
    return id;
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
  return Listeners::check_change(listeners_of(serving_), config::effective_listeners(wanted));
}

Listeners::Wanted Service::Impl::listeners_of(RevisionId revision) const {
  auto const spec = specs_.find(revision);
  return spec == specs_.end() ? Listeners::Wanted{} : config::effective_listeners(spec->second);
}

/// A listener stays while the serving revision wants it, a side of the running swap, or one that
/// retires and has not been told to stop.
void Service::Impl::close_unused_listeners() {
  std::vector<Listeners::Wanted> sets{listeners_of(serving_)};
  if (current_) sets.push_back(listeners_of(current_->report.old));
  if (current_) sets.push_back(listeners_of(current_->report.next));
  for (auto const& [revision, retiree] : retirees_)
    if (retiree.state.stage < Retirement::Stage::Ending) sets.push_back(listeners_of(revision));
  listeners_.keep(sets);
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
  make_room(specs_.at(next).orchestration.max_revisions);
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

void Service::Impl::post_for(SwapId swap, SwapEvent event) {
  if (current_ && current_->report.id == swap) post(std::move(event));
}

void Service::Impl::post(SwapEvent event) {
  if (stopping_) return;
  bool const sick = std::holds_alternative<event::NextSick>(event) ||
                    std::holds_alternative<event::RollbackRequested>(event);
  if (sick && current_) current_->bad_news = deps_.clock.now();
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
    current_.reset();
    close_unused_listeners();
    forget_revisions();
  }
  notice_silent_loss();
  tell_state();
}

/// The process that serves from now on may have died while its verdict was being told: the machine
/// takes that for the restart policy's business.
void Service::Impl::notice_silent_loss() {
  if (!is_idle(swap_) || life_ != Life::Running || alive(serving_)) return;
  serving_lost({}, "ended while its swap was decided");
}

async::Task<void> Service::Impl::tick() {
  for (;;) {
    deadline_changed_.reset();
    std::optional<Instant> const at = next_deadline();
    if (!at) {
      co_await deadline_changed_.wait();
      continue;
    }
    bool const changed = co_await deadline_changed_.wait_until(*at);
    if (changed) continue;
    post(event::Tick{});
    tick_retirees();
  }
}

std::optional<Instant> Service::Impl::next_deadline() const {
  if (stopping_) return {};
  std::optional<Instant> next = due(swap_);
  for (auto const& [revision, retiree] : retirees_)
    next = std::min(next.value_or(retiree.state.due), retiree.state.due);
  return next;
}

void Service::Impl::forget_revisions() {
  std::erase_if(specs_, [this](auto const& entry) {
    RevisionId const revision = entry.first;
    bool const swaps =
        current_ && (revision == current_->report.old || revision == current_->report.next);
    return !swaps && revision != serving_ && revision != previous_ &&
           !retirees_.contains(revision) && find(revision) == nullptr;
  });
}

void Service::Impl::conclude(Verdict verdict, std::string why) {
  SwapReport& report = current_->report;
  if (report.verdict != Verdict::Running) return;
  report.verdict = verdict;
  report.why = std::move(why);
  if (alive(serving_)) report.serving = serving_;
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
  if (!hooks.empty()) {
    std::vector<std::string> environment = hook_environment(report.next);
    supervise::EndFacts const otherwise{.result = good ? "success" : "rolled-back"};
    supervise::EndFacts const facts = good ? otherwise : current_->next_end.value_or(otherwise);
    for (std::string& fact : supervise::hook_facts(0, facts))
      environment.push_back(std::move(fact));
    tasks_.spawn("post-process hooks",
                 run_hooks(hooks, specs_.at(report.next), report.next, std::move(environment)));
  }
  remember(report);
}

void Service::Impl::remember(SwapReport report) {
  reports_.push_back(std::move(report));
  if (reports_.size() > kReportsMax) reports_.pop_front();
  verdict_told_.set();
}

}  // namespace aether::relay
