// SPDX-License-Identifier: Apache-2.0
// Inside of this room: what the gateway's thread counts, and other threads read.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string_view>

#include "functions/function_status.h"
#include "functions/handler_ring.h"

namespace aether::functions {

class GatewayCounts {
 public:
  /// An answer has ended. `code` is of an answer that is the gateway's own ("timeout"), or empty.
  void answered(int status, Duration latency, std::string_view code) {
    std::scoped_lock const lock(mutex_);
    ++counts_.requests;
    ++counts_.by_status[status];
    counts_.latency.add(latency);
    if (!code.empty()) ++counts_.refusals[std::string(code)];
  }
  /// A handler with `ipc: ring` said what cannot be.
  void ring_broke(RingFault const& fault) {
    std::scoped_lock const lock(mutex_);
    ++counts_.ring_faults[std::string(name_of(fault.kind))];
  }
  /// A request was given the instance that was made, or thawed, for it.
  void started(StartTier tier, Duration took) {
    std::scoped_lock const lock(mutex_);
    counts_.starts.at(static_cast<std::size_t>(tier)).add(took);
  }
  std::atomic<std::uint32_t> in_flight = 0;
  std::atomic<std::uint32_t> queued = 0;

  [[nodiscard]] RequestCounts snapshot() const {
    std::scoped_lock const lock(mutex_);
    RequestCounts copy = counts_;
    copy.in_flight = in_flight.load(std::memory_order_relaxed);
    copy.queued = queued.load(std::memory_order_relaxed);
    return copy;
  }

 private:
  std::mutex mutable mutex_;
  RequestCounts counts_;
};

}  // namespace aether::functions
