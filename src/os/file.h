// SPDX-License-Identifier: Apache-2.0
// Whole small files: read with a bound, written so that no reader ever sees half of one.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"

namespace aether::os {

/// The file's content. LimitReached if it is longer than bytes_max. Works for /proc, whose files
/// have no size.
[[nodiscard]] Result<std::string> read_file(std::string const& path, std::size_t bytes_max);
/// Writes a temporary file beside it and renames it over `path`: pid files, state files.
Status write_file_atomically(std::string const& path, std::string_view content, mode_t mode = 0644);

}  // namespace aether::os
