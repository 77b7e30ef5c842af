// SPDX-License-Identifier: Apache-2.0
// The events of a run as they come, as server-sent events; and its end.
#pragma once
#include <cstdint>
#include <memory>

#include "api/jobs_plane.h"
#include "base/time.h"
#include "http/message.h"

namespace aether::api {

/// Those after the sequence `after`; ends with the event that closes the run. Ids are sequences.
[[nodiscard]] http::Response run_event_stream(JobsPlane& jobs, jobs::RunId run,
                                              std::uint64_t after);

/// A run of which somebody wants to hear when it ends. Watched before it is read, so that nothing
/// falls between.
struct AwaitedEnd {
  jobs::RunId run;
  std::shared_ptr<RunWatch> watch;
  std::uint64_t heard = 0;  ///< RunWatch::ends before it was read, and had not ended.
  Duration most{};
};
/// One answer, as JSON: the run when it has ended, or as it is when the time is over.
[[nodiscard]] http::Response run_end_response(JobsPlane& jobs, AwaitedEnd awaited);

}  // namespace aether::api
