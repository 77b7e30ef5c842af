// SPDX-License-Identifier: Apache-2.0
#include "supervise/restart_policy.h"

#include <algorithm>

namespace aether::supervise {

RestartPolicy::RestartPolicy(config::Restart rules, std::uint64_t seed)
    : rules_(rules), random_(static_cast<std::minstd_rand::result_type>(seed)) {}

RestartVerdict RestartPolicy::ended(ServiceEnd end, Instant now) {
  using When = config::RestartPolicy;
  if (rules_.policy == When::Never) return StayDown{};
  if (rules_.policy == When::OnFailure && end.outcome == ServiceEnd::Outcome::Success)
    return StayDown{};

  if (end.ready_for >= kStableAfter) clear();
  while (!recent_ends_.empty() && now - recent_ends_.front() > rules_.crash_loop_window)
    recent_ends_.pop_front();
  recent_ends_.push_back(now);
  if (rules_.crash_loop_count > 0 && std::ssize(recent_ends_) >= rules_.crash_loop_count) {
    CrashLoop const loop{.ends = static_cast<unsigned>(recent_ends_.size()),
                         .within = now - recent_ends_.front()};
    clear();
    return loop;
  }
  if (rules_.crash_loop_count == 0) recent_ends_.clear();
  ++attempt_;
  return RestartAfter{.wait = next_wait(), .attempt = attempt_};
}

void RestartPolicy::clear() {
  attempt_ = 0;
  recent_ends_.clear();
}

Duration RestartPolicy::next_wait() {
  Duration backoff = std::max(rules_.backoff_min, Duration::zero());
  for (unsigned i = 1; i < attempt_ && backoff < rules_.backoff_max; ++i) backoff *= 2;
  backoff = std::min(backoff, std::max(rules_.backoff_max, Duration::zero()));
  // Jitter keeps services that fell together from rising together.
  std::uniform_real_distribution<double> factor(0.75, 1.25);
  return std::chrono::duration_cast<Duration>(backoff * factor(random_));
}

}  // namespace aether::supervise
