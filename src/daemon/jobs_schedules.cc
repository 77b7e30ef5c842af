// SPDX-License-Identifier: Apache-2.0
// Jobs: those that begin by themselves.
#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/job_request.h"
#include "async/timers.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/log.h"
#include "config/timetable.h"
#include "daemon/jobs_plane.h"
#include "daemon/known_tools.h"
#include "jobs/driver.h"

namespace aether::daemon {
namespace {

namespace json = boost::json;

/// Of a schedule, at the clock.
constexpr Duration kLookAgain = std::chrono::seconds(30);

}  // namespace

Result<jobs::Submission> Jobs::job_of(config::Schedule const& schedule, WallTime time) const {
  TRY_ASSIGN(json::value const body, parse_json(schedule.job_json, schedule.name));
  api::FindAgent const find = [this](std::string_view name) { return agent(name); };
  return api::read_submission(body, find, time);
}

/// Their mistakes are told when Aether starts, and not at night.
Status Jobs::set_schedules(std::vector<config::Schedule> schedules) {
  for (config::Schedule const& one : schedules) {
    auto const job = job_of(one, clock_.wall());
    Status checked = job ? check_tools(job->spec, *tools_) : Status(fail(job.error()));
    if (checked) {
      jobs::RunOpened opening;
      opening.spec = job->spec;
      auto const driver = jobs::make_driver(opening);
      if (!driver) checked = fail(driver.error());
    }
    if (!checked) {
      return fail(ErrorCode::ConfigInvalid,
                  fmt::format("schedules: {}: {}", one.name, checked.error().message()));
    }
  }
  schedules_ = std::move(schedules);
  return {};
}

/// What was due while nobody ran is not caught up with.
async::Task<void> Jobs::keep_schedule(config::Schedule schedule) {
  config::Timetable const table = schedule.every ? config::Timetable::every(*schedule.every)
                                                 : or_throw(config::Timetable::cron(schedule.cron));
  std::optional<WallTime> due = table.next_after(clock_.wall());
  while (due) {
    // In pieces, because the wall's clock may be set.
    Duration const left = *due - clock_.wall();
    if (left > Duration::zero()) {
      co_await async::sleep_for(std::min(left, kLookAgain));
      continue;
    }
    co_await submit_scheduled(&schedule, *due);
    due = table.next_after(std::max(*due, clock_.wall()));
  }
}

async::Task<void> Jobs::submit_scheduled(config::Schedule const* schedule, WallTime time) {
  try {
    or_throw(fault::pass(fault::Point::JobsSchedule));
    jobs::Submission submission = or_throw(job_of(*schedule, time));
    // One job for each time, also when the clock is set back or another process has made it.
    submission.idempotency_key =
        fmt::format("schedule:{}:{}", schedule->name, format_rfc3339(time));
    submission.schedule = schedule->name;
    jobs::Asker asker{"schedule:" + schedule->name};
    async::Task<jobs::Submitted> submitting = submit(std::move(asker), std::move(submission));
    co_await std::move(submitting);
  } catch (Error const& error) {
    log::error("the schedule {}: {}", schedule->name, error.describe());
  }
}

}  // namespace aether::daemon
