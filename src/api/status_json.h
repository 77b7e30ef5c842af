// SPDX-License-Identifier: Apache-2.0
// The API's JSON shapes (docs/openapi.yaml). Pure.
#pragma once
#include <string_view>
#include <vector>

#include <boost/json/fwd.hpp>

#include "api/control_plane.h"
#include "base/error.h"
#include "relay/service.h"
#include "relay/swap_report.h"
#include "supervise/log_book.h"

namespace aether::api {

[[nodiscard]] boost::json::object swap_json(std::string_view service,
                                            relay::SwapReport const& report);
[[nodiscard]] boost::json::object service_json(relay::ServiceStatus const& status);
[[nodiscard]] boost::json::object packets_json(PacketCounts const& counts);
/// The seed's fields (of the first service) and ours for all of them.
[[nodiscard]] boost::json::object status_json(AetherInfo const& info,
                                              std::vector<relay::ServiceStatus> const& services);
[[nodiscard]] boost::json::object log_line_json(std::string_view service,
                                                supervise::LogLine const& line);
/// RFC 9457, with the stable code as `type`.
[[nodiscard]] boost::json::object problem_json(Error const& error, int status);
/// The HTTP status of a fault.
[[nodiscard]] int http_status(ErrorCode code);

}  // namespace aether::api
