// SPDX-License-Identifier: Apache-2.0
// From YAML to Config. Every mistake of a file is told at once, in one Error whose message has a
// line each: "file:line:column: message". Lines and columns count from 1. Any thread; no state.
#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/config.h"

namespace aether::config {

/// What ${VAR} sees.
using Environment = std::map<std::string, std::string, std::less<>>;
/// The variables of this process.
[[nodiscard]] Environment process_environment();

/// Reads and validates a file. ConfigNotFound if it cannot be read, ConfigInvalid for its mistakes.
/// A relative `workdir` is taken from the file's folder.
[[nodiscard]] Result<Config> load(std::string const& path, Environment const& environment);
[[nodiscard]] Result<Config> load(std::string const& path);

/// The same for text; `file_name` stands before each mistake, and its folder before relative paths.
[[nodiscard]] Result<Config> parse(std::string_view text, std::string const& file_name,
                                   Environment const& environment);

/// What `aether validate` prints for a good file, ending in a newline.
[[nodiscard]] std::string validation_summary(Config const& config);

/// What a good file asks for that is read and checked, but cannot be done yet: a line each, such as
/// `service "web": handoff.mechanism: vault`. `aether up` refuses a file that has any.
[[nodiscard]] std::vector<std::string> not_in_this_release(Config const& config);

/// docs/configuration.md, from the same table that drives the parser.
[[nodiscard]] std::string reference_markdown();

}  // namespace aether::config
