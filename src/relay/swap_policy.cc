// SPDX-License-Identifier: Apache-2.0
#include "relay/swap_policy.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "supervise/instance_machine.h"

namespace aether::relay {
namespace {

/// For an instance that was not ready in time to be killed and to say so.
constexpr Duration kInstanceEnds = std::chrono::seconds(10);

/// The configuration's times are from step to step, ours from the cutover on.
std::vector<Part> parts_of(config::Canary const& canary) {
  if (canary.weight >= 100) return {};
  std::vector<Part> parts{{.after = {}, .percent = canary.weight}};
  for (config::CanaryStep const& step : canary.steps)
    parts.push_back({.after = parts.back().after + step.after, .percent = step.weight});
  return parts;
}

}  // namespace

SwapPolicy swap_policy(config::Service const& spec) {
  config::Orchestration const& orchestration = spec.orchestration;
  std::vector<config::Listen> const listeners = config::effective_listeners(spec);
  bool const exclusive = orchestration.mode == config::Mode::Run ||
                         std::ranges::any_of(listeners, [](config::Listen const& listen) {
                           return listen.mode == config::ListenMode::Exclusive;
                         });
  // Besides the hooks: for a revision that is in the way to be stopped and killed.
  Duration hooks = std::chrono::seconds(11) + spec.stop_timeout;
  for (config::Hook const& hook : orchestration.pre_flight) hooks += hook.timeout;
  if (orchestration.state_handoff.check) hooks += state_check_limit(spec);
  return {
      .overlap = exclusive ? SwapPolicy::Overlap::No : SwapPolicy::Overlap::Yes,
      .on_handoff_failure =
          orchestration.state_handoff.on_handoff_failure == config::OnHandoffFailure::Continue
              ? SwapPolicy::OnHandoffFailure::Continue
              : SwapPolicy::OnHandoffFailure::Abort,
      .preflight_limit = hooks,
      // ready_timeout is the instance's business, and may be extended by the program itself
      // (EXTEND_TIMEOUT_USEC): this is for an instance that never says that it gave up.
      .launch_limit = spec.ready_timeout + supervise::kExtensionMax + kInstanceEnds,
      .warmup = orchestration.warmup_delay,
      .handoff_limit = spec.handoff.timeout,
      .soak = orchestration.mode == config::Mode::Immediate ? Duration::zero()
                                                            : orchestration.soak_time,
      .parts = parts_of(orchestration.canary),
      .drain_limit = orchestration.drain.timeout,
  };
}

RetirementPolicy retirement_policy(config::Drain const& drain, config::Service const& retiring) {
  auto const stop = [&] {
    switch (drain.stop) {
      case config::DrainStop::WhenIdle:
        return RetirementPolicy::Stop::WhenIdle;
      case config::DrainStop::AtDeadline:
        return RetirementPolicy::Stop::AtDeadline;
      case config::DrainStop::AfterQueue:
        break;
    }
    return RetirementPolicy::Stop::AfterQueue;
  };
  return {.stop = stop(), .drain_limit = drain.timeout, .stop_limit = retiring.stop_timeout};
}

}  // namespace aether::relay
