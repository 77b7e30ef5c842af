// SPDX-License-Identifier: Apache-2.0
// The routes under /v1/functions, for Routes. Who may ask was decided before.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "api/control_plane.h"
#include "async/task.h"
#include "http/message.h"

namespace aether::api {

/// The answer; nothing if there is no such route. Faults are thrown. Loop thread only.
/// @param path The segments of the request's path: "v1", "functions", ...
[[nodiscard]] async::Task<std::optional<http::Response>> answer_of_functions(
    ControlPlane* control, http::Request request, std::vector<std::string> path);

}  // namespace aether::api
