// SPDX-License-Identifier: Apache-2.0
#include "supervise/instance_machine.h"

#include <algorithm>

namespace aether::supervise {
namespace {

template <class Kind>
bool is(config::Ready const& ready) {
  return std::holds_alternative<Kind>(ready);
}

bool is_probed(config::Ready const& ready) {
  return is<config::ReadyHttp>(ready) || is<config::ReadyTcp>(ready) ||
         is<config::ReadyCommand>(ready);
}

/// Whether READY=1 or the SDK's hello makes it ready.
bool believes_the_program(config::Ready const& ready) {
  return is<config::ReadyAuto>(ready) || is<config::ReadyNotify>(ready);
}

}  // namespace

std::string_view ready_by_name(ReadyBy how) {
  switch (how) {
    case ReadyBy::Started:
      return "started";
    case ReadyBy::Notify:
      return "notify";
    case ReadyBy::Sdk:
      return "sdk";
    case ReadyBy::Listening:
      return "listening";
    case ReadyBy::Probe:
      return "probe";
    case ReadyBy::Delay:
      return "delay";
  }
  return "unknown";
}

std::string_view end_cause_name(EndCause cause) {
  switch (cause) {
    case EndCause::Itself:
      return "by itself";
    case EndCause::Asked:
      return "as asked";
    case EndCause::ReadyTimeout:
      return "not ready in time";
    case EndCause::Watchdog:
      return "silent for too long";
  }
  return "unknown";
}

InstanceMachine::InstanceMachine(InstancePolicy policy, Instant started)
    : policy_(std::move(policy)), started_(started) {
  deadline_ = started_ + policy_.ready_timeout;
  extension_limit_ = *deadline_ + kExtensionMax;
  if (auto const* delay = std::get_if<config::ReadyDelay>(&policy_.ready))
    deadline_ = started_ + delay->delay;
  // Nothing can show it: running is being ready. The first Tick says so.
  if (is<config::ReadyAuto>(policy_.ready) && !policy_.has_listeners) deadline_ = started_;
}

InstanceActions InstanceMachine::step(InstanceInput const& input, Instant now) {
  InstanceActions actions;
  if (phase_ == Phase::Gone) return actions;  // A word that was on its way.
  std::visit([&](auto const& happened) { on(happened, now, actions); }, input);
  return actions;
}

std::optional<Instant> InstanceMachine::due() const {
  switch (phase_) {
    case Phase::Starting:
    case Phase::Stopping:
      return deadline_;
    case Phase::Ready:
      return watchdog_due_;
    case Phase::Killing:
    case Phase::Ended:
    case Phase::Gone:
      return phase_ == Phase::Ended ? deadline_ : std::nullopt;
  }
  return std::nullopt;
}

InstanceMachine::Watch InstanceMachine::watch() const {
  if (phase_ != Phase::Starting) return Watch::Nothing;
  if (is_probed(policy_.ready)) return Watch::Probe;
  if (is<config::ReadyListening>(policy_.ready)) return Watch::Listening;
  if (is<config::ReadyAuto>(policy_.ready) && policy_.has_listeners) return Watch::Listening;
  return Watch::Nothing;
}

void InstanceMachine::on(input::Said const& said, Instant now, InstanceActions& actions) {
  NotifyMessage const& message = said.message;
  if (message.status) {
    status_text_ = *message.status;
    actions.push_back(perform::Tell{event::StatusText{status_text_}});
  }
  if (phase_ == Phase::Ended) return;  // Its children speak on; only their words are of interest.
  if (message.main_pid) actions.push_back(perform::AdoptMain{*message.main_pid});
  if (message.extend_timeout) extend(*message.extend_timeout, now);
  if (message.watchdog_interval && policy_.watchdog) policy_.watchdog = message.watchdog_interval;
  if (message.watchdog || message.watchdog_interval) feed_watchdog(now);
  if (message.reloading) actions.push_back(perform::Tell{event::Reloading{}});
  if (message.stopping && (phase_ == Phase::Starting || phase_ == Phase::Ready))
    actions.push_back(perform::Tell{event::Stopping{}});
  if (message.ready && believes_the_program(policy_.ready))
    become_ready(ReadyBy::Notify, now, actions);
  if (message.watchdog_trigger && phase_ == Phase::Ready && policy_.watchdog) {
    actions.push_back(perform::Tell{event::WatchdogMissed{}});
    kill(EndCause::Watchdog, actions);
  }
}

void InstanceMachine::on(input::SdkReady, Instant now, InstanceActions& actions) {
  if (believes_the_program(policy_.ready)) become_ready(ReadyBy::Sdk, now, actions);
}

void InstanceMachine::on(input::Accepting, Instant now, InstanceActions& actions) {
  if (watch() == Watch::Listening) become_ready(ReadyBy::Listening, now, actions);
}

void InstanceMachine::on(input::ProbePassed, Instant now, InstanceActions& actions) {
  if (watch() == Watch::Probe) become_ready(ReadyBy::Probe, now, actions);
}

void InstanceMachine::on(input::MainAdopted adopted, Instant /*now*/, InstanceActions& actions) {
  if (phase_ == Phase::Ended) return;
  actions.push_back(perform::Tell{event::MainChanged{adopted.from, adopted.to}});
  // Who is being stopped is the new one too: the signal went to the old one.
  if (phase_ == Phase::Stopping) actions.push_back(perform::SignalMain{stop_signal_});
  if (phase_ == Phase::Killing) actions.push_back(perform::KillTree{});
}

void InstanceMachine::on(input::MainEnded const& ended, Instant now, InstanceActions& actions) {
  if (phase_ == Phase::Ended) return;
  exit_status_ = ended.status;
  bool const stopping = phase_ == Phase::Stopping;
  phase_ = Phase::Ended;
  actions.push_back(perform::Tell{event::Exited{
      .status = ended.status,
      .cause = cause_,
      .was_ready = ready_at_.has_value(),
      .lived = now - started_,
      .ready_for = ready_at_ ? now - *ready_at_ : Duration::zero(),
      .left_processes = ended.others_live,
  }});
  if (stopping && ended.others_live) {
    // A wrapper (sh -c, npm) died of the signal that was meant for what it runs: that gets the
    // signal now, and the time that is left.
    deadline_ = std::max(deadline_.value_or(now), now + kLeftoverGrace);
    actions.push_back(perform::SignalTree{stop_signal_});
  } else {
    deadline_.reset();
    actions.push_back(perform::KillTree{});
  }
  actions.push_back(perform::AwaitTree{});
}

void InstanceMachine::on(input::TreeEmpty, Instant /*now*/, InstanceActions& actions) {
  if (phase_ != Phase::Ended) return;
  phase_ = Phase::Gone;
  actions.push_back(perform::Tell{event::TreeEnded{}});
}

void InstanceMachine::on(input::StopAsked asked, Instant now, InstanceActions& actions) {
  if (phase_ == Phase::Killing) return;
  Instant const deadline = now + std::max(asked.timeout, Duration::zero());
  if (phase_ == Phase::Stopping || phase_ == Phase::Ended) {  // Asked again: it can only hurry.
    if (deadline_) deadline_ = std::min(*deadline_, deadline);
    return;
  }
  phase_ = Phase::Stopping;
  cause_ = EndCause::Asked;
  stop_signal_ = asked.signal;
  deadline_ = deadline;
  extension_limit_ = deadline + kExtensionMax;
  actions.push_back(perform::SignalMain{asked.signal});
}

void InstanceMachine::on(input::KillAsked, Instant /*now*/, InstanceActions& actions) {
  if (phase_ == Phase::Ended) {
    deadline_.reset();
    actions.push_back(perform::KillTree{});
    return;
  }
  kill(phase_ == Phase::Killing ? cause_ : EndCause::Asked, actions);
}

void InstanceMachine::on(input::Tick, Instant now, InstanceActions& actions) {
  auto const when = due();
  if (!when || now < *when) return;
  if (phase_ == Phase::Ready) {
    Duration const silent = policy_.watchdog.value_or(Duration::zero()) + (now - *when);
    actions.push_back(perform::Tell{event::WatchdogMissed{silent}});
    kill(EndCause::Watchdog, actions);
  } else if (phase_ == Phase::Stopping) {
    kill(EndCause::Asked, actions);
  } else if (phase_ == Phase::Ended) {
    deadline_.reset();
    actions.push_back(perform::KillTree{});
  } else if (is<config::ReadyDelay>(policy_.ready)) {
    become_ready(ReadyBy::Delay, now, actions);
  } else if (is<config::ReadyAuto>(policy_.ready) && !policy_.has_listeners) {
    become_ready(ReadyBy::Started, now, actions);
  } else {
    actions.push_back(perform::Tell{event::ReadyTimedOut{.waited = now - started_}});
    kill(EndCause::ReadyTimeout, actions);
  }
}

void InstanceMachine::become_ready(ReadyBy how, Instant now, InstanceActions& actions) {
  if (phase_ != Phase::Starting) return;
  phase_ = Phase::Ready;
  ready_at_ = now;
  deadline_.reset();
  feed_watchdog(now);
  actions.push_back(perform::Tell{event::BecameReady{how, now - started_}});
}

void InstanceMachine::kill(EndCause cause, InstanceActions& actions) {
  phase_ = Phase::Killing;
  cause_ = cause;
  deadline_.reset();
  actions.push_back(perform::KillTree{});
}

void InstanceMachine::extend(Duration by, Instant now) {
  // A delay is no timeout: asking for more time does not make it longer.
  bool const starting = phase_ == Phase::Starting && !is<config::ReadyDelay>(policy_.ready);
  if ((!starting && phase_ != Phase::Stopping) || !deadline_) return;
  deadline_ = std::max(*deadline_, std::min(now + by, *extension_limit_));
}

void InstanceMachine::feed_watchdog(Instant now) {
  if (policy_.watchdog && phase_ == Phase::Ready) watchdog_due_ = now + *policy_.watchdog;
}

}  // namespace aether::supervise
