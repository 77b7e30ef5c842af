// SPDX-License-Identifier: Apache-2.0
// The nodes of a graph that wait: for a time, a signal, a person, a run below. Inside of this room.
#pragma once
#include <string>
#include <string_view>

#include "jobs/driver.h"
#include "jobs/graph.h"

namespace aether::jobs {

/// What opens the wait of a node; `with` is expanded.
[[nodiscard]] Decision wait_of(GraphNode const& node, std::string const& path,
                               boost::json::value const& with, RunSpec const& parent);
/// The end of the node's step, from the end of its wait.
[[nodiscard]] EndStep end_of_wait(GraphNode const& node, std::string const& path,
                                  WaitState const& wait);
/// "approved", "rejected", "expired", from the result of such a step; "" of any other.
[[nodiscard]] std::string_view decision_in(boost::json::value const& result);

}  // namespace aether::jobs
