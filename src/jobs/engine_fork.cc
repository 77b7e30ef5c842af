// SPDX-License-Identifier: Apache-2.0
// EngineCore: a run that shares the history of another one up to a step.
#include "base/fault.h"
#include "jobs/engine_core.h"

namespace aether::jobs {

void EngineCore::fork(Asker asker, RunId run, std::string step, std::optional<RunSpec> changed,
                      Reply<RunId> reply) {
  if (Status const passed = fault::pass(fault::Point::JobsFork); !passed)
    return reply(fail(passed.error()));
  (void)asker;
  (void)run;
  (void)step;
  (void)changed;
  reply(fail(ErrorCode::Unsupported, "forking a run is not there yet"));
}

}  // namespace aether::jobs
