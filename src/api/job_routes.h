// SPDX-License-Identifier: Apache-2.0
// The routes under /v1/jobs, /v1/audit and /v1/checkpoint, for Routes. Who may ask was decided
// before; whether it may of this run's namespace is decided here.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "api/access.h"
#include "api/control_plane.h"
#include "api/route_info.h"
#include "async/task.h"
#include "base/time.h"
#include "http/message.h"

namespace aether::api {

[[nodiscard]] std::span<RouteInfo const> job_routes();

/// The answer; nothing if there is no such route. Faults are thrown. Loop thread only.
/// @param path The segments of the request's path: "v1", "jobs", ...
[[nodiscard]] async::Task<std::optional<http::Response>> answer_of_jobs(
    ControlPlane* control, http::Request request, std::vector<std::string> path, Decision decision,
    WallTime now);

}  // namespace aether::api
