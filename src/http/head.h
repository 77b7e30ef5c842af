// SPDX-License-Identifier: Apache-2.0
// Inside of this room: the first lines of messages, written. Pure.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/time.h"
#include "http/message.h"

namespace aether::http {

/// How the receiver knows where a body ends.
enum class Framing : std::uint8_t { Length, Chunked, UntilClose, NoBody };

struct HeadOptions {
  Framing framing = Framing::Length;
  std::size_t length = 0;  ///< For Framing::Length.
  bool keep_alive = true;
  bool http_1_0 = false;  ///< What the client speaks.
  WallTime date;
};

/// Status line and headers, to the empty line. RequestInvalid if a header's name or value cannot be
/// sent (a line break in it would make two of it), or the status is not 200 to 599.
[[nodiscard]] Result<std::string> response_head(Response const& response,
                                                HeadOptions const& options);

/// Request line and headers for the client. Adds Host, Content-Length, and Connection: close.
[[nodiscard]] Result<std::string> request_head(Request const& request, std::string_view host);

/// RFC 9110, 5.6.7: "Sat, 21 Nov 2026 03:14:15 GMT".
[[nodiscard]] std::string http_date(WallTime time);

}  // namespace aether::http
