// SPDX-License-Identifier: Apache-2.0
#include "relay/health_watch.h"

#include <utility>

#include "async/timers.h"
#include "relay/judge.h"

namespace aether::relay {

struct HealthWatch::Watch {
  Clock const& clock;
  Duration interval;
  supervise::ProbeSpec probe;
  Judge judge;
  std::function<void(std::string)> sick;
  async::Event stopped;
};

HealthWatch::HealthWatch(Clock const& clock) : clock_(clock) {}

void HealthWatch::start(async::TaskGroup& tasks, config::HealthCheck const& check,
                        supervise::ProbeSpec probe, std::function<void(std::string)> sick) {
  stop();
  probe.what = check.probe;
  probe.timeout = check.timeout;
  watch_ = std::make_shared<Watch>(clock_, check.interval, std::move(probe),
                                   Judge(JudgePolicy{.probe_failures_max = check.threshold}),
                                   std::move(sick));
  tasks.spawn("health check", run(watch_));
}

void HealthWatch::stop() {
  if (watch_) watch_->stopped.set();
  watch_.reset();
}

async::Task<void> HealthWatch::run(std::shared_ptr<Watch> watch) {
  async::Task<void> asking = ask(watch);
  co_await async::until(watch->stopped, std::move(asking));
}

async::Task<void> HealthWatch::ask(std::shared_ptr<Watch> watch) {
  for (;;) {
    supervise::ProbeResult const result = co_await supervise::probe(watch->clock, watch->probe);
    auto const verdict = watch->judge.observe(
        ProbeOutcome{.healthy = result.healthy, .reason = result.reason}, watch->clock.now());
    if (verdict) {
      watch->sick(verdict->text());
      co_return;
    }
    co_await async::sleep_for(watch->interval);
  }
}

}  // namespace aether::relay
