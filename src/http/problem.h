// SPDX-License-Identifier: Apache-2.0
// Inside of this room: what the server itself has to say, as problem+json (RFC 9457).
#pragma once
#include <string_view>

#include "http/message.h"

namespace aether::http {

/// `type` is about:blank, as RFC 9457 (4.2.1) wants it where the status says it all.
[[nodiscard]] Response problem(int status, std::string_view detail);

}  // namespace aether::http
