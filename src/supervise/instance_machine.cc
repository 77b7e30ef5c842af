// SPDX-License-Identifier: Apache-2.0
#include "supervise/instance_machine.h"

#include <algorithm>
#include <system_error>

#include <fmt/format.h>

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
    case ReadyBy::Fd:
      return "descriptor";
    case ReadyBy::Log:
      return "output";
    case ReadyBy::PidFile:
      return "pid file";
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

std::string_view service_result(os::ExitStatus status, EndCause cause) {
  if (cause == EndCause::ReadyTimeout) return "timeout";
  if (cause == EndCause::Watchdog) return "watchdog";
  if (status.core_dumped) return "core-dump";
  if (status.signal != 0) return "signal";
  return status.code == 0 ? "success" : "exit-code";
}

InstanceMachine::InstanceMachine(InstancePolicy policy, Instant started)
    : policy_(std::move(policy)), started_(started) {
  deadline_ = started_ + policy_.ready_timeout;
  extension_limit_ = *deadline_ + kExtensionMax;
  if (auto const* delay = std::get_if<config::ReadyDelay>(&policy_.ready))
    deadline_ = started_ + delay->delay;
  // Nothing can show it: running is being ready. The first Tick says so.
  bool const shows_nothing = is<config::ReadyAuto>(policy_.ready) && !policy_.has_listeners;
  if (shows_nothing && !policy_.has_pid_file) deadline_ = started_;
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
      return watchdog_due_ && deadline_ ? std::min(watchdog_due_, deadline_)
             : watchdog_due_            ? watchdog_due_
                                        : deadline_;
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

bool InstanceMachine::hears(bool is_main) const {
  return policy_.access == config::NotifyAccess::All ||
         (policy_.access == config::NotifyAccess::Main && is_main);
}

bool InstanceMachine::shows_by_pid_file() const {
  return policy_.has_pid_file && is<config::ReadyAuto>(policy_.ready) && !policy_.has_listeners;
}

void InstanceMachine::on(input::Said const& said, Instant now, InstanceActions& actions) {
  NotifyMessage const& message = said.message;
  if (message.status) {
    status_text_ = *message.status;
    actions.push_back(perform::Tell{event::StatusText{status_text_}});
  }
  if (phase_ == Phase::Ended) return;  // Its children speak on; only their words are of interest.
  note_failure(message);
  if (message.access) policy_.access = *message.access;
  if (message.main_pid)
    actions.push_back(perform::AdoptMain{*message.main_pid, message.main_pidfd_id});
  if (message.extend_timeout) extend(*message.extend_timeout, now, actions);
  if (message.watchdog_interval && policy_.watchdog) policy_.watchdog = message.watchdog_interval;
  if (message.watchdog || message.watchdog_interval) feed_watchdog(now);
  announce(message, now, actions);
  bool const runs = phase_ == Phase::Starting || phase_ == Phase::Ready;
  if (message.watchdog_trigger && runs) {
    actions.push_back(perform::Tell{event::WatchdogMissed{}});
    kill(EndCause::Watchdog, now, actions);
  }
}

void InstanceMachine::note_failure(NotifyMessage const& message) {
  std::string words;
  auto const add = [&words](std::string const& word) {
    words += words.empty() ? word : ", " + word;
  };
  if (int const number = message.error_number.value_or(0); number != 0)
    add(fmt::format("ERRNO={} ({})", number, std::generic_category().message(number)));
  if (message.bus_error) add("BUSERROR=" + *message.bus_error);
  if (message.varlink_error) add("VARLINKERROR=" + *message.varlink_error);
  if (message.exit_status) add(fmt::format("EXIT_STATUS={}", *message.exit_status));
  if (!words.empty()) reported_ = std::move(words);
}

/// READY=1, RELOADING=1 and STOPPING=1.
void InstanceMachine::announce(NotifyMessage const& message, Instant now,
                               InstanceActions& actions) {
  if (message.reloading) {
    reloading_ = true;
    actions.push_back(perform::Tell{event::Reloading{}});
  }
  if (message.stopping && (phase_ == Phase::Starting || phase_ == Phase::Ready))
    actions.push_back(perform::Tell{event::Stopping{}});
  if (message.stopping && phase_ == Phase::Ready && !leaving_) {
    leaving_ = true;
    watchdog_due_.reset();
    deadline_ = now + policy_.stop_timeout;
    extension_limit_ = *deadline_ + kExtensionMax;
  }
  if (!message.ready) return;
  // HAProxy and Caddy say RELOADING=1 before their first READY=1: that is a start, and no reload.
  bool const reloaded = phase_ == Phase::Ready && reloading_;
  reloading_ = false;
  if (reloaded) actions.push_back(perform::Tell{event::Reloaded{}});
  if (believes_the_program(policy_.ready)) become_ready(ReadyBy::Notify, now, actions);
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

void InstanceMachine::on(input::FdNewline, Instant now, InstanceActions& actions) {
  if (is<config::ReadyFd>(policy_.ready)) become_ready(ReadyBy::Fd, now, actions);
}

void InstanceMachine::on(input::LineSeen, Instant now, InstanceActions& actions) {
  if (is<config::ReadyLog>(policy_.ready)) become_ready(ReadyBy::Log, now, actions);
}

void InstanceMachine::on(input::MainAdopted adopted, Instant now, InstanceActions& actions) {
  if (phase_ == Phase::Ended) return;
  launcher_.reset();
  if (phase_ == Phase::Ready && !leaving_) deadline_.reset();
  if (adopted.from != adopted.to)
    actions.push_back(perform::Tell{event::MainChanged{adopted.from, adopted.to}});
  if (shows_by_pid_file()) become_ready(ReadyBy::PidFile, now, actions);
  // Who is being stopped is the new one too: the signal went to the old one.
  if (phase_ == Phase::Stopping) actions.push_back(perform::SignalMain{stop_signal_});
  if (phase_ == Phase::Killing) actions.push_back(perform::KillTree{});
}

bool InstanceMachine::may_have_successor(input::MainEnded const& ended) const {
  bool const runs = phase_ == Phase::Starting || phase_ == Phase::Ready;
  return policy_.has_pid_file && runs && ended.status.success() && ended.others_live;
}

void InstanceMachine::on(input::MainEnded const& ended, Instant now, InstanceActions& actions) {
  if (phase_ == Phase::Ended) return;
  if (may_have_successor(ended)) {
    launcher_ = ended.status;
    if (phase_ == Phase::Ready) deadline_ = now + kSuccessorWait;
    return;
  }
  end(ended.status, ended.others_live, now, actions);
}

void InstanceMachine::end(os::ExitStatus status, bool others_live, Instant now,
                          InstanceActions& actions) {
  launcher_.reset();
  exit_status_ = status;
  bool const stopping = phase_ == Phase::Stopping;
  phase_ = Phase::Ended;
  actions.push_back(perform::Tell{event::Exited{
      .status = status,
      .cause = cause_,
      .was_ready = ready_at_.has_value(),
      .lived = now - started_,
      .ready_for = ready_at_ ? now - *ready_at_ : Duration::zero(),
      .left_processes = others_live,
      .reported = reported_,
  }});
  if (stopping && others_live) {
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

void InstanceMachine::on(input::TreeEmpty, Instant now, InstanceActions& actions) {
  // It went to the background and died there before it was found.
  if (launcher_) return end(*launcher_, false, now, actions);
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
  if (launcher_) return end(*launcher_, true, now, actions);  // Nobody is the main process now.
  actions.push_back(perform::SignalMain{asked.signal});
}

void InstanceMachine::on(input::KillAsked, Instant now, InstanceActions& actions) {
  if (phase_ == Phase::Ended) {
    deadline_.reset();
    actions.push_back(perform::KillTree{});
    return;
  }
  kill(phase_ == Phase::Killing ? cause_ : EndCause::Asked, now, actions);
}

void InstanceMachine::on(input::Tick, Instant now, InstanceActions& actions) {
  auto const when = due();
  if (!when || now < *when) return;
  if (phase_ == Phase::Ready && deadline_ && now >= *deadline_) {
    if (launcher_) actions.push_back(perform::Tell{event::ReadyTimedOut{kSuccessorWait, true, {}}});
    kill(launcher_ ? EndCause::ReadyTimeout : EndCause::Itself, now, actions);
  } else if (phase_ == Phase::Ready) {
    Duration const silent = policy_.watchdog.value_or(Duration::zero()) + (now - *when);
    actions.push_back(perform::Tell{event::WatchdogMissed{silent}});
    kill(EndCause::Watchdog, now, actions);
  } else if (phase_ == Phase::Stopping) {
    kill(EndCause::Asked, now, actions);
  } else if (phase_ == Phase::Ended) {
    deadline_.reset();
    actions.push_back(perform::KillTree{});
  } else if (is<config::ReadyDelay>(policy_.ready)) {
    become_ready(ReadyBy::Delay, now, actions);
  } else if (is<config::ReadyAuto>(policy_.ready) && !policy_.has_listeners &&
             !policy_.has_pid_file) {
    become_ready(ReadyBy::Started, now, actions);
  } else {
    actions.push_back(perform::Tell{
        event::ReadyTimedOut{.waited = *when - started_, .backgrounded = launcher_.has_value()}});
    kill(EndCause::ReadyTimeout, now, actions);
  }
}

void InstanceMachine::become_ready(ReadyBy how, Instant now, InstanceActions& actions) {
  if (phase_ != Phase::Starting) return;
  phase_ = Phase::Ready;
  ready_at_ = now;
  deadline_.reset();
  if (launcher_) deadline_ = now + kSuccessorWait;
  feed_watchdog(now);
  actions.push_back(perform::Tell{event::BecameReady{how, now - started_}});
}

void InstanceMachine::kill(EndCause cause, Instant now, InstanceActions& actions) {
  phase_ = Phase::Killing;
  cause_ = cause;
  deadline_.reset();
  actions.push_back(perform::KillTree{});
  if (launcher_) end(*launcher_, true, now, actions);  // No end of a main process will follow.
}

void InstanceMachine::extend(Duration by, Instant now, InstanceActions& actions) {
  // A delay is no timeout: asking for more time does not make it longer.
  bool const starting = phase_ == Phase::Starting && !is<config::ReadyDelay>(policy_.ready);
  bool const leaving = phase_ == Phase::Ready && leaving_;
  if ((!starting && !leaving && phase_ != Phase::Stopping) || !deadline_) return;
  Instant const before = *deadline_;
  deadline_ = std::max(before, std::min(now + by, *extension_limit_));
  if (*deadline_ > before) actions.push_back(perform::Tell{event::Extended{*deadline_ - now}});
}

void InstanceMachine::feed_watchdog(Instant now) {
  if (policy_.watchdog && phase_ == Phase::Ready && !leaving_)
    watchdog_due_ = now + *policy_.watchdog;
}

}  // namespace aether::supervise
