// SPDX-License-Identifier: Apache-2.0
// What requests about jobs say: bodies read into values. Pure.
#pragma once
#include <functional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "base/time.h"
#include "jobs/engine.h"

namespace aether::api {

/// The declaration of a named agent.
using FindAgent = std::function<Result<boost::json::value>(std::string_view name)>;

/// The body of POST /v1/jobs: exactly one of graph, agent and goal, and how it is to be run; with
/// the hash of it. RequestInvalid names the member that is wrong, and the nearest known one if it
/// is unknown.
/// @param now For deadlines that are given as durations.
[[nodiscard]] Result<jobs::Submission> read_submission(boost::json::value const& body,
                                                       FindAgent const& find_agent, WallTime now);

/// The open approval that is meant: the one at the path, or the only one, whose path is put there.
[[nodiscard]] Result<std::reference_wrapper<jobs::WaitState const>> find_approval(
    jobs::RunState const& run, std::string& path);

/// RequestInvalid names all that is not as the schema of the form asks.
[[nodiscard]] Status check_form(boost::json::value const& schema, boost::json::value const& form);

/// What is wrong with an Idempotency-Key: 1 to 128 printable characters, no quote, no backslash.
[[nodiscard]] Status check_key(std::string_view key);

/// RequestInvalid names a whole number beyond 2^53, which no record could give back as it is
/// (RFC 8785, 3.2.2.3).
[[nodiscard]] Status check_numbers(boost::json::value const& value);

/// RFC 3339, in UTC or with an offset. RequestInvalid.
[[nodiscard]] Result<WallTime> parse_rfc3339(std::string_view text);

}  // namespace aether::api
