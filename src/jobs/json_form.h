// SPDX-License-Identifier: Apache-2.0
// The part of JSON Schema that people's forms (MCP elicitation) and arguments of tools use: type,
// properties, required, additionalProperties, items, enum, const, oneOf and anyOf of constants,
// minimum, maximum, minLength, maxLength, minItems, maxItems, and the formats email, uri, date and
// date-time. Pure. Nothing is fetched: "$ref" is not followed.
#pragma once
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace aether::jobs {

/// What of `value` does not fit, each with its JSON pointer; null as a schema takes anything.
/// Words of JSON Schema that are not of this part are passed over.
[[nodiscard]] std::vector<std::string> form_mistakes(boost::json::value const& schema,
                                                     boost::json::value const& value);

/// RequestInvalid unless the schema can be shown as a form, as MCP's elicitation defines it: an
/// object of texts, numbers, booleans and choices, none within another.
[[nodiscard]] Status check_form(boost::json::value const& schema);

/// The value with the defaults of the form filled in where a member is missing.
[[nodiscard]] boost::json::value with_defaults(boost::json::value const& schema,
                                               boost::json::value value);

}  // namespace aether::jobs
