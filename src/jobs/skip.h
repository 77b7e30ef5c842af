// SPDX-License-Identifier: Apache-2.0
// Nodes of a graph that do not run: no branch leads to them, or their condition is false. Such a
// step is opened and closed at once, with the reason as its input, by which it is known again.
#pragma once
#include <string_view>

#include "jobs/run_state.h"

namespace aether::jobs {

inline constexpr std::string_view kSkippedByWhen = "when is false";
inline constexpr std::string_view kSkippedByParents = "no branch leads here";

[[nodiscard]] boost::json::value skip_input(std::string_view reason);
/// Why the step did not run; empty if it ran, runs, or failed.
[[nodiscard]] std::string_view skip_reason(StepState const& step);

}  // namespace aether::jobs
