// SPDX-License-Identifier: Apache-2.0
#include "daemon/packet_watch.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"

namespace aether::daemon {
namespace {

steer::XdpMode mode_of(config::Ebpf const& wish) {
  if (wish.mode == "generic") return steer::XdpMode::Generic;
  if (wish.mode == "native") return steer::XdpMode::Native;
  if (wish.mode == "offload") return steer::XdpMode::Offload;
  return steer::XdpMode::Auto;
}

std::string mode_text(steer::XdpMode mode) {
  switch (mode) {
    case steer::XdpMode::Generic:
      return "generic";
    case steer::XdpMode::Native:
      return "native";
    case steer::XdpMode::Offload:
      return "offload";
    case steer::XdpMode::Auto:
      break;
  }
  return "auto";
}

std::optional<steer::XdpLimit> limit_of(config::Ebpf const& wish) {
  if (wish.rate == 0) return std::nullopt;
  return steer::XdpLimit{.packets_per_second = wish.rate, .burst = wish.burst};
}

std::vector<pid_t> pids_of(WatchedPort const& port,
                           std::vector<functions::FunctionStatus> const& functions,
                           std::vector<relay::ServiceStatus> const& services) {
  std::vector<pid_t> pids;
  bool const is_function = port.kind == api::PortPackets::Owner::Function;
  for (functions::FunctionStatus const& one : functions) {
    if (!is_function || one.id != port.owner) continue;
    for (functions::FunctionInstanceStatus const& instance : one.instances)
      if (instance.state == "warm") pids.push_back(instance.pid);
  }
  for (relay::ServiceStatus const& one : services) {
    if (is_function || one.name != port.owner) continue;
    for (relay::InstanceStatus const& instance : one.instances) pids.push_back(instance.pid);
  }
  return pids;
}

bool is_same_port(WatchedPort const& one, WatchedPort const& other) {
  return one.transport == other.transport && one.port == other.port;
}

}  // namespace

std::vector<WatchedPort> watched_ports(std::vector<config::Function> const& functions,
                                       std::vector<config::Service> const& services) {
  std::vector<WatchedPort> ports;
  for (config::Function const& function : functions)
    ports.push_back({.owner = function.id, .port = function.trigger_port});
  for (config::Service const& service : services) {
    for (config::Listen const& listen : config::effective_listeners(service)) {
      auto const address = parse_address(listen.address);
      if (!address || address->is_unix() || address->port == 0) continue;
      WatchedPort const port{.kind = api::PortPackets::Owner::Service,
                             .owner = service.name,
                             .transport = address->transport,
                             .port = address->port};
      // Two addresses of one port are counted together.
      if (std::ranges::find(ports, port) == ports.end()) ports.push_back(port);
    }
  }
  return ports;
}

Status PacketWatch::apply(config::Ebpf const& wish) {
  if (wish == wish_ && xdp_.has_value() == wish.enabled) return {};
  bool const is_other = wish.enabled != xdp_.has_value() || wish.interface != wish_.interface ||
                        wish.mode != wish_.mode;
  if (is_other) xdp_.reset();
  wish_ = wish;
  if (!wish.enabled) return {};
  if (is_other) {
    TRY_ASSIGN(xdp_, steer::XdpCounters::attach(wish.interface, mode_of(wish)));
    log::info("packets at {} are counted (XDP, {})", wish.interface, mode_text(xdp_->mode()));
    watch(std::exchange(ports_, {}));
  }
  return xdp_->set_limit(limit_of(wish));
}

void PacketWatch::watch(std::vector<WatchedPort> ports) {
  std::vector<WatchedPort> const before = std::exchange(ports_, std::move(ports));
  if (!xdp_) return;
  for (WatchedPort const& old : before) {
    bool const stays =
        std::ranges::any_of(ports_, [&](auto const& one) { return is_same_port(one, old); });
    if (stays) continue;
    if (Status const gone = xdp_->unwatch(old.transport, old.port); !gone)
      log::warn("port {}: {}", old.port, gone.error().describe());
  }
  for (WatchedPort const& one : ports_) {
    if (std::ranges::find(before, one) != before.end()) continue;
    if (Status const told = xdp_->watch(one.transport, one.port, one.owner); !told)
      log::warn("packets to port {} of {} are not counted: {}", one.port, one.owner,
                told.error().describe());
  }
}

std::optional<api::PacketCounts> PacketWatch::counts(
    std::vector<functions::FunctionStatus> const& functions,
    std::vector<relay::ServiceStatus> const& services) const {
  if (!xdp_) return std::nullopt;
  api::PacketCounts counts{.interface = xdp_->interface(),
                           .mode = mode_text(xdp_->mode()),
                           .rate = wish_.rate,
                           .burst = wish_.burst,
                           .ports = {}};
  auto const read = xdp_->read();
  if (!read) {
    log::error("packets at {}: {}", counts.interface, read.error().describe());
    return counts;
  }
  for (steer::XdpCount const& one : *read) {
    auto const watched = std::ranges::find_if(ports_, [&](WatchedPort const& port) {
      return port.transport == one.transport && port.port == one.port;
    });
    if (watched == ports_.end()) continue;
    counts.ports.push_back({.kind = watched->kind,
                            .owner = watched->owner,
                            .protocol = one.transport == Transport::Udp ? "udp" : "tcp",
                            .port = one.port,
                            .pids = pids_of(*watched, functions, services),
                            .packets = one.packets,
                            .bytes = one.bytes,
                            .dropped = one.dropped});
  }
  return counts;
}

}  // namespace aether::daemon
