// SPDX-License-Identifier: Apache-2.0
// The JSON objects inside SRP's control frames: read with bounds, written in one way.
// Only .cc files of this room include this.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <boost/json/object.hpp>

#include "base/result.h"
#include "relay/srp_frame.h"

namespace aether::relay {

/// The payload as an object. ProtocolViolation for anything else; an empty payload is an empty one.
[[nodiscard]] Result<boost::json::object> parse_object(Frame const& frame);
/// A string field, cut at 4096 bytes; empty if it is missing or something else.
[[nodiscard]] std::string text_field(boost::json::object const& object, std::string_view name);
/// A field that is a whole number of at least 0.
[[nodiscard]] std::optional<std::uint64_t> number_field(boost::json::object const& object,
                                                        std::string_view name);
/// "state_version": 1 to 2^32-1; 0 if it is missing or something else.
[[nodiscard]] std::uint32_t version_field(boost::json::object const& object);
/// A field that is a number of milliseconds, 0 if it is missing, negative or absurd.
[[nodiscard]] double milliseconds_field(boost::json::object const& object, std::string_view name);
/// Whether a frame is of this type and says that it answers `of`.
[[nodiscard]] bool answers_of(Frame const& frame, FrameType type, std::string_view of);
/// {"of", "code", "message"}.
[[nodiscard]] std::string error_json(std::string_view of, Error const& error);

}  // namespace aether::relay
