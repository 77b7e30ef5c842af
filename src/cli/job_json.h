// SPDX-License-Identifier: Apache-2.0
// What users type, as the JSON that the API wants.
#pragma once
#include <string>

#include "base/json.h"
#include "base/result.h"

namespace aether::cli {

/// A file of YAML or JSON; "-": what stdin gives. RequestInvalid has file, line and column.
[[nodiscard]] Result<boost::json::value> read_document(std::string const& file);
/// JSON, else the text itself.
[[nodiscard]] boost::json::value json_or_text(std::string const& text);

}  // namespace aether::cli
