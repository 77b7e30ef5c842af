// SPDX-License-Identifier: Apache-2.0
// Inside of this room: what the gateway's thread tells its owner. However much there is to tell,
// one delivery at a time waits on the owner's loop, and it says the latest.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "functions/gateway.h"

namespace aether::functions {

class DemandMail : public std::enable_shared_from_this<DemandMail> {
 public:
  DemandMail(async::Executor owner, Demand& demand) : owner_(std::move(owner)), demand_(&demand) {}

  // Thread-safe.
  void wanted(std::string const& function, std::uint32_t waiting);
  void busy(std::string const& function, InstanceId instance, std::uint32_t in_flight);
  void timed_out(std::string const& function, InstanceId instance);
  void unreachable(std::string const& function, InstanceId instance, std::string why);

  /// Nothing is told any more. On the owner's executor.
  void close() { demand_ = nullptr; }

 private:
  struct Fault {
    std::string function;
    InstanceId instance;
    bool timed_out = false;
    std::string why;
  };
  struct Letters {
    std::map<std::string, std::uint32_t> wanted;
    std::map<std::pair<std::string, InstanceId>, std::uint32_t> busy;
    std::vector<Fault> faults;
  };
  template <class Fn>
  void write(Fn fn);
  void deliver();

  async::Executor owner_;
  Demand* demand_;
  std::mutex mutex_;
  Letters letters_;
  bool on_its_way_ = false;
};

}  // namespace aether::functions
