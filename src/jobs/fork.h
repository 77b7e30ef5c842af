// SPDX-License-Identifier: Apache-2.0
// Fork: what a new run keeps of an old one's history. Pure.
#pragma once
#include <string_view>
#include <vector>

#include "base/result.h"
#include "jobs/run_event.h"

namespace aether::jobs {

/// The events that come after the new run's own run.opened, for a fork from `step`: everything
/// before that step was first opened. What had begun by then beside it is kept as it was recorded,
/// later events included, so that no call is made again that the old run has made; only its later
/// failures and given up waits are not, for they may be those of the old run. The steps around it
/// are kept open. Controls (leases, pauses) are not copied. The last event is run.controlled{fork}:
/// up to it, all is copied.
///
/// Effects get the ids of their places in the new run, and keep their keys and times. They are to
/// be appended without taking keys (EventTarget::takes_keys): the old run holds them.
///
/// NotFound if no step of that path was opened. RequestInvalid if a step that is kept still waits
/// for its child, which answers the old run only, or was undone by it.
[[nodiscard]] Result<std::vector<RunEvent>> fork_prefix(RunId const& source,
                                                        std::vector<RunEvent> const& history,
                                                        std::string_view step, RunId const& fork);

}  // namespace aether::jobs
