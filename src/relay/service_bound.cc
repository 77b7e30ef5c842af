// SPDX-License-Identifier: Apache-2.0
// Programs that bind their own port (`steer: bpf`): what they have bound is found when they are
// ready and again whenever their processes come and go, and connections that wait are carried to
// whoever serves.
#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "async/timers.h"
#include "base/log.h"
#include "relay/service_impl.h"

namespace aether::relay {
namespace {

/// Between looks at processes and queues: what waits from one look to the next is looked into,
/// since its program may have closed the socket, or opened others. Longer and longer while all is
/// well.
constexpr Duration kBoundLook = std::chrono::milliseconds(50);
constexpr Duration kBoundLookLast = std::chrono::seconds(1);
/// A look reads all descriptors of a tree: it costs a hundredth of one processor at most.
constexpr int kPauseOfLook = 100;

}  // namespace

std::optional<supervise::OwnBinds> Service::Impl::own_binds(InstanceId instance,
                                                            RevisionId revision) {
  Listeners::Wanted const wanted = listeners_of(revision);
  supervise::OwnBinds binds;
  for (config::Listen const& one : wanted) {
    if (!Routes::is_route(one)) continue;
    binds.addresses += (binds.addresses.empty() ? "" : ", ") + one.address;
    auto const address = parse_address(one.address);
    bool const is_first = binds.first_port == 0 && address;
    if (is_first && address->transport == Transport::Tcp) binds.first_port = address->port;
  }
  if (binds.addresses.empty()) return {};
  binds.prepare = [this, instance, revision, wanted](os::Cgroup const& group) {
    return listeners_.routes().attach(instance, revision, group, wanted);
  };
  binds.complete = [this, instance](std::span<pid_t const> tree) {
    return listeners_.routes().look(instance, tree);
  };
  binds.own_port = [this, instance](std::string const& host, std::uint16_t port) {
    return listeners_.routes().own_port(instance, host, port);
  };
  return binds;
}

void Service::Impl::look_at(supervise::Instance const& instance) {
  if (listeners_.routes().empty()) return;
  std::vector<pid_t> const tree = instance.tree();
  (void)listeners_.routes().look(instance.id(), tree);
  listeners_.routes().ready(instance.id());
  bound_changed_.set();
}

async::Task<void> Service::Impl::watch_bound() {
  std::map<InstanceId, std::vector<pid_t>> trees;
  Instant next_look{};
  Duration pause = kBoundLook;
  for (;;) {
    bound_changed_.reset();
    if (listeners_.routes().empty()) {
      co_await bound_changed_.wait();
      continue;
    }
    std::map<InstanceId, std::vector<pid_t>> now;
    Instant const began = deps_.clock.now();
    bool looked = false;
    bool restless = false;
    for (auto const& [id, instance] : instances_) {
      if (instance->exit_status() || !instance->is_ready()) continue;
      std::vector<pid_t>& tree = now[id];
      tree = instance->tree();
      std::ranges::sort(tree);
      bool const moved = trees[id] != tree;
      bool const stuck = listeners_.routes().looks_stuck(id);
      restless = restless || moved || stuck;
      if (!moved && !stuck) continue;
      if (began < next_look) {
        tree.clear();  // Looked at later.
        continue;
      }
      (void)listeners_.routes().look(id, tree);
      looked = true;
    }
    trees = std::move(now);
    Instant const ended = deps_.clock.now();
    if (looked) next_look = ended + kPauseOfLook * (ended - began);
    listeners_.routes().carry(tasks_, rescue_);
    pause = restless ? kBoundLook : std::min(2 * pause, kBoundLookLast);
    bool const told = co_await bound_changed_.wait_for(pause);
    if (told) pause = kBoundLook;
  }
}

}  // namespace aether::relay
