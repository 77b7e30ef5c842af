// SPDX-License-Identifier: Apache-2.0
// Inside of this room: an HTTP answer as the result of a call, and requests from arguments.
#pragma once
#include <string>
#include <string_view>

#include "http/message.h"
#include "tools/arguments.h"
#include "tools/tool.h"
#include "tools/web.h"

namespace aether::tools {

/// {status, headers, body, truncated?, retry_after_ms?}
[[nodiscard]] boost::json::value web_value(http::Response const& response, bool cut);
/// A response that was judged, as a result; `what` begins the sentence of an error.
[[nodiscard]] CallResult web_result(std::string_view what, Verdict verdict,
                                    WebAnswer const& answer);
/// A call without a response, as a result.
[[nodiscard]] CallResult failed_result(WebAnswer const& answer);
/// What an error tells of an answer's body: the message of a problem or error, or its beginning.
[[nodiscard]] std::string message_of_body(std::string_view body);
/// Reads `headers` and `body` into the request. Refuses what would make two requests of one, and
/// the headers that follow from the request itself.
void read_content(Arguments& args, http::Request& request);
/// Set, unless the caller has one of its own.
void add_key(http::Request& request, std::string const& key);

}  // namespace aether::tools
