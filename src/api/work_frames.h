// SPDX-License-Identifier: Apache-2.0
// Claims and frames of the worker protocol (docs/worker-protocol.md), as JSON, whatever carries
// them: HTTP (work_routes.h) or lines to a worker that Aether runs. Loop thread only.
#pragma once
#include <string>
#include <vector>

#include "api/work_plane.h"
#include "async/task.h"
#include "base/json.h"
#include "base/result.h"
#include "base/time.h"

namespace aether::api {

/// What a worker asks for.
struct ReadClaim {
  jobs::WorkClaim claim;
  Duration wait{};
};
/// RequestInvalid names what is wrong: also an agent that is not one with code.
[[nodiscard]] Result<ReadClaim> read_claim(WorkPlane const& plane, boost::json::value const& value);
/// `{runs: [...]}`, when there is work or the time is over.
[[nodiscard]] async::Task<boost::json::object> answer_claim(WorkPlane* plane, ReadClaim claim);
/// `{answers: [...]}`. Faults are thrown: then nothing of the frame was done, unless the fault says
/// that it may be asked again.
[[nodiscard]] async::Task<boost::json::object> answer_frame(WorkPlane* plane,
                                                            boost::json::value frame, WallTime now);
/// Of a carrier that is not HTTP: `{error: {type, detail}}`.
[[nodiscard]] boost::json::object refusal_of(Error const& error);

}  // namespace aether::api
