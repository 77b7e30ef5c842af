// SPDX-License-Identifier: Apache-2.0
#include "api/job_stream.h"

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/job_json.h"
#include "api/json_text.h"
#include "async/timers.h"

namespace aether::api {
namespace {

constexpr std::size_t kEventsAtOnce = 200;
/// Words to a client of a run in which nothing happens: it keeps proxies from cutting the line, and
/// looks again should a telling have been lost.
constexpr Duration kQuiet = std::chrono::seconds(15);

async::Task<void> follow_run(JobsPlane* jobs, jobs::RunId run, std::uint64_t after,
                             http::BodyWriter& writer) {
  // Watched before it is read, so that nothing falls between.
  std::shared_ptr<RunWatch> const watch = jobs->watch(run);
  co_await writer.write(": aether job events\n\n");
  for (;;) {
    async::Task<std::vector<journal::Event>> reading = jobs->events(run, after, kEventsAtOnce);
    std::vector<journal::Event> const events = co_await std::move(reading);
    std::string text;
    bool closed = false;
    for (journal::Event const& event : events) {
      after = event.sequence.value;
      closed = closed || event.kind == "run.closed";
      text += fmt::format("id: {}\nevent: {}\ndata: {}\n\n", after, event.kind,
                          json_text(run_event_json(event)));
    }
    if (!text.empty()) co_await writer.write(std::move(text));
    if (closed && events.size() < kEventsAtOnce) co_return;
    if (events.size() == kEventsAtOnce || watch->latest > after) continue;
    bool const grown = co_await watch->grown.wait_for(kQuiet);
    if (!grown) co_await writer.write(": still here\n\n");
  }
}

async::Task<void> write_end(JobsPlane* jobs, AwaitedEnd awaited, http::BodyWriter* writer) {
  Instant const deadline = async::deadline_in(awaited.most);
  bool is_late = false;
  for (;;) {
    while (!is_late && awaited.watch->ends == awaited.heard) {
      bool const grown = co_await awaited.watch->grown.wait_until(deadline);
      is_late = !grown;
    }
    awaited.heard = awaited.watch->ends;
    async::Task<jobs::RunState> showing = jobs->show(awaited.run);
    jobs::RunState const state = co_await std::move(showing);
    if (!is_late && !state.closing) continue;
    co_await writer->write(json_text(run_json(state)));
    co_return;
  }
}

}  // namespace

http::Response run_end_response(JobsPlane& jobs, AwaitedEnd awaited) {
  http::Response response;
  response.headers.set("Content-Type", "application/json");
  response.endless = true;
  response.stream = [jobs = &jobs, awaited = std::move(awaited)](http::BodyWriter& writer) {
    return write_end(jobs, awaited, &writer);
  };
  return response;
}

http::Response run_event_stream(JobsPlane& jobs, jobs::RunId run, std::uint64_t after) {
  http::Response response;
  response.headers.set("Content-Type", "text/event-stream");
  response.headers.set("Cache-Control", "no-cache");
  response.endless = true;
  response.stream = [jobs = &jobs, run = std::move(run), after](http::BodyWriter& writer) {
    return follow_run(jobs, run, after, writer);
  };
  return response;
}

}  // namespace aether::api
