// SPDX-License-Identifier: Apache-2.0
// What a service says of itself.
#include <algorithm>
#include <chrono>

#include "relay/service_impl.h"

namespace aether::relay {

void Service::Impl::tell_state() {
  std::string const state = state_name();
  if (state == told_state_) return;
  told_state_ = state;
  deps_.observer.state_changed(name_, state);
}

std::string Service::Impl::state_name() const {
  if (stopping_) return life_ == Life::Stopped ? "STOPPED" : "DRAINING";
  if (!is_idle(swap_)) return std::string(public_phase_name(swap_));
  switch (life_) {
    case Life::Pending:
      return "PENDING";
    case Life::Starting:
      return "STARTING";
    case Life::Running:
      return drains() ? "DRAINING" : "RUNNING";
    case Life::WaitingToRestart:
    case Life::Down:
      return "FAILED";
    case Life::Stopped:
      return "STOPPED";
  }
  return "FAILED";
}

ServiceStatus Service::Impl::status() const {
  // While a swap runs, whoever new connections go to; the other one is the old one, or stands by.
  RevisionId const current = is_idle(swap_) ? serving_ : steered(swap_);
  bool const only_drains = is_idle(swap_) && drains();
  ServiceStatus status{.name = name_,
                       .state = state_name(),
                       .phase = only_drains ? "draining" : std::string(phase_name(swap_)),
                       .listeners = listeners_.status(),
                       .revision = current,
                       .percent = percent(swap_, policy_),
                       .restarts = restarts_,
                       .fd_store = {.count = fd_store_.size(),
                                    .max = fd_store_.max(),
                                    .refused = fd_store_.counts().refused},
                       .rescued = rescue_.totals().carried,
                       .log_lines = logs_.next_sequence() - 1,
                       .problem = problem_,
                       .command = specs_.at(current).command};
  for (supervise::FdStore::Stored& one : fd_store_.stored())
    status.fd_store.names.push_back(std::move(one.name));
  for (auto const& [id, instance] : instances_) {
    if (instance->exit_status()) continue;
    bool const serving = instance->revision() == current;
    // Of several others the newest: the other side of a swap, or who began to drain last.
    (serving ? status.pid : status.old_pid) = instance->pid();
    status.instances.push_back(status_of(*instance));
  }
  std::ranges::partition(status.instances, [current](InstanceStatus const& instance) {
    return instance.revision == current;
  });
  for (auto const& [revision, retiree] : retirees_)
    status.draining.push_back(status_of(revision, retiree));
  if (current_) {
    status.last_swap = current_->report;
  } else if (!reports_.empty()) {
    status.last_swap = reports_.back();
  }
  return status;
}

InstanceStatus Service::Impl::status_of(supervise::Instance const& instance) const {
  std::string state = instance.is_reloading() ? "reloading"
                      : instance.is_ready()   ? "ready"
                                              : "starting";
  if (retirees_.contains(instance.revision())) state = "draining";
  return {.revision = instance.revision(),
          .instance = instance.id(),
          .pid = instance.pid(),
          .state = std::move(state),
          .status_text = instance.status_text(),
          .since = wall_time(instance.started()),
          .memory_bytes = instance.resident_bytes()};
}

DrainStatus Service::Impl::status_of(RevisionId revision, Retiree const& retiree) const {
  supervise::Instance const* instance = find(revision);
  return {.revision = revision,
          .pid = instance == nullptr ? 0 : instance->pid(),
          .stage = std::string(stage_name(retiree.state.stage)),
          .since = wall_time(retiree.state.began),
          .deadline = wall_time(retiree.state.deadline),
          .connections = retiree.connections};
}

WallTime Service::Impl::wall_time(Instant at) const {
  auto const ahead = std::chrono::duration_cast<WallTime::duration>(at - deps_.clock.now());
  return deps_.clock.wall() + ahead;
}

}  // namespace aether::relay
