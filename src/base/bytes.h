// SPDX-License-Identifier: Apache-2.0
// Sizes in bytes, as people write them.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace aether {

/// "128MB", "1GiB", "64KiB", "4096", "1.5GB", "512Mi". KB/MB/GB are powers of 1000, KiB/MiB/GiB
/// (or Ki/Mi/Gi) of 1024; K/M/G alone are refused, since they are read both ways. In any case of
/// letters. UsageInvalid says what is wrong.
[[nodiscard]] Result<std::uint64_t> parse_size(std::string_view text);
/// Three significant digits with a binary unit: "1.00 GiB", "512 B".
[[nodiscard]] std::string humanize_bytes(std::uint64_t bytes);

}  // namespace aether
