// SPDX-License-Identifier: Apache-2.0
// stats: how much is asked of functions and services, and what it takes.
#include <poll.h>

#include <cstdio>
#include <string>
#include <string_view>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/json_text.h"
#include "cli/commands.h"
#include "cli/control_client.h"
#include "cli/dashboard.h"
#include "cli/stats_snapshot.h"
#include "cli/stats_text.h"
#include "cli/terminal.h"

namespace aether::cli {
namespace {

namespace json = boost::json;

constexpr int kWatchMs = 1000;
/// What a terminal is asked for: the cursor at the top left, and nothing below it.
constexpr std::string_view kClear = "\x1b[H\x1b[J";

Status print_metrics(ControlClient const& client) {
  return client.follow("/metrics", [](std::string_view piece) { fmt::print("{}", piece); });
}

Status print_once(Globals const& globals, ControlClient const& client, bool over_the_last) {
  TRY_ASSIGN(json::value const status, client.call("GET", "/v1/status"));
  std::string text = globals.output == Output::Json ? api::json_text(status) + "\n"
                                                    : stats_text(read_snapshot(status));
  if (over_the_last) text.insert(0, kClear);
  fmt::print("{}", text);
  std::fflush(stdout);
  return {};
}

}  // namespace

Result<int> stats(Globals const& globals, StatsOptions const& options) {
  bool const for_programs = globals.output == Output::Json;
  if (options.dashboard && for_programs) {
    return fail(ErrorCode::UsageInvalid,
                "a dashboard is for people: leave out -o json, or take "
                "`stats --watch -o json`");
  }
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  if (options.prometheus && for_programs)
    return fail(ErrorCode::UsageInvalid, "--prometheus is a format of its own: leave out -o json");
  if (options.dashboard) {
    // What is wrong with Aether is told before the screen is taken.
    TRY(client.call("GET", "/v1/status"));
    return run_dashboard(client);
  }
  bool const redraws = options.watch && !for_programs && !options.prometheus && is_terminal(stdout);
  for (;;) {
    TRY(options.prometheus ? print_metrics(client) : print_once(globals, client, redraws));
    std::fflush(stdout);
    if (!options.watch) return kDone;
    (void)::poll(nullptr, 0, kWatchMs);
    if (!redraws && !for_programs) fmt::print("\n");
  }
}

}  // namespace aether::cli
