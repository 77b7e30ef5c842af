// SPDX-License-Identifier: Apache-2.0
// Gateway: the way of a request to a function. Holds the trigger ports, forwards what comes to
// instances that have room, and says when there is none. It knows instances only as ports.
//
// A thread of its own with a loop of its own: what the control plane does (a clone, a swap) delays
// no request. Public calls are made on the control plane's loop and post to the gateway's; the
// Demand is called on the control plane's loop.
//
// What it decides, and where that is written down for users: docs/functions-gateway.md.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "async/task.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "functions/function_status.h"
#include "functions/gateway_limits.h"

namespace aether::functions {

class HandlerRing;

/// What holds for the requests of one function.
struct RouteSpec {
  std::string function;
  std::uint16_t trigger_port = 0;
  /// From when an instance was given a request to the head of its answer: 504. What the answer then
  /// takes is not limited: an event stream has no end.
  Duration timeout = std::chrono::seconds(30);
  Duration queue_timeout = std::chrono::seconds(30);  ///< Until an instance has room: 503.
  std::uint32_t concurrency = 1;                      ///< Requests at once in one instance; 0: any.
  std::uint32_t max_inflight = 1000;                  ///< In flight and queued: 429 above.
};

/// An instance that takes requests.
struct Backend {
  InstanceId instance;
  std::uint16_t port = 0;            ///< On 127.0.0.1.
  StartTier tier = StartTier::Warm;  ///< Said in X-Aether-Start with its first request.
  /// With `ipc: ring`: requests go through it, and `port` means nothing. While the gateway has the
  /// instance, it alone uses it.
  std::shared_ptr<HandlerRing> ring = nullptr;
};

/// Why a backend goes: what its unanswered requests are told.
struct BackendEnd {
  enum class Kind : std::uint8_t { Retired, Died, OutOfMemory } kind = Kind::Retired;
  std::string message;  ///< "handler died with signal 11 (SEGV)", "memory limit of 64 MB exceeded".
};

/// What the gateway tells its owner, on the owner's executor. However much happens, one call for
/// each function or instance at a time is on its way, and says the latest.
class Demand {
 public:
  virtual ~Demand() = default;
  /// Requests wait and no backend has room. Said again when more come; `waiting` is how many. 0:
  /// nobody waits any more.
  virtual void wanted(std::string_view function, std::uint32_t waiting) = 0;
  /// What a backend does has changed: at most every kBusyInterval. An instance that shall be frozen
  /// is withdrawn first (remove as Retired, drained), so that nothing is given to it meanwhile.
  virtual void busy(std::string_view function, InstanceId instance, std::uint32_t in_flight) = 0;
  /// Over the request's time: its handler hangs, and holds a place. It gets no more requests; the
  /// owner removes it.
  virtual void timed_out(std::string_view function, InstanceId instance) = 0;
  /// Could not be connected to, although it is said to listen. It gets no more requests; those that
  /// it was to get wait for another one. The owner removes it.
  virtual void unreachable(std::string_view function, InstanceId instance, std::string why) = 0;
};

class Gateway {
 public:
  Gateway(async::Executor owner, Clock const& clock, Demand& demand, GatewayLimits limits = {});
  ~Gateway();  ///< Ends the thread; what is in flight is cut off. Await stop() for less.
  Gateway(Gateway const&) = delete;
  Gateway& operator=(Gateway const&) = delete;

  /// Begins to answer on the trigger port, of all addresses. AddressInUse names who has it, if that
  /// can be known.
  [[nodiscard]] Status open(RouteSpec const& route);
  /// The trigger port: the kernel's choice if the route said 0. 0 if there is no such function.
  [[nodiscard]] std::uint16_t port(std::string_view function) const;
  /// From the next request on.
  void change(RouteSpec const& route);
  /// No new connections; waits for what is in flight until the deadline.
  [[nodiscard]] async::Task<void> close(std::string function, Duration deadline);

  void add(std::string_view function, Backend backend);
  /// Retired: gets no more; drained() returns when its requests have ended. Else at once: its
  /// requests that were not answered are told why (502).
  void remove(std::string_view function, InstanceId instance, BackendEnd why);
  [[nodiscard]] async::Task<void> drained(std::string function, InstanceId instance,
                                          Duration deadline);
  /// Nothing could be started: who waits is told (503) with this reason.
  void fail_waiting(std::string_view function, std::string reason);

  /// As of a moment ago.
  [[nodiscard]] RequestCounts counts(std::string_view function) const;
  [[nodiscard]] async::Task<void> stop(Duration deadline);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace aether::functions
