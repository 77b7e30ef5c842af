// SPDX-License-Identifier: Apache-2.0
// status: what runs, and how it stands.
#include <cstdio>
#include <string>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/json_text.h"
#include "base/bytes.h"
#include "cli/commands.h"
#include "cli/control_client.h"
#include "cli/terminal.h"

namespace aether::cli {
namespace {

namespace json = boost::json;

std::string_view text(json::object const& object, std::string_view key) {
  return object.at(key).as_string();
}

std::uint64_t number(json::object const& object, std::string_view key) {
  return object.at(key).to_number<std::uint64_t>();
}

std::string addresses(json::object const& service) {
  std::string all;
  for (json::value const& listener : service.at("listeners").as_array()) {
    all += fmt::format("{}{}", all.empty() ? "" : " ", text(listener.as_object(), "address"));
  }
  return all.empty() ? "-" : all;
}

void print_swap(json::object const& swap) {
  fmt::print("    last swap: {} (revision {} → {}, {})\n", text(swap, "verdict"),
             number(swap, "from_revision"), number(swap, "revision"), text(swap, "began"));
  std::string_view const why = text(swap, "why");
  if (!why.empty()) fmt::print("      {}\n", why);
}

/// Only where programs bind their own port.
void print_shares(json::object const& listener) {
  json::value const* const shares = listener.if_contains("shares");
  if (shares == nullptr) return;
  for (json::value const& value : shares->as_array()) {
    json::object const& share = value.as_object();
    fmt::print("      revision {}: {}%, {} given, hidden ports {}\n", number(share, "revision"),
               number(share, "percent"), number(share, "given"),
               json::serialize(share.at("hidden_ports")));
  }
}

void print_service(json::object const& service) {
  Paint const paint = paint_for(stdout);
  bool const runs = !service.at("pid").is_null();
  fmt::print("{}●{} {:<20} {:<12} revision {}  PID {}  {}\n", runs ? paint.green : paint.red,
             paint.reset, text(service, "name"), text(service, "state"),
             number(service, "revision"), json::serialize(service.at("pid")), addresses(service));
  if (number(service, "percent") < 100) {
    fmt::print("    canary: revision {} gets {}% of new connections\n", number(service, "revision"),
               number(service, "percent"));
  }
  for (json::value const& value : service.at("instances").as_array()) {
    json::object const& instance = value.as_object();
    fmt::print("    revision {}: PID {}, {}, {}, since {}{}{}\n", number(instance, "revision"),
               number(instance, "pid"), text(instance, "state"),
               humanize_bytes(number(instance, "memory_bytes")), text(instance, "since"),
               text(instance, "status_text").empty() ? "" : ": ", text(instance, "status_text"));
  }
  for (json::value const& value : service.at("draining").as_array()) {
    json::object const& old = value.as_object();
    fmt::print("    revision {} drains until {}: {}, connections: {}\n", number(old, "revision"),
               text(old, "deadline"), text(old, "stage"),
               old.at("connections").is_null() ? "?" : json::serialize(old.at("connections")));
  }
  for (json::value const& value : service.at("listeners").as_array()) {
    json::object const& listener = value.as_object();
    fmt::print("    {} ({}): {} waiting, {} dropped\n", text(listener, "address"),
               text(listener, "mode"), number(listener, "queued"), number(listener, "overflows"));
    print_shares(listener);
  }
  if (number(service, "restarts") > 0)
    fmt::print("    restarts: {}\n", number(service, "restarts"));
  if (service.at("problem").is_string()) {
    fmt::print("    {}problem{}: {}\n", paint.red, paint.reset, text(service, "problem"));
  }
  if (service.at("last_swap").is_object()) print_swap(service.at("last_swap").as_object());
}

/// As the box of `aether up` has it.
void print_function_line(json::object const& function) {
  Paint const paint = paint_for(stdout);
  bool const runs = text(function, "state") == "RUNNING";
  fmt::print("{}●{} {:<20} → http://localhost:{}  [{}]\n", runs ? paint.green : paint.red,
             paint.reset, text(function, "id"), number(function, "trigger_port"),
             runs ? "Running" : text(function, "state"));
  for (json::value const& value : function.at("instances").as_array()) {
    json::object const& instance = value.as_object();
    fmt::print("    revision {}: PID {}, {}, {}, since {}\n", number(instance, "revision"),
               number(instance, "pid"), text(instance, "state"),
               humanize_bytes(number(instance, "memory_bytes")), text(instance, "since"));
  }
  if (function.at("problem").is_string()) {
    fmt::print("    {}problem{}: {}\n", paint.red, paint.reset, text(function, "problem"));
  }
}

/// Since Aether began; `aether jobs list` has those that there are.
void print_jobs(json::object const& jobs) {
  Paint const paint = paint_for(stdout);
  std::string ended;
  for (auto const& [outcome, count] : jobs.at("closed").as_object()) {
    ended += fmt::format(", {} {}", json::serialize(count), std::string_view(outcome));
  }
  fmt::print("{}●{} {:<20} {} submitted{}\n", paint.green, paint.reset, "jobs",
             number(jobs, "opened"), ended);
  if (number(jobs, "calls_unknown") == 0) return;
  fmt::print("    calls of which nobody knew what became: {} (aether jobs list --status parked)\n",
             number(jobs, "calls_unknown"));
}

}  // namespace

Result<int> status(Globals const& globals, std::string const& service) {
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  TRY_ASSIGN(json::value const answer, client.call("GET", "/v1/status"));
  bool found = service.empty();
  if (globals.output == Output::Json && service.empty()) {
    fmt::print("{}\n", api::json_text(answer));
    return kDone;
  }
  auto const show = [&](std::string_view list, std::string_view key, auto print_one) {
    json::value const* const all = answer.as_object().if_contains(list);
    for (json::value const& value : all != nullptr ? all->as_array() : json::array()) {
      json::object const& one = value.as_object();
      if (!service.empty() && text(one, key) != service) continue;
      found = true;
      if (globals.output == Output::Json) {
        fmt::print("{}\n", api::json_text(one));
      } else {
        print_one(one);
      }
    }
  };
  show("functions", "id", print_function_line);
  show("services", "name", print_service);
  json::value const* const jobs = answer.as_object().if_contains("jobs");
  if (jobs != nullptr && service.empty()) print_jobs(jobs->as_object());
  if (!found) {
    return fail(ErrorCode::ServiceUnknown,
                fmt::format("there is no service or function {}", service));
  }
  return kDone;
}

}  // namespace aether::cli
