// SPDX-License-Identifier: Apache-2.0
#include "cli/up_text.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <string_view>

#include <fmt/format.h>

#include "cli/terminal.h"
#include "daemon/jobs_store.h"
#include "supervise/printable.h"

namespace aether::cli {
namespace {

/// Between the box's corners.
constexpr std::size_t kBoxWidth = 62;

std::string bar(std::string_view left, std::string_view right) {
  std::string line(left);
  for (std::size_t i = 0; i < kBoxWidth; ++i) line += "═";
  line += right;
  line += '\n';
  return line;
}

void add_service(std::string& told, Paint const& paint, relay::ServiceStatus const& service) {
  auto const to = std::back_inserter(told);
  if (service.pid == 0) {
    std::string const why = supervise::without_quotes(service.problem.value_or(service.state));
    fmt::format_to(to, "  {}✗{} {} did not start: {}\n", paint.red, paint.reset, service.name, why);
    return;
  }
  std::string listens;
  for (relay::ListenerStatus const& listener : service.listeners) {
    listens += fmt::format("{}{}", listens.empty() ? "" : " ", listener.address);
  }
  fmt::format_to(to, "  {}✓{} {} started (PID: {}{}{})\n", paint.green, paint.reset, service.name,
                 service.pid, listens.empty() ? "" : ", Listen: ", listens);
}

/// One with an image may run without a process, until it is asked.
bool does_run(functions::FunctionStatus const& function) {
  return function.pid != 0 || function.state == "RUNNING";
}

void add_function(std::string& told, Paint const& paint,
                  functions::FunctionStatus const& function) {
  auto const to = std::back_inserter(told);
  if (!does_run(function)) {
    std::string const why = supervise::without_quotes(function.problem.value_or(function.state));
    fmt::format_to(to, "  {}✗{} {} did not start: {}\n", paint.red, paint.reset, function.id, why);
    return;
  }
  std::string const pid = function.pid != 0 ? fmt::format("{}", function.pid) : "none, an image";
  fmt::format_to(to, "  {}✓{} {} started (PID: {}, Port: {})\n", paint.green, paint.reset,
                 function.id, pid, function.trigger_port);
  if (function.not_cloneable.empty()) return;
  fmt::format_to(to, "    {}each instance is spawned, for it cannot be cloned:{}\n", paint.dim,
                 paint.reset);
  for (std::string const& why : function.not_cloneable)
    fmt::format_to(to, "    {}- {}{}\n", paint.dim, why, paint.reset);
}

void add_functions_box(std::string& told, Paint const& paint,
                       std::vector<functions::FunctionStatus> const& all) {
  bool const is_boxed = is_terminal(stdout);
  auto const to = std::back_inserter(told);
  auto const runs = std::ranges::count_if(all, does_run);
  std::string const head = fmt::format(" Status: {} functions running", runs);
  told += '\n';
  if (is_boxed) {
    told += bar("╔", "╗");
    fmt::format_to(to, "║{:<{}}║\n", head, kBoxWidth - 1);
    told += bar("╠", "╣");
  } else {
    told += head.substr(1) + "\n";
  }
  for (functions::FunctionStatus const& one : all) {
    bool const runs_now = does_run(one);
    fmt::format_to(to, "{}{}●{} {:<20} → http://localhost:{}  [{}]\n", is_boxed ? "║ " : "",
                   runs_now ? paint.green : paint.red, paint.reset, one.id, one.trigger_port,
                   runs_now ? "Running" : "Failed");
  }
  if (is_boxed) told += bar("╚", "╝");
}

}  // namespace

std::string starting_text(config::Config const& config) {
  std::string told;
  if (!config.functions.empty() && is_terminal(stdout)) {
    told += bar("╔", "╗");
    told += fmt::format("║{:<{}}║\n", "              AETHERLESS ORCHESTRATOR", kBoxWidth);
    told += bar("╚", "╝") + "\n";
  }
  for (config::Service const& service : config.services)
    told += fmt::format("▶ Starting service: {}\n", service.name);
  for (config::Function const& function : config.functions)
    told += fmt::format("▶ Spawning function: {}\n", function.id);
  if (!config.jobs.enabled) return told;
  told += fmt::format("▶ Running jobs: {}\n", daemon::store_name(config));
  if (config.api.port && *config.api.port != 0)
    told += fmt::format("▶ API: http://{}:{}\n", config.api.host, *config.api.port);
  return told;
}

std::string started_text(api::ControlPlane const& control) {
  Paint const paint = paint_for(stdout);
  std::string told;
  for (relay::ServiceStatus const& service : control.services()) add_service(told, paint, service);
  std::vector<functions::FunctionStatus> const all = control.functions();
  for (functions::FunctionStatus const& function : all) add_function(told, paint, function);
  if (!all.empty()) add_functions_box(told, paint, all);
  if (is_terminal(stdout)) told += "\nPress Ctrl+C to stop...\n";
  return told;
}

}  // namespace aether::cli
