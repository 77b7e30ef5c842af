// SPDX-License-Identifier: Apache-2.0
// Who is killed first when memory runs out (man 5 proc_pid_oom_score_adj): rather a program than
// Aether, which starts the program again. The programs themselves keep the score that Aether was
// given, as if it were not there.
#pragma once
#include <optional>

#include "base/result.h"

namespace aether::os {

/// What this process was given by whoever started it; nullopt without /proc.
[[nodiscard]] std::optional<int> given_oom_score();

/// Makes this process a worse victim than its children. Needs CAP_SYS_RESOURCE: Unsupported
/// without it. Call it once, before the first child.
Status protect_from_oom();

/// The given score is in force as long as this lives: for a child that is made meanwhile. Nothing
/// if this process was not protected. Not the child's own doing, because it shares our memory until
/// it executes, and the kernel keeps one score for all who share it.
class GivenOomScore {
 public:
  GivenOomScore();
  ~GivenOomScore();
  GivenOomScore(GivenOomScore const&) = delete;
  GivenOomScore& operator=(GivenOomScore const&) = delete;

 private:
  std::optional<int> own_;  ///< To be restored.
};

}  // namespace aether::os
