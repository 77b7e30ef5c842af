// SPDX-License-Identifier: Apache-2.0
#include "relay/listeners.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "async/timers.h"
#include "base/fault.h"

namespace aether::relay {
namespace {

/// Between two looks at an accept queue: shorter than a request takes, long enough to cost nothing.
constexpr Duration kQueueLook = std::chrono::microseconds(50);

steer::ListenMode mode_of(config::ListenMode mode) {
  switch (mode) {
    case config::ListenMode::Shared:
      return steer::ListenMode::Shared;
    case config::ListenMode::Exclusive:
      return steer::ListenMode::Exclusive;
    case config::ListenMode::Steered:
    case config::ListenMode::Bpf:
      break;
  }
  return steer::ListenMode::Steered;
}

std::string_view mode_name(steer::ListenMode mode) {
  switch (mode) {
    case steer::ListenMode::Steered:
      return "steered";
    case steer::ListenMode::Shared:
      return "shared";
    case steer::ListenMode::Exclusive:
      return "exclusive";
  }
  return "unknown";
}

Result<steer::ListenSpec> spec_of(config::Listen const& wanted) {
  TRY_ASSIGN(Address address, parse_address(wanted.address));
  return steer::ListenSpec{.name = wanted.name,
                           .address = std::move(address),
                           .mode = mode_of(wanted.mode),
                           .backlog = wanted.backlog,
                           .unix_mode = wanted.unix_mode,
                           .v6_only = wanted.v6_only};
}

Result<steer::ListenerGroup> open_one(steer::ListenSpec spec) {
  TRY(fault::pass(fault::Point::ListenerOpen));
  return steer::ListenerGroup::open(std::move(spec));
}

Result<supervise::PassedListener> passed(steer::ListenerGroup& group, RevisionId revision) {
  TRY_ASSIGN(int const fd, group.lane_fd(revision));
  return supervise::PassedListener{.name = group.name(),
                                   .fd = fd,
                                   .address = group.bound(),
                                   .inode = group.socket_inode(revision)};
}

}  // namespace

Result<Listeners> Listeners::open(std::vector<config::Listen> const& wanted) {
  Listeners opened;
  for (config::Listen const& one : wanted) {
    TRY_ASSIGN(steer::ListenSpec spec, spec_of(one));
    TRY_ASSIGN(steer::ListenerGroup group, open_one(std::move(spec)));
    opened.groups_.push_back(std::move(group));
  }
  return opened;
}

Result<supervise::PassedListener> Listeners::add(std::string_view text, RevisionId revision) {
  TRY_ASSIGN(Address const address, parse_address(text));
  auto const same = std::ranges::find_if(groups_, [&](steer::ListenerGroup const& group) {
    return group.bound() == address || group.name() == address.text();
  });
  if (same != groups_.end()) return passed(*same, revision);
  steer::ListenSpec spec{.name = address.text(), .address = address};
  TRY_ASSIGN(steer::ListenerGroup group, open_one(std::move(spec)));
  groups_.push_back(std::move(group));
  return passed(groups_.back(), revision);
}

Result<std::vector<supervise::PassedListener>> Listeners::lanes(RevisionId revision) {
  std::vector<supervise::PassedListener> lanes;
  for (steer::ListenerGroup& group : groups_) {
    TRY_ASSIGN(supervise::PassedListener lane, passed(group, revision));
    lanes.push_back(std::move(lane));
  }
  return lanes;
}

Status Listeners::steer_to(RevisionId revision) {
  for (steer::ListenerGroup& group : groups_) {
    if (auto lane = group.lane_fd(revision); !lane) return fail(std::move(lane).error());
    TRY(group.steer_to(revision));
  }
  return {};
}

async::Task<void> Listeners::until_queues_empty(RevisionId revision) {
  int quiet = 0;
  while (quiet < 2) {
    quiet = queues_empty(revision) ? quiet + 1 : 0;
    if (quiet < 2) co_await async::sleep_for(kQueueLook);
  }
}

bool Listeners::queues_empty(RevisionId revision) const {
  return std::ranges::all_of(groups_, [&](steer::ListenerGroup const& group) {
    auto depth = group.queue(revision);
    return !depth || depth->empty;
  });
}

steer::AcceptedFrom Listeners::accepted_from(RevisionId revision) const {
  steer::AcceptedFrom from;
  for (steer::ListenerGroup const& group : groups_) {
    Address const bound = group.bound();
    if (bound.transport == Transport::Tcp) from.tcp_ports.push_back(bound.port);
    if (bound.is_unix()) from.unix_names.push_back(group.unix_name(revision));
  }
  return from;
}

async::Task<std::uint64_t> Listeners::retire(RevisionId revision, steer::Rescue& rescue) {
  std::uint64_t taken = 0;
  // By index: the program may ask for one more listener while this waits.
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    steer::RescueReport const report = co_await steer::retire_lane(groups_[i], revision, rescue);
    taken += report.taken;
  }
  co_return taken;
}

bool Listeners::has_own_lanes() const {
  return std::ranges::all_of(groups_, [](steer::ListenerGroup const& group) {
    return group.mode() == steer::ListenMode::Steered;
  });
}

std::vector<ListenerStatus> Listeners::status() const {
  std::vector<ListenerStatus> all;
  for (steer::ListenerGroup const& group : groups_) {
    auto depth = group.queue(group.steered());
    all.push_back({.name = group.name(),
                   .address = group.bound().text(),
                   .mode = std::string(mode_name(group.mode())),
                   .steered = group.steered(),
                   .queued = depth ? depth->connections : 0,
                   .overflows = group.overflows()});
  }
  return all;
}

}  // namespace aether::relay
