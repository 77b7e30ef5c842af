// SPDX-License-Identifier: Apache-2.0
// Replay of a job of an agent with code: its program is run with a line on which everything is
// answered from the record, and nothing else may be called. Loop thread only.
#pragma once
#include <string>

#include "async/task.h"
#include "base/json.h"
#include "base/time.h"
#include "config/config.h"
#include "jobs/run_state.h"

namespace aether::daemon {

/// Of one question to a program.
struct ReplayedProgram {
  config::Agent agent;  ///< With a command.
  jobs::RunState state;
};
/// As the API tells it: {id, status, calls, decisions, equal, difference, output, ...}. Faults are
/// thrown: a program that cannot be started, or says nothing for a minute.
[[nodiscard]] async::Task<boost::json::value> replay_program(ReplayedProgram asked,
                                                             Clock const* clock);

}  // namespace aether::daemon
