// SPDX-License-Identifier: Apache-2.0
// HealthWatch: asks a soaking revision's health check again and again, and lets the judge decide.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "async/event.h"
#include "async/task.h"
#include "async/task_group.h"
#include "config/config.h"
#include "supervise/probe.h"

namespace aether::relay {

/// Owned by the service, whose task group runs the watch. Loop thread.
class HealthWatch {
 public:
  explicit HealthWatch(Clock const& clock);

  /// Begins to ask; `sick` is called at most once, with the rule and the figures. A watch that runs
  /// is ended first.
  void start(async::TaskGroup& tasks, config::HealthCheck const& check, supervise::ProbeSpec probe,
             std::function<void(std::string why)> sick);
  void stop();

 private:
  struct Watch;
  static async::Task<void> run(std::shared_ptr<Watch> watch);
  static async::Task<void> ask(std::shared_ptr<Watch> watch);

  Clock const& clock_;
  std::shared_ptr<Watch> watch_;
};

}  // namespace aether::relay
