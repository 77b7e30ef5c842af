// SPDX-License-Identifier: Apache-2.0
// reload, rollback: ask, wait for the verdict, tell it.
#include <cstdio>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/json_text.h"
#include "api/routes.h"
#include "base/bytes.h"
#include "cli/commands.h"
#include "cli/control_client.h"
#include "cli/deploys.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "http/url.h"

namespace aether::cli {
namespace {

namespace json = boost::json;

std::string ms(json::value const& value) {
  if (!value.is_number()) return "-";
  return humanize(std::chrono::duration_cast<Duration>(
      std::chrono::duration<double, std::milli>(value.to_number<double>())));
}

void print_phases(json::object const& swap) {
  for (json::value const& phase : swap.at("phases").as_array()) {
    fmt::print("    {:<13} {:>8}\n", phase.at("name").as_string().c_str(), ms(phase.at("ms")));
  }
  fmt::print("    {:<13} {:>8}\n", "total", ms(swap.at("total_ms")));
}

void print_verdict(json::object const& swap) {
  Paint const paint = paint_for(stdout);
  std::string_view const service = swap.at("service").as_string();
  std::string_view const why = swap.at("why").as_string();
  if (swap.at("verdict").as_string() != "succeeded") {
    json::value const& serving = swap.at("serving_revision");
    fmt::print("{}✗ {}{}: rolled back, {}\n    {}\n", paint.red, service, paint.reset,
               serving.is_null() ? "and nothing serves now"
                                 : fmt::format("revision {} serves on", json::serialize(serving)),
               why);
    print_phases(swap);
    if (swap.at("rollback_ms").is_number())
      fmt::print("    {:<13} {:>8}\n", "steered back", ms(swap.at("rollback_ms")));
    return;
  }
  fmt::print("{}✓ {}{}: revision {} → {} (PID {} → {})\n", paint.green, service, paint.reset,
             swap.at("from_revision").to_number<std::uint64_t>(),
             swap.at("revision").to_number<std::uint64_t>(), json::serialize(swap.at("old_pid")),
             json::serialize(swap.at("pid")));
  if (!why.empty()) fmt::print("    {}\n", why);
  print_phases(swap);
  fmt::print("    {:<13} {:>8}\n", "blackout", ms(swap.at("blackout_ms")));
  if (swap.at("handoff").is_object()) {
    json::object const& handoff = swap.at("handoff").as_object();
    fmt::print("    {:<13} {} by {}\n", "memory",
               humanize_bytes(handoff.at("bytes").to_number<std::uint64_t>()),
               handoff.at("mechanism").as_string().c_str());
    if (auto const* version = handoff.if_contains("state_version"); version && version->is_number())
      fmt::print("    {:<13} {} → {}\n", "state version", json::serialize(*version),
                 json::serialize(handoff.at("taken_as_version")));
  }
}

/// One swap is printed as it is, several as a list.
void print_json(json::array const& swaps) {
  if (swaps.size() == 1) {
    fmt::print("{}\n", api::json_text(swaps.front()));
  } else {
    fmt::print("{}\n", api::json_text(json::object{{"swaps", swaps}}));
  }
}

Result<int> tell(Globals const& globals, json::value const& answer, bool waited) {
  json::array const& swaps = answer.at("swaps").as_array();
  bool good = true;
  for (json::value const& swap : swaps) {
    if (waited) good = good && swap.at("verdict").as_string() == "succeeded";
  }
  if (globals.output == Output::Json) {
    print_json(swaps);
    return good ? kDone : kFailed;
  }
  for (json::value const& swap : swaps) {
    if (waited) {
      print_verdict(swap.as_object());
    } else {
      fmt::print("swap {} of {} has begun\n", swap.at("swap").to_number<std::uint64_t>(),
                 swap.at("service").as_string().c_str());
    }
  }
  return good ? kDone : kFailed;
}

}  // namespace

Result<int> reload(Globals const& globals, ReloadOptions const& options) {
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  std::string const path =
      options.service.empty()
          ? "/v1/reload"
          : fmt::format("/v1/services/{}/reload", http::percent_encode(options.service));
  std::string const body = json::serialize(json::object{
      {"reason", options.reason}, {"force", options.force}, {"check_state", options.check_state}});
  bool const watched =
      options.wait && globals.output == Output::Text && is_terminal(stdout) && is_terminal(stderr);
  bool const wait_there = options.wait && !watched;
  TRY_ASSIGN(json::value answer,
             client.call("POST", path + (wait_there ? "?wait=true" : ""), body, kVerdictLimit));
  if (watched) {
    TRY_ASSIGN(json::value verdicts, watch_swaps(client, answer));
    answer = std::move(verdicts);
  }
  return tell(globals, answer, options.wait);
}

Result<int> rollback(Globals const& globals, std::string const& named) {
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  TRY_ASSIGN(Named const meant, client.find_named(named));
  TRY_ASSIGN(json::value const answer,
             client.call("POST", meant.path() + "/rollback?wait=true", {}, kVerdictLimit));
  if (meant.is_function()) return tell_deploys(globals, answer);
  TRY_ASSIGN(int const told, tell(globals, answer, true));
  // A swap that is taken back is what was asked for; one that was begun for it has to succeed.
  json::value const& swap = answer.at("swaps").as_array().front();
  return swap.at("reason").as_string() == api::kRollbackReason ? told : kDone;
}

}  // namespace aether::cli
