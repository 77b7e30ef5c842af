// SPDX-License-Identifier: Apache-2.0
// Snapshots for tests, made by the API's own writer. Only *_test.cc files include it.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include <boost/json.hpp>

#include "api/fake_control_plane.h"
#include "api/function_json.h"
#include "api/status_json.h"
#include "cli/stats_snapshot.h"

namespace aether::cli::testing {

using api::testing::answering;
using api::testing::serving;

/// What `/v1/status` answers for these.
inline boost::json::object status_of(std::vector<functions::FunctionStatus> const& functions,
                                     std::vector<relay::ServiceStatus> const& services) {
  api::AetherInfo const info{
      .version = "1.2.3", .pid = 42, .config_path = "a.yaml", .uptime = std::chrono::minutes(62)};
  boost::json::object status = api::status_json(info, services);
  boost::json::array all;
  for (auto const& one : functions) all.push_back(api::function_json(one));
  status["functions"] = std::move(all);
  return status;
}

inline StatsSnapshot snapshot_of(std::vector<functions::FunctionStatus> const& functions,
                                 std::vector<relay::ServiceStatus> const& services = {}) {
  return read_snapshot(status_of(functions, services));
}

}  // namespace aether::cli::testing
