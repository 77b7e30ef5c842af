// SPDX-License-Identifier: Apache-2.0
// JobCounts: what happened to jobs since Aether began, for metrics.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "functions/function_status.h"

namespace aether::api {

/// By the word of the outcome, as the journal has it.
using OutcomeCounts = std::map<std::string, std::uint64_t, std::less<>>;

struct JobCounts {
  std::uint64_t opened = 0;
  OutcomeCounts closed{};
  OutcomeCounts steps{};       ///< Attempts that ended.
  OutcomeCounts calls{};       ///< Turns of calls that were settled.
  std::uint64_t events = 0;    ///< Of the journal, of all kinds.
  std::uint64_t failures = 0;  ///< Batches that could not be recorded.
  functions::DurationHistogram
      appends{};  ///< From when a batch was handed over until it is durable.
  std::optional<std::uint64_t> store_bytes{};  ///< Of the store's files; nothing: it has none.
};

}  // namespace aether::api
