// SPDX-License-Identifier: Apache-2.0
// PacketWatch: the program at a network interface (orchestrator.ebpf) and what it watches: the
// ports of functions and of services that bind their own. It ends with this object, and with
// Aether.
//
// Loop thread only.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/packet_counts.h"
#include "base/address.h"
#include "base/result.h"
#include "config/config.h"
#include "functions/function_status.h"
#include "relay/service.h"
#include "steer/xdp_counters.h"

namespace aether::daemon {

/// A port to be watched, and whose it is.
struct WatchedPort {
  api::PortPackets::Owner kind = api::PortPackets::Owner::Function;
  std::string owner;
  Transport transport = Transport::Tcp;
  std::uint16_t port = 0;
  bool operator==(WatchedPort const&) const = default;
};

/// What a configuration wants watched.
[[nodiscard]] std::vector<WatchedPort> watched_ports(std::vector<config::Function> const& functions,
                                                     std::vector<config::Service> const& services);

class PacketWatch {
 public:
  /// As the configuration wants it: attached, with another limit, or gone. An interface or a mode
  /// that changes is attached anew, from zero. On an error all is as it was, except that nothing is
  /// attached if the interface or mode changed.
  [[nodiscard]] Status apply(config::Ebpf const& wish);
  /// These ports, and no others. What cannot be watched is logged.
  void watch(std::vector<WatchedPort> ports);
  [[nodiscard]] bool is_attached() const { return xdp_.has_value(); }
  /// None: nothing is attached.
  [[nodiscard]] std::optional<api::PacketCounts> counts(
      std::vector<functions::FunctionStatus> const& functions,
      std::vector<relay::ServiceStatus> const& services) const;

 private:
  config::Ebpf wish_;
  std::optional<steer::XdpCounters> xdp_;
  std::vector<WatchedPort> ports_;
};

}  // namespace aether::daemon
