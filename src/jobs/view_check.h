// SPDX-License-Identifier: Apache-2.0
// The views of runs, made again from their events: for fsck.
#pragma once
#include <string>
#include <vector>

#include "base/result.h"
#include "journal/journal.h"

namespace aether::jobs {

/// Compares the rows that are kept with those that the events give: one sentence for each that is
/// missing, too many or wrong. More than journal::kFindingsMax are not told. Blocking; the journal
/// should not be appended to meanwhile. A run whose events do not fold has no rows, and is not told
/// here: run_laws.h says what is wrong with it.
[[nodiscard]] Result<std::vector<std::string>> check_views(journal::Journal& journal);
/// Drops the views and writes them as the events give them. Nothing else may append meanwhile.
[[nodiscard]] Status rebuild_views(journal::Journal& journal);

}  // namespace aether::jobs
