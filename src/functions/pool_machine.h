// SPDX-License-Identifier: Apache-2.0
// PoolMachine: which instances of one function live, and which of them take requests. Pure.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "functions/function_status.h"

namespace aether::functions {

/// How instances of a revision are made, chosen once it is known what it is.
enum class Making : std::uint8_t { Spawn, Copy };

struct PoolPolicy {
  std::uint32_t concurrency = 1;
  std::uint32_t min_instances = 0;   ///< Warm at any time.
  std::uint32_t max_instances = 10;  ///< Warm, and starting to be warm.
  std::uint32_t parked = 10;  ///< Made ahead and frozen, with the warm ones at most max_instances.
  Duration idle_timeout = std::chrono::seconds(60);
  Making making = Making::Spawn;
  Duration start_limit = std::chrono::seconds(60);  ///< restore_timeout_ms for copies.
  bool cold_when_copy_fails = false;
};

enum class MemberState : std::uint8_t {
  Starting,
  Parking,
  Parked,
  Thawing,
  Warm,
  Draining,
  Ending
};

struct Member {
  MemberState state = MemberState::Starting;
  RevisionId revision;
  StartTier tier = StartTier::Cold;
  bool for_demand = false;  ///< Starting: somebody waits for it; else it will be parked.
  std::uint32_t in_flight = 0;
  Instant since{};       ///< In this state.
  Instant idle_since{};  ///< Warm with nothing to do.
};

namespace pool {
// Inputs.
struct Wanted {
  std::uint32_t waiting = 0;
};
struct Started {
  InstanceId instance;
};  ///< Ready to take requests, or to be frozen.
struct StartFailed {
  InstanceId instance;
  std::string why;
};
struct Frozen {
  InstanceId instance;
};
struct Thawed {
  InstanceId instance;
};
struct Busy {
  InstanceId instance;
  std::uint32_t in_flight = 0;
};
struct Drained {
  InstanceId instance;
};
struct Gone {
  InstanceId instance;
};  ///< Its processes have ended.
struct Deployed {
  RevisionId revision;
  PoolPolicy policy;
};  ///< It serves from now on.
struct Scale {
  std::uint32_t instances = 0;
};  ///< The autoscaler's wish.
struct Tick {};
struct StopAsked {};
// Actions.
struct Start {
  InstanceId instance;
  RevisionId revision;
  Making making;
  Duration limit;
};
struct Freeze {
  InstanceId instance;
};
struct Thaw {
  InstanceId instance;
};
struct Offer {
  InstanceId instance;
  StartTier tier;
};  ///< To the gateway.
struct Withdraw {
  InstanceId instance;
};  ///< From the gateway; Drained follows.
struct End {
  InstanceId instance;
};
struct FailWaiting {
  std::string why;
};
struct DropRevision {
  RevisionId revision;
};  ///< Nothing of it lives any more.
}  // namespace pool

}  // namespace aether::functions
