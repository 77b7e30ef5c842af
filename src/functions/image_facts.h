// SPDX-License-Identifier: Apache-2.0
// What an image of a handler depends on: its files, its interpreter, its environment and settings,
// the kernel, the processor and CRIU. One line a fact. An image of other facts is stale.
#pragma once
#include <string>
#include <vector>

#include "base/result.h"
#include "config/config.h"

namespace aether::functions {

/// Of one folder, of which each file is looked at; beyond it only that there are more is known, and
/// nothing is taken for unchanged.
inline constexpr std::size_t kImageFilesMax = 5000;
/// Files up to this size are compared by their content too, larger ones by size and time alone.
inline constexpr std::size_t kImageContentMax = std::size_t{4} * 1024 * 1024;

struct ImageSubject {
  config::Function function;
  config::Command command;
  std::vector<std::string> own_environment;  ///< Aether's own, "NAME=value".
  std::string sdk_folder;
};

/// Reads files: not for the loop. LimitReached if the handler's folder has too many.
[[nodiscard]] Result<std::vector<std::string>> image_facts(ImageSubject const& subject);

/// Whether a variable of Aether's own environment says something to a handler, and not only how
/// this Aether was started: INVOCATION_ID, JOURNAL_STREAM, SHLVL ... Pure.
[[nodiscard]] bool matters_to_images(std::string_view variable);

}  // namespace aether::functions
