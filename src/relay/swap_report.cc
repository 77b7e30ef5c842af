// SPDX-License-Identifier: Apache-2.0
#include "relay/swap_report.h"

#include <utility>

namespace aether::relay {

std::string_view verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::Running:
      return "running";
    case Verdict::Succeeded:
      return "succeeded";
    case Verdict::RolledBack:
      return "rolled-back";
  }
  return "unknown";
}

void PhaseTimer::enter(std::string_view phase, Instant now) {
  if (phase == current_) return;
  if (!current_.empty()) done_.push_back({std::move(current_), now - since_});
  current_ = phase;
  since_ = now;
}

std::vector<PhaseTime> PhaseTimer::finish(Instant now) {
  enter("", now);
  return std::exchange(done_, {});
}

}  // namespace aether::relay
