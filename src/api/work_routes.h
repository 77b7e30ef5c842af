// SPDX-License-Identifier: Apache-2.0
// The routes of workers, for Routes: claims and frames (work_frames.h) over HTTP.
#pragma once
#include <optional>
#include <span>

#include "api/access.h"
#include "api/control_plane.h"
#include "api/route_info.h"
#include "async/task.h"
#include "base/time.h"
#include "http/message.h"

namespace aether::api {

[[nodiscard]] std::span<RouteInfo const> work_routes();

/// The answer; nothing if there is no such route. Faults are thrown. Loop thread only.
[[nodiscard]] async::Task<std::optional<http::Response>> answer_of_work(ControlPlane* control,
                                                                        http::Request request,
                                                                        Decision decision,
                                                                        WallTime now);

}  // namespace aether::api
