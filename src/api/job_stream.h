// SPDX-License-Identifier: Apache-2.0
// The events of a run as they come, as server-sent events.
#pragma once
#include <cstdint>

#include "api/jobs_plane.h"
#include "http/message.h"

namespace aether::api {

/// Those after the sequence `after`; ends with the event that closes the run. Ids are sequences.
[[nodiscard]] http::Response run_event_stream(JobsPlane& jobs, jobs::RunId run,
                                              std::uint64_t after);

}  // namespace aether::api
