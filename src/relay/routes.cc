// SPDX-License-Identifier: Apache-2.0
#include "relay/routes.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/fault.h"
#include "base/log.h"

namespace aether::relay {
namespace {

bool is_same_listener(config::Listen const& one, config::Listen const& other) {
  return one.name == other.name && one.address == other.address;
}

Result<steer::RouteSpec> route_spec_of(config::Listen const& wanted) {
  TRY_ASSIGN(Address address, parse_address(wanted.address));
  return steer::RouteSpec{.name = wanted.name,
                          .address = std::move(address),
                          .v6_only = wanted.v6_only,
                          .backlog = wanted.backlog};
}

bool is_of_this_machine(std::string const& host, Address const& bound) {
  return host == "localhost" || host.starts_with("127.") || host == "::1" || host == bound.host;
}

}  // namespace

Status Routes::prepare(Wanted const& wanted) {
  std::vector<EntryPtr> opened;
  for (config::Listen const& one : wanted) {
    if (!is_route(one) || find(one)) continue;
    TRY(fault::pass(fault::Point::ListenerOpen));
    if (!router_)
      return fail(ErrorCode::Unsupported,
                  fmt::format("listener \"{}\": steer: bpf is not possible here", one.name));
    TRY_ASSIGN(steer::LookupRouter * router, router_());
    TRY_ASSIGN(steer::RouteSpec spec, route_spec_of(one));
    TRY_ASSIGN(steer::RouteGroup group, steer::RouteGroup::open(*router, std::move(spec)));
    auto entry = std::make_shared<Entry>();
    entry->wanted = one;
    entry->group = std::make_shared<steer::RouteGroup>(std::move(group));
    opened.push_back(std::move(entry));
  }
  std::ranges::move(opened, std::back_inserter(entries_));
  return {};
}

void Routes::keep(std::vector<Wanted> const& sets) {
  std::erase_if(entries_, [&](EntryPtr const& entry) {
    bool const is_wanted = std::ranges::any_of(sets, [&](Wanted const& set) {
      return std::ranges::any_of(
          set, [&](config::Listen const& one) { return is_same_listener(one, entry->wanted); });
    });
    if (!is_wanted) {
      log::info("listener \"{}\" on {} is closed: it is no longer in the configuration",
                entry->wanted.name, entry->group->bound().text());
      entry->is_closed = true;
      entry->changed.set();
    }
    return !is_wanted;
  });
}

Routes::EntryPtr Routes::find(config::Listen const& wanted) const {
  auto const found = std::ranges::find_if(
      entries_, [&](EntryPtr const& entry) { return is_same_listener(entry->wanted, wanted); });
  return found == entries_.end() ? nullptr : *found;
}

Status Routes::attach(InstanceId instance, RevisionId revision, os::Cgroup const& group,
                      Wanted const& wanted) {
  Wanted mine;
  std::vector<Address> claims;
  for (config::Listen const& one : wanted) {
    EntryPtr const entry = is_route(one) ? find(one) : nullptr;
    if (!entry) continue;
    mine.push_back(one);
    claims.push_back(entry->group->bound());
  }
  if (claims.empty()) return {};
  TRY_ASSIGN(steer::LookupRouter * router, router_());
  TRY_ASSIGN(steer::BindRewriter rewriter,
             steer::BindRewriter::attach(*router, group.fd(), claims));
  bound_.insert_or_assign(
      instance,
      Bound{.revision = revision, .wanted = std::move(mine), .rewriter = std::move(rewriter)});
  return {};
}

bool Routes::look(InstanceId instance, std::span<pid_t const> tree) {
  auto const found = bound_.find(instance);
  if (found == bound_.end()) return true;
  Bound& bound = found->second;
  auto taken = bound.rewriter.take(tree);
  if (!taken) {
    log::debug("instance {}: what it has bound cannot be seen: {}", instance,
               taken.error().describe());
    return false;
  }
  bool complete = true;
  for (config::Listen const& one : bound.wanted) {
    EntryPtr const entry = find(one);
    if (!entry) continue;
    Status const put = entry->group->found(bound.revision, instance, *taken);
    if (!put) log::warn("listener \"{}\": {}", one.name, put.error().describe());
    complete = complete && entry->group->has(instance);
  }
  return complete;
}

void Routes::ready(InstanceId instance) {
  auto const found = bound_.find(instance);
  if (found != bound_.end()) found->second.is_ready = true;
}

void Routes::gone(InstanceId instance) {
  auto const found = bound_.find(instance);
  if (found == bound_.end()) return;
  for (EntryPtr const& entry : entries_) {
    Status const left = entry->group->gone(instance);
    if (!left) log::warn("listener \"{}\": {}", entry->wanted.name, left.error().describe());
  }
  bound_.erase(found);
}

bool Routes::looks_stuck(InstanceId instance) {
  auto const found = bound_.find(instance);
  if (found == bound_.end()) return false;
  Bound& bound = found->second;
  std::uint32_t waits = 0;
  for (config::Listen const& one : bound.wanted) {
    EntryPtr const entry = find(one);
    if (!entry) continue;
    if (!entry->group->has(instance)) return true;
    waits += entry->group->queue(bound.revision).connections + entry->group->waiting().connections;
  }
  bool const stuck = waits > 0 && bound.waited > 0;
  bound.waited = waits;
  return stuck;
}

Status Routes::check_bound(steer::RouteGroup const& group, RevisionId revision) const {
  bool const is_ready = std::ranges::any_of(bound_, [&](auto const& one) {
    return one.second.revision == revision && one.second.is_ready;
  });
  if (!is_ready || group.has(revision)) return {};
  return fail(ErrorCode::NotReady,
              fmt::format("no process of revision {} has bound {} (steer: bpf); see what it "
                          "listens on, or give it that address",
                          revision, group.bound().text()));
}

Status Routes::steer_to(Wanted const& wanted, RevisionId revision) {
  TRY(prepare(wanted));
  for (config::Listen const& one : wanted) {
    if (!is_route(one)) continue;
    steer::RouteGroup& group = *find(one)->group;
    TRY(check_bound(group, revision));
    TRY(group.steer_to(revision));
  }
  return {};
}

Status Routes::split(Wanted const& wanted, steer::Split const& split) {
  TRY(prepare(wanted));
  for (config::Listen const& one : wanted) {
    if (!is_route(one)) continue;
    steer::RouteGroup& group = *find(one)->group;
    TRY(check_bound(group, split.revision));
    TRY(group.split(split));
  }
  return {};
}

bool Routes::queues_empty(RevisionId revision) const {
  return std::ranges::all_of(
      entries_, [&](EntryPtr const& entry) { return entry->group->queue(revision).empty; });
}

std::vector<std::uint16_t> Routes::ports(RevisionId revision) const {
  std::vector<std::uint16_t> ports;
  for (EntryPtr const& entry : entries_) {
    if (!entry->group->bound().has_connections()) continue;
    for (std::uint16_t const port : entry->group->ports(revision)) ports.push_back(port);
  }
  return ports;
}

std::optional<std::uint16_t> Routes::own_port(InstanceId instance, std::string const& host,
                                              std::uint16_t port) const {
  for (EntryPtr const& entry : entries_) {
    Address const bound = entry->group->bound();
    bool const same =
        bound.transport == Transport::Tcp && bound.port == port && is_of_this_machine(host, bound);
    if (!same) continue;
    if (auto const own = entry->group->own_address(instance)) return own->port;
  }
  return {};
}

void Routes::carry(async::TaskGroup& tasks, steer::Rescue& rescue) {
  for (EntryPtr const& entry : entries_) {
    bool const serves = entry->group->serves();
    if (serves != entry->served) entry->changed.set();
    entry->served = serves;
    if (!entry->is_tended)
      entry->is_tended = tasks.spawn("waiting listener", tend_waiting(entry, &rescue));
    if (!serves) continue;
    for (os::UniqueFd& socket : entry->group->take_left())
      tasks.spawn("sockets of a dead instance", carry_left(entry, std::move(socket), &rescue));
  }
}

async::Task<void> Routes::carry_left(EntryPtr entry, os::UniqueFd socket, steer::Rescue* rescue) {
  auto const target = entry->group->own_address(entry->group->steered());
  steer::RouteGroup const& group = *entry->group;
  Address const to = target.value_or(group.bound());
  co_await rescue->drain(std::move(socket), to);
}

async::Task<void> Routes::tend_waiting(EntryPtr entry, steer::Rescue* rescue) {
  GroupPtr const group = entry->group;
  os::UniqueFd const waiting = or_throw(group->duplicate_waiting());
  while (!entry->is_closed) {
    entry->changed.reset();
    if (!group->serves()) {
      co_await entry->changed.wait();
      continue;
    }
    async::Task<void> comes = async::readable(waiting.get());
    co_await async::until(entry->changed, std::move(comes));
    auto const target = group->own_address(group->steered());
    if (!target || group->waiting().empty) continue;
    steer::Rescue::IsDead const serves = [entry] {
      return entry->group->serves() && !entry->is_closed;
    };
    os::UniqueFd lane = or_throw(os::duplicate(waiting.get()));
    co_await rescue->drain(std::move(lane), *target, serves);
  }
}

std::vector<Routes::Info> Routes::status() const {
  std::vector<Info> all;
  for (EntryPtr const& entry : entries_) {
    steer::RouteGroup const& group = *entry->group;
    all.push_back({.name = group.name(),
                   .address = group.bound(),
                   .steered = group.steered(),
                   .queued = group.queue(group.steered()),
                   .waiting = group.waiting(),
                   .overflows = group.overflows(),
                   .shares = group.shares()});
  }
  return all;
}

}  // namespace aether::relay
