// SPDX-License-Identifier: Apache-2.0
// WorkPlane: what workers can ask, whatever carries it (work_frames.h). Loop thread only. Faults
// are thrown.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "async/task.h"
#include "base/json.h"
#include "base/result.h"
#include "base/time.h"
#include "jobs/engine.h"

namespace aether::api {

class WorkPlane {
 public:
  virtual ~WorkPlane() = default;
  /// Waits for work for at most `wait`; empty if there was none.
  [[nodiscard]] virtual async::Task<std::vector<jobs::ClaimedRun>> claim(jobs::WorkClaim claim,
                                                                         Duration wait) = 0;
  /// An answer for each message.
  [[nodiscard]] virtual async::Task<jobs::WorkAnswers> work(
      jobs::RunId run, std::string token, std::vector<jobs::WorkMessage> messages) = 0;
  /// The declaration of one of `agents:`. RequestInvalid names those that there are.
  [[nodiscard]] virtual Result<boost::json::value> agent(std::string_view name) const = 0;
};

}  // namespace aether::api
