// SPDX-License-Identifier: Apache-2.0
// Erasing the values of a job: their content goes, every event and every proof stays. Blocking.
#pragma once
#include "api/jobs_plane.h"
#include "base/result.h"
#include "jobs/run_event.h"
#include "journal/journal.h"

namespace aether::daemon {

/// Takes away the content of each value of the run that lies beside its events. A fork that shares
/// a value loses it as well. Conflict, if the run has not ended: it may need them.
[[nodiscard]] Result<api::Erasure> erase_values(journal::Journal& journal, jobs::RunId const& run);
/// Conflict, if values of the run were erased: nobody can decide again from what is gone.
[[nodiscard]] Status check_values_stay(journal::Journal& journal, jobs::RunId const& run);

}  // namespace aether::daemon
