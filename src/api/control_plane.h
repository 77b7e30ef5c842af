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

#include "api/packet_counts.h"
#include "async/task.h"
#include "base/error.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "config/config.h"
#include "functions/function_status.h"
#include "relay/service.h"

namespace aether::api {

class JobsPlane;

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
  ServerLoad public_port = {};               ///< metrics_port and api.port.
  std::optional<PacketCounts> packets = {};  ///< None: `orchestrator.ebpf` is not enabled.
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

/// Functions to be made ready beside what serves, and then to take its place.
struct DeployCall {
  std::string file;                     ///< Absolute. Empty: what is known of `function` already.
  std::optional<std::string> yaml;      ///< What the file would hold; `file` then only names it.
  std::optional<std::string> function;  ///< Absent: all that the file names.
};

/// What became of one function.
struct DeployReport {
  std::string function;
  RevisionId from;      ///< That served before; 0: it is new.
  RevisionId revision;  ///< That serves now.
  Duration took{};
  std::optional<Error> failed;  ///< Why the new one does not serve; the old one goes on.
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
  /// Of a service or a function. ServiceUnknown if there is none. Valid while this turn of the loop
  /// lasts, and as long as the book is not closed.
  [[nodiscard]] virtual Result<supervise::LogBook*> log_book(std::string_view service) = 0;
  [[nodiscard]] virtual std::vector<functions::FunctionStatus> functions() const { return {}; }
  /// What the configuration says of a function now. FunctionUnknown if there is none.
  [[nodiscard]] virtual Result<config::Function> function_specification(std::string_view id) const {
    return fail(ErrorCode::FunctionUnknown, "there is no function " + std::string(id));
  }
  /// Returns when each of them serves, or could not be made to. Throws ConfigNotFound,
  /// ConfigInvalid, FunctionUnknown: nothing has changed then.
  [[nodiscard]] virtual async::Task<std::vector<DeployReport>> deploy(DeployCall) {
    throw Error(ErrorCode::Unsupported, "this Aether runs no functions");
    co_return std::vector<DeployReport>{};
  }
  /// Back to the revision before, which was kept. Throws FunctionUnknown, NotFound.
  [[nodiscard]] virtual async::Task<DeployReport> rollback_function(std::string id) {
    throw Error(ErrorCode::FunctionUnknown, "there is no function " + id);
    co_return DeployReport{};
  }
  /// Ends a function: no new requests, those in flight are finished. Throws FunctionUnknown.
  [[nodiscard]] virtual async::Task<void> remove_function(std::string id) {
    throw Error(ErrorCode::FunctionUnknown, "there is no function " + id);
    co_return;
  }
  /// Null if this Aether runs no jobs.
  [[nodiscard]] virtual JobsPlane* jobs() { return nullptr; }
  /// Begins an orderly stop of everything. Returns at once.
  virtual void request_stop() = 0;
};

}  // namespace aether::api
