// SPDX-License-Identifier: Apache-2.0
// The API's JSON shapes of functions (docs/openapi.yaml). Pure.
#pragma once
#include <boost/json/fwd.hpp>

#include "api/control_plane.h"
#include "config/config.h"
#include "functions/function_status.h"

namespace aether::api {

[[nodiscard]] boost::json::object function_json(functions::FunctionStatus const& status);
/// What the configuration says of it, without the values of its environment.
[[nodiscard]] boost::json::object configuration_json(config::Function const& function);
[[nodiscard]] boost::json::object deploy_json(DeployReport const& report);

}  // namespace aether::api
