// SPDX-License-Identifier: Apache-2.0
// YAML as JSON, for the parts of a file that Aether passes on as they are: graphs and inputs of
// jobs. Variables (${...}) are left alone: in a graph they mean something else.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "config/yaml_tree.h"

namespace aether::config {

/// The node as JSON, by YAML's core schema: plain null, true, false and numbers are those; all else
/// is text. Nothing if its aliases come to more than kExpandedBytesMax.
[[nodiscard]] std::optional<std::string> json_of(Node const& node);

/// A whole text (JSON is YAML). RequestInvalid with `name`, line and column of the first mistake.
[[nodiscard]] Result<std::string> yaml_to_json(std::string_view text, std::string_view name);

}  // namespace aether::config
