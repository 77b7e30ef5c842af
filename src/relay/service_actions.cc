// SPDX-License-Identifier: Apache-2.0
// Performs what the swap machine decides, and tells it what happened. No decision about swaps is
// made here: what looks like one belongs into swap_machine.cc.
#include <algorithm>
#include <chrono>
#include <utility>

#include "async/timers.h"
#include "base/fault.h"
#include "base/log.h"
#include "relay/service_impl.h"

namespace aether::relay {
namespace {

/// Between attempts to steer, when the kernel refused it: nobody serves what is new meanwhile.
constexpr Duration kSteerAgain = std::chrono::milliseconds(10);
constexpr Duration kSteerAgainLast = std::chrono::seconds(1);

}  // namespace

void Service::Impl::spawn_for_swap(std::string name, async::Task<void> task) {
  tasks_.spawn(std::move(name), until_over(current_->over, std::move(task)));
}

async::Task<void> Service::Impl::until_over(std::shared_ptr<async::Event> over,
                                            async::Task<void> task) {
  co_await async::until(*over, std::move(task));
}

void Service::Impl::perform(action::RunPreflight) {
  spawn_for_swap("preflight", preflight(current_->report.id, current_->report.next));
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
  deps_.observer.restarted(name_, is_next ? "reload" : "rollback");
}

void Service::Impl::perform(action::SteerTo action) {
  Status const steered = steer(action.revision);
  bool const to_next = current_ && action.revision == current_->report.next;
  if (!steered && to_next) {
    post(event::NextSick{steered.error().message()});
  } else if (!steered) {
    // There is nobody else to steer to: until it works, what is new waits where it went before.
    tasks_.spawn("steer again", steer_again(action.revision));
  } else if (to_next) {
    // With memory to move, whoever connects from now on waits for the new one to have it.
    if (!current_->blind_since) current_->blind_since = deps_.clock.now();
  } else if (current_ && current_->bad_news && !current_->report.rollback_took) {
    current_->report.rollback_took = deps_.clock.now() - *current_->bad_news;
  }
}

void Service::Impl::perform(action::Split action) {
  config::Canary const& canary = specs_.at(action.revision).orchestration.canary;
  Status split = fault::pass(fault::Point::SteerPoint);
  if (split) {
    split = listeners_.split(listeners_of(action.revision), listeners_of(action.other),
                             {.revision = action.revision,
                              .percent = action.percent,
                              .other = action.other,
                              .stick = canary.stick == config::Stick::Source ? steer::Stick::Source
                                                                             : steer::Stick::None});
  }
  if (!split) {
    post(event::NextSick{split.error().message()});
    return;
  }
  log::info("{}: revision {} gets {}% of new connections", name_, action.revision, action.percent);
  deps_.observer.part_given(name_, action.revision, action.percent);
  bound_changed_.set();
}

Status Service::Impl::steer(RevisionId revision) {
  Status steered = fault::pass(fault::Point::SteerPoint);
  if (steered) steered = listeners_.steer_to(listeners_of(revision), revision);
  bound_changed_.set();
  if (!steered) {
    log::error("{}: new connections could not be steered to revision {}: {}", name_, revision,
               steered.error().describe());
  }
  return steered;
}

async::Task<void> Service::Impl::steer_again(RevisionId revision) {
  for (Duration wait = kSteerAgain; steered(swap_) == revision;
       wait = std::min(2 * wait, kSteerAgainLast)) {
    co_await async::sleep_for(wait);
    if (stopping_ || steered(swap_) != revision) co_return;
    if (steer(revision)) {
      log::info("{}: new connections go to revision {} now", name_, revision);
      co_return;
    }
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
  if (auto lanes = listeners_.lanes(listeners_of(next), next); lanes && !lanes->empty()) {
    probe.port = lanes->front().address.port;
  }
  // Of several revisions that get new connections, this one is to be asked.
  if (percent(swap_, policy_) < 100)
    probe.introduce = [this, next](std::uint16_t port) { listeners_.admit(next, port); };
  if (supervise::Instance const* instance = find(next); instance != nullptr) {
    if (auto const binds = own_binds(instance->id(), next)) {
      probe.own_port = binds->own_port;
      if (probe.port == 0) probe.port = binds->first_port;
    }
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
  if (!current_->blind_since) current_->blind_since = deps_.clock.now();
  stop_instance(*instance, policy_.drain_limit);
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
  tasks_.spawn("retire lane", retire_lane(action.revision));
}

async::Task<void> Service::Impl::retire_lane(RevisionId revision) {
  // Whatever is left of the tree is ended by its instance; the lane is closed after the last one.
  co_await until_buried(revision);
  bool const used_again = steered(swap_) == revision || alive(revision);
  if (!used_again) co_await close_lane(revision);
}

async::Task<void> Service::Impl::close_lane(RevisionId revision) {
  std::uint64_t const taken = co_await listeners_.retire(revision, rescue_);
  if (taken > 0) {
    log::info("{}: {} connections that waited for revision {} go to revision {}", name_, taken,
              revision, steered(swap_));
  }
  if (!alive(revision)) with_memory_.erase(revision);
  forget_revisions();
}

void Service::Impl::perform(action::Succeed const& action) {
  serving_ = current_->report.next;
  previous_ = current_->report.old;
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
  supervise::Instance const* const instance = find(serving_);
  if (alive(serving_)) set_life(instance->is_ready() ? Life::Running : Life::Starting);
  conclude(Verdict::RolledBack, action.why);
}

void Service::Impl::perform(action::GiveUp const& action) {
  serving_ = steered(swap_);
  // What was on its way when both processes were gone is for the one that is started now.
  if (current_) keep_memory();
  serving_lost({}, action.why);
}

}  // namespace aether::relay
