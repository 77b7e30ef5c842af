// SPDX-License-Identifier: Apache-2.0
// Inside of this room: a model that follows rules and nothing else, so that every example and test
// runs offline, and the same each time. Pure. docs/tools.md tells its rules.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/fwd.hpp>

#include "tools/chat.h"

namespace aether::tools {

/// @param messages, tools In OpenAI's form, as wire_messages and wire_tools give them.
[[nodiscard]] ChatAnswer ask_builtin_model(boost::json::value const& messages,
                                           boost::json::value const& tools);
/// The text in the pieces in which it is streamed: one for each word.
[[nodiscard]] std::vector<std::string_view> pieces_of(std::string_view text);

}  // namespace aether::tools
