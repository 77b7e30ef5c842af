// SPDX-License-Identifier: Apache-2.0
// ControlPlane: what the API can ask of the running Aether. The daemon implements it; the API knows
// neither processes nor configuration files. Loop thread only.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "async/task.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "relay/service.h"

namespace aether::api {

/// How busy one of the API's servers is.
struct ServerLoad {
  std::size_t connections = 0;
  std::uint64_t turned_away = 0;  ///< Since the start.
};

struct AetherInfo {
  std::string version;
  pid_t pid = 0;
  std::string config_path;
  Duration uptime{};
  WallTime now{};  ///< When this was asked.
  /// net.ipv4.tcp_migrate_req of our network namespace; absent if the kernel has none.
  std::optional<bool> tcp_migrate_req = {};
  ServerLoad control = {};
  ServerLoad public_port = {};  ///< metrics_port and api.port.
};

/// A swap that was begun, or is remembered.
struct SwapTicket {
  std::string service;
  SwapId swap;
};

struct ReloadCall {
  std::optional<std::string> service;  ///< Absent: all of them.
  std::string reason = "api";
  bool force = false;
  bool check_state = false;  ///< Preflight tries the round trip of the memory, whatever the
                             ///< configuration says.
};

class ControlPlane {
 public:
  virtual ~ControlPlane() = default;
  [[nodiscard]] virtual AetherInfo info() const = 0;
  [[nodiscard]] virtual std::vector<relay::ServiceStatus> services() const = 0;
  /// Reads the configuration again and begins a swap for each service meant.
  /// ConfigInvalid, ServiceUnknown, SwapRunning: nothing has changed then.
  [[nodiscard]] virtual Result<std::vector<SwapTicket>> reload(ReloadCall call) = 0;
  [[nodiscard]] virtual Result<SwapTicket> rollback(std::string_view service,
                                                    std::string reason) = 0;
  /// Waits for the verdict. Throws NotFound or ServiceUnknown.
  [[nodiscard]] virtual async::Task<relay::SwapReport> verdict(SwapTicket ticket) = 0;
  /// What the configuration says of a service now. ServiceUnknown if there is none.
  [[nodiscard]] virtual Result<config::Service> specification(std::string_view service) const = 0;
  /// ServiceUnknown if there is none. Valid while this turn of the loop lasts, and as long as the
  /// book is not closed.
  [[nodiscard]] virtual Result<supervise::LogBook*> log_book(std::string_view service) = 0;
  /// Begins an orderly stop of everything. Returns at once.
  virtual void request_stop() = 0;
};

}  // namespace aether::api
