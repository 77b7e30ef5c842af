// SPDX-License-Identifier: Apache-2.0
// A TaskGraph from a goal in words, by rules and without any model: the same words give the same
// graph. Pure.
//
// The goal is cut into clauses at line ends, ";", " then " and ", then ". Each clause is one node,
// after the one before it. The first rule that fits makes it:
//   has http://... or https://...        tool http, policy read, GET (post/put/delete/patch: that
//                                         method, and policy once)
//   wait/sleep/pause ... DURATION         wait for that time ("10s", "5 minutes")
//   wait for [the] signal NAME            wait for that signal
//   approve/approval/confirm/ask ... for  approval, with the clause as its title
//   call/run [the] function NAME          function
//   anything else                         llm: the clause, and what the node before gave
#pragma once
#include <string_view>

#include "base/json.h"

namespace aether::jobs {

/// Clauses of one goal; the rest is one clause.
inline constexpr std::size_t kPlanClausesMax = 50;

[[nodiscard]] boost::json::value plan_by_rules(std::string_view goal, std::string_view model);

}  // namespace aether::jobs
