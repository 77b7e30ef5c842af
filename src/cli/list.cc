// SPDX-License-Identifier: Apache-2.0
// list: what runs, a line each; and the names alone, for completion scripts.
#include <cstdio>
#include <map>
#include <string>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/json_text.h"
#include "base/bytes.h"
#include "cli/commands.h"
#include "cli/control_client.h"
#include "cli/stats_snapshot.h"

namespace aether::cli {
namespace {

namespace json = boost::json;

std::string_view word(json::object const& object, std::string_view key) {
  return object.at(key).as_string();
}

std::string pid_text(json::value const& pid) {
  return pid.is_null() ? "-" : json::serialize(pid);
}

std::string instances_of(json::object const& function) {
  std::map<std::string, std::uint32_t> by_state;
  for (json::value const& one : function.at("instances").as_array()) {
    ++by_state[std::string(one.at("state").as_string())];
  }
  return instances_text(by_state);
}

void print_functions(json::array const& functions) {
  if (functions.empty()) return;
  fmt::print("{:<24} {:<9} {:>5} {:>8} {:>8} {:<11} {}\n", "FUNCTION", "STATE", "PORT", "PID",
             "MEMORY", "INSTANCES", "HANDLER");
  for (json::value const& value : functions) {
    json::object const& one = value.as_object();
    fmt::print("{:<24} {:<9} {:>5} {:>8} {:>8} {:<11} {}\n", word(one, "id"), word(one, "state"),
               json::serialize(one.at("trigger_port")), pid_text(one.at("pid")),
               json::serialize(one.at("memory_limit_mb")) + "MB", instances_of(one),
               word(one, "handler_path"));
  }
}

std::string listen_addresses(json::object const& service) {
  std::string all;
  for (json::value const& listener : service.at("listeners").as_array()) {
    all += fmt::format("{}{}", all.empty() ? "" : " ", word(listener.as_object(), "address"));
  }
  return all.empty() ? "-" : all;
}

void print_services(json::array const& services) {
  if (services.empty()) return;
  fmt::print("{:<24} {:<12} {:>8} {:>8}  {}\n", "SERVICE", "STATE", "REVISION", "PID", "LISTEN");
  for (json::value const& value : services) {
    json::object const& one = value.as_object();
    fmt::print("{:<24} {:<12} {:>8} {:>8}  {}\n", word(one, "name"), word(one, "state"),
               json::serialize(one.at("revision")), pid_text(one.at("pid")), listen_addresses(one));
  }
}

}  // namespace

Result<int> list(Globals const& globals) {
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  TRY_ASSIGN(json::value const of_functions, client.call("GET", "/v1/functions"));
  TRY_ASSIGN(json::value const of_services, client.call("GET", "/v1/services"));
  json::array const& functions = of_functions.at("functions").as_array();
  json::array const& services = of_services.at("services").as_array();
  if (globals.output == Output::Json) {
    json::object const all{{"functions", functions}, {"services", services}};
    fmt::print("{}\n", api::json_text(all));
    return kDone;
  }
  print_functions(functions);
  if (!functions.empty() && !services.empty()) fmt::print("\n");
  print_services(services);
  if (functions.empty() && services.empty()) fmt::print("Nothing runs.\n");
  return kDone;
}

Result<int> print_names(Globals const& globals, NamesOf which) {
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  TRY_ASSIGN(json::value const status, client.call("GET", "/v1/status"));
  auto const print_all = [&](std::string_view list, std::string_view key) {
    for (json::value const& one : status.at(list).as_array()) {
      fmt::print("{}\n", word(one.as_object(), key));
    }
  };
  if (which != NamesOf::Services) print_all("functions", "id");
  if (which != NamesOf::Functions) print_all("services", "name");
  return kDone;
}

}  // namespace aether::cli
