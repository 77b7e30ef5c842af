// SPDX-License-Identifier: Apache-2.0
// The events of a run as they come, as server-sent events; and its end.
#pragma once
#include <cstdint>

#include "api/jobs_plane.h"
#include "base/time.h"
#include "http/message.h"

namespace aether::api {

/// Those after the sequence `after`; ends with the event that closes the run. Ids are sequences.
[[nodiscard]] http::Response run_event_stream(JobsPlane& jobs, jobs::RunId run,
                                              std::uint64_t after);

/// One answer, as JSON: the run when it has ended, or as it is when the time is over.
[[nodiscard]] http::Response run_end_response(JobsPlane& jobs, jobs::RunId run, Duration most);

}  // namespace aether::api
