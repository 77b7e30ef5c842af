// SPDX-License-Identifier: Apache-2.0
// Inside of this room: an instance as the gateway sees it, and the connections kept to it.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "functions/gateway.h"
#include "functions/gateway_limits.h"
#include "functions/gateway_ring.h"
#include "functions/proxy_stream.h"

namespace aether::functions {

class GatewayBackend;

/// A connection to an instance. Its backend wakes it while it is kept, a client while it is used.
class Upstream final : public Watcher {
 public:
  Upstream(Poller& poller, GatewayBackend& home) : Watcher(poller), stream(poller), home_(home) {}

  /// Begins to connect. Unreachable: refused at once.
  [[nodiscard]] Status connect(std::uint16_t port);
  /// Kept: whatever its peer says or does now ends it.
  void woken() override;
  void due() override;

  Stream stream;
  bool used_before = false;

 private:
  GatewayBackend& home_;
};

class GatewayBackend {
 public:
  GatewayBackend(Poller& poller, GatewayLimits const& limits, Backend const& backend, Instant added)
      : instance(backend.instance),
        port(backend.port),
        tier(backend.tier),
        added(added),
        poller_(poller),
        limits_(limits) {}

  /// One that was kept, or null.
  [[nodiscard]] std::unique_ptr<Upstream> take_kept();
  [[nodiscard]] Result<std::unique_ptr<Upstream>> connect();
  void keep(std::unique_ptr<Upstream> upstream);
  void drop(Upstream& upstream);
  void drop_kept() { kept_.clear(); }
  [[nodiscard]] bool takes_requests() const { return !retiring && !unreachable && !hangs; }

  InstanceId const instance;
  std::uint16_t const port;
  StartTier const tier;
  Instant const added;
  std::unique_ptr<RingLine> line;  ///< With `ipc: ring`; none: it is connected to.
  std::uint32_t in_flight = 0;
  bool touched = false;    ///< A request of it began or ended since the owner was told.
  bool was_given = false;  ///< A request, ever.
  bool fresh = true;       ///< Has answered no request yet.
  bool retiring = false;
  bool unreachable = false;
  bool hangs = false;  ///< A request took too long in it.

 private:
  Poller& poller_;
  GatewayLimits const& limits_;
  std::vector<std::unique_ptr<Upstream>> kept_;
};

}  // namespace aether::functions
