// SPDX-License-Identifier: Apache-2.0
// Jobs as the API's JSON (docs/openapi.yaml). Pure.
#pragma once
#include <boost/json/fwd.hpp>

#include "api/job_counts.h"
#include "jobs/engine.h"

namespace aether::api {

[[nodiscard]] boost::json::object run_json(jobs::RunState const& run);
[[nodiscard]] boost::json::object run_summary_json(jobs::RunSummary const& run);
/// What happened since Aether began: a part of /v1/status.
[[nodiscard]] boost::json::object counts_json(JobCounts const& counts);
/// An event of a run's stream.
[[nodiscard]] boost::json::object run_event_json(journal::Event const& event);

}  // namespace aether::api
