// SPDX-License-Identifier: Apache-2.0
// What a service was told, as JSON: everything but the values of its environment. Pure.
#pragma once
#include <string>

#include <boost/json/fwd.hpp>

#include "config/config.h"

namespace aether::api {

[[nodiscard]] boost::json::object configuration_json(config::Service const& service);
/// "auto: READY=1, ...", "http: /health": what makes an instance ready, in words.
[[nodiscard]] std::string ready_text(config::Ready const& ready);

}  // namespace aether::api
