// SPDX-License-Identifier: Apache-2.0
// Names of runs and effects.
#pragma once
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include <boost/json/fwd.hpp>

#include "base/result.h"
#include "base/time.h"

namespace aether::jobs {

/// A run: a UUIDv7 (RFC 9562), so that ids order by the time they were made. The name of its stream
/// in the journal.
struct RunId {
  std::string text;
  auto operator<=>(RunId const&) const = default;
};

/// In the order of `at`, to a quarter of a microsecond.
/// @param random 8 bytes nobody has seen.
[[nodiscard]] RunId make_run_id(WallTime at, std::string_view random);
/// RequestInvalid if it is not a UUID in lower case.
[[nodiscard]] Result<RunId> parse_run_id(std::string_view text);

/// One call to the outside world, by its place and never by attempt, worker or the model's call id:
/// base64url (43 characters) of SHA-256 over run, step path, tool name and occurrence, each as
/// `LENGTH:TEXT` (bytes, decimal).
[[nodiscard]] std::string effect_id(RunId const& run, std::string_view path, std::string_view tool,
                                    std::uint32_t occurrence);

/// Base64url of SHA-256 of canonical JSON: of arguments, graphs, inputs.
[[nodiscard]] std::string content_hash(std::string_view canonical);
/// content_hash() of the canonical text of a value.
[[nodiscard]] std::string value_hash(boost::json::value const& value);

}  // namespace aether::jobs
