// SPDX-License-Identifier: Apache-2.0
#include "relay/listeners.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "async/timers.h"
#include "base/fault.h"
#include "base/log.h"

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
    case config::ListenMode::Bpf:  // Has no group: see Routes.
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

/// The same socket, as far as an address can be held once only.
bool same_address(config::Listen const& one, config::Listen const& other) {
  return one.name == other.name && one.address == other.address;
}

std::string_view changed_for_good(config::Listen const& from, config::Listen const& to) {
  if (from.mode != to.mode) return "mode";
  if (from.v6_only != to.v6_only) return "v6_only";
  if (from.unix_mode != to.unix_mode) return "the file's mode";
  return {};
}

}  // namespace

Result<Listeners> Listeners::open(Wanted const& wanted, RouterSource router) {
  Listeners opened;
  opened.routes_ = Routes(std::move(router));
  TRY(opened.prepare(wanted));
  return opened;
}

Status Listeners::check_change(Wanted const& from, Wanted const& to) {
  for (config::Listen const& now : from) {
    auto const then = std::ranges::find_if(to, [&](auto const& one) {
      return one.address == now.address && !one.address.ends_with(":0");
    });
    if (then == to.end()) continue;
    std::string_view what = changed_for_good(now, *then);
    if (now.name != then->name) what = "name";
    if (what.empty()) continue;
    return fail(ErrorCode::Unsupported,
                fmt::format("listener \"{}\" on {}: {} changed, which cannot be done while the "
                            "address is held; restart Aether to apply that, or put it back as it "
                            "was",
                            now.name, now.address, what));
  }
  return {};
}

Status Listeners::prepare(Wanted const& wanted) {
  std::vector<Entry> opened;
  for (config::Listen const& one : wanted) {
    if (Routes::is_route(one) || find(one)) continue;
    TRY_ASSIGN(steer::ListenSpec spec, spec_of(one));
    TRY_ASSIGN(steer::ListenerGroup group, open_one(std::move(spec)));
    opened.push_back({one, std::make_shared<steer::ListenerGroup>(std::move(group))});
  }
  TRY(routes_.prepare(wanted));
  std::ranges::move(opened, std::back_inserter(entries_));
  return {};
}

void Listeners::keep(std::vector<Wanted> const& sets) {
  routes_.keep(sets);
  std::erase_if(entries_, [&](Entry const& entry) {
    if (!entry.wanted) return false;
    bool const is_wanted = std::ranges::any_of(sets, [&](Wanted const& set) {
      return std::ranges::any_of(
          set, [&](config::Listen const& one) { return same_address(one, *entry.wanted); });
    });
    if (!is_wanted) {
      log::info("listener \"{}\" on {} is closed: it is no longer in the configuration",
                entry.wanted->name, entry.group->bound().text());
    }
    return !is_wanted;
  });
  if (sets.empty()) return;
  for (config::Listen const& one : sets.front()) {
    GroupPtr const group = find(one);
    if (!group) continue;
    if (auto applied = group->set_backlog(one.backlog); !applied)
      log::warn("listener \"{}\": {}", one.name, applied.error().describe());
  }
}

Listeners::GroupPtr Listeners::find(config::Listen const& wanted) const {
  auto const found = std::ranges::find_if(entries_, [&](Entry const& entry) {
    return entry.wanted && same_address(*entry.wanted, wanted);
  });
  return found == entries_.end() ? nullptr : found->group;
}

Result<std::vector<Listeners::GroupPtr>> Listeners::groups_of(Wanted const& wanted) const {
  std::vector<GroupPtr> groups;
  for (config::Listen const& one : wanted) {
    if (Routes::is_route(one)) continue;
    GroupPtr group = find(one);
    if (!group)
      return fail(ErrorCode::NotFound,
                  fmt::format("listener \"{}\" on {} is not open", one.name, one.address));
    groups.push_back(std::move(group));
  }
  for (Entry const& entry : entries_)
    if (!entry.wanted) groups.push_back(entry.group);
  return groups;
}

Result<supervise::PassedListener> Listeners::add(std::string_view text, RevisionId revision) {
  TRY_ASSIGN(Address const address, parse_address(text));
  auto const same = std::ranges::find_if(entries_, [&](Entry const& entry) {
    return entry.group->bound() == address || entry.group->name() == address.text();
  });
  if (same != entries_.end()) return passed(*same->group, revision);
  steer::ListenSpec spec{.name = address.text(), .address = address};
  TRY_ASSIGN(steer::ListenerGroup group, open_one(std::move(spec)));
  entries_.push_back({{}, std::make_shared<steer::ListenerGroup>(std::move(group))});
  return passed(*entries_.back().group, revision);
}

Result<std::vector<supervise::PassedListener>> Listeners::lanes(Wanted const& wanted,
                                                                RevisionId revision) {
  TRY(prepare(wanted));
  TRY_ASSIGN(std::vector<GroupPtr> const groups, groups_of(wanted));
  std::vector<supervise::PassedListener> lanes;
  for (GroupPtr const& group : groups) {
    TRY_ASSIGN(supervise::PassedListener lane, passed(*group, revision));
    lanes.push_back(std::move(lane));
  }
  return lanes;
}

Status Listeners::steer_to(Wanted const& wanted, RevisionId revision) {
  TRY(prepare(wanted));
  TRY_ASSIGN(std::vector<GroupPtr> const groups, groups_of(wanted));
  for (GroupPtr const& group : groups) {
    if (auto lane = group->lane_fd(revision); !lane) return fail(std::move(lane).error());
    TRY(group->steer_to(revision));
  }
  return routes_.steer_to(wanted, revision);
}

Status Listeners::split(Wanted const& wanted, Wanted const& others_wanted,
                        steer::Split const& split) {
  TRY(prepare(wanted));
  for (config::Listen const& one : wanted) {
    GroupPtr const group = find(one);
    if (!group) continue;
    if (auto lane = group->lane_fd(split.revision); !lane) return fail(std::move(lane).error());
    bool const both = std::ranges::any_of(
        others_wanted, [&](config::Listen const& other) { return same_address(one, other); });
    TRY(both ? group->split(split) : group->steer_to(split.revision));
  }
  return routes_.split(wanted, split);
}

void Listeners::admit(RevisionId revision, std::uint16_t source_port) {
  for (Entry const& entry : entries_) {
    Status const admitted = entry.group->admit(revision, source_port);
    if (!admitted) log::warn("listener {}: {}", entry.group->name(), admitted.error().describe());
  }
}

async::Task<void> Listeners::until_queues_empty(RevisionId revision) {
  int quiet = 0;
  while (quiet < 2) {
    quiet = queues_empty(revision) ? quiet + 1 : 0;
    if (quiet < 2) co_await async::sleep_for(kQueueLook);
  }
}

bool Listeners::queues_empty(RevisionId revision) const {
  if (!routes_.queues_empty(revision)) return false;
  return std::ranges::all_of(entries_, [&](Entry const& entry) {
    auto depth = entry.group->queue(revision);
    return !depth || depth->empty;
  });
}

steer::AcceptedFrom Listeners::accepted_from(RevisionId revision) const {
  steer::AcceptedFrom from;
  for (Entry const& entry : entries_) {
    steer::ListenerGroup const& group = *entry.group;
    Address const bound = group.bound();
    if (bound.transport == Transport::Tcp) from.tcp_ports.push_back(bound.port);
    if (bound.is_unix()) from.unix_names.push_back(group.unix_name(revision));
  }
  for (std::uint16_t const port : routes_.ports(revision)) from.tcp_ports.push_back(port);
  return from;
}

async::Task<std::uint64_t> Listeners::retire(RevisionId revision, steer::Rescue& rescue) {
  std::uint64_t taken = 0;
  // Held here: listeners may come and go while this waits.
  std::vector<Entry> const entries = entries_;
  for (Entry const& entry : entries) {
    // Nobody came after it there: the listener goes as a whole, or its next program is to come.
    if (entry.group->steered() == revision) continue;
    steer::ListenerGroup& group = *entry.group;
    steer::RescueReport const report = co_await steer::retire_lane(group, revision, rescue);
    taken += report.taken;
  }
  co_return taken;
}

bool Listeners::has_own_lanes() const {
  return std::ranges::all_of(entries_, [](Entry const& entry) {
    return entry.group->mode() == steer::ListenMode::Steered;
  });
}

std::vector<ListenerStatus> Listeners::status() const {
  std::vector<ListenerStatus> all;
  for (Entry const& entry : entries_) {
    steer::ListenerGroup const& group = *entry.group;
    auto depth = group.queue(group.steered());
    all.push_back({.name = group.name(),
                   .address = group.bound().text(),
                   .mode = std::string(mode_name(group.mode())),
                   .steered = group.steered(),
                   .queued = depth ? depth->connections : 0,
                   .overflows = group.overflows()});
  }
  for (Routes::Info& route : routes_.status())
    all.push_back({.name = std::move(route.name),
                   .address = route.address.text(),
                   .mode = "bpf",
                   .steered = route.steered,
                   .queued = route.queued.connections,
                   .overflows = route.overflows,
                   .waiting = route.waiting.connections,
                   .shares = std::move(route.shares)});
  return all;
}

}  // namespace aether::relay
