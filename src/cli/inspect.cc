// SPDX-License-Identifier: Apache-2.0
// inspect: all that is known of one service or function.
#include <cstdio>
#include <string>
#include <string_view>

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

/// A value as a person writes it: text without quotes, a list with commas, "-" for nothing.
std::string plain(json::value const& value) {
  if (value.is_string()) return std::string(value.as_string());
  if (value.is_null()) return "-";
  if (value.is_object()) {
    std::string all;
    for (auto const& [key, field] : value.as_object()) {
      all += fmt::format("{}{}: {}", all.empty() ? "" : ", ", std::string_view(key), plain(field));
    }
    return all.empty() ? "-" : all;
  }
  if (!value.is_array()) return api::json_text(value);
  std::string all;
  for (json::value const& one : value.as_array()) {
    all += fmt::format("{}{}", all.empty() ? "" : ", ", plain(one));
  }
  return all.empty() ? "-" : all;
}

std::string humanize_ms(json::value const& value) {
  return humanize(std::chrono::duration_cast<Duration>(
      std::chrono::duration<double, std::milli>(value.to_number<double>())));
}

/// "Ready timeout" for ready_timeout_ms, and the value in the unit that people use.
void print_key(std::string_view key, json::value const& value) {
  std::string label(key);
  std::string shown = plain(value);
  if (label.ends_with("_ms") && value.is_number()) {
    label.resize(label.size() - 3);
    shown = humanize_ms(value);
  }
  for (char& c : label) c = c == '_' ? ' ' : c;
  fmt::print("  {:<18} {}\n", label, shown);
}

void print_list(std::string_view title, json::array const& list) {
  if (list.empty()) return;
  Paint const paint = paint_for(stdout);
  fmt::print("{}{}{}\n", paint.bold, title, paint.reset);
  for (json::value const& value : list) {
    std::string line;
    for (auto const& [key, field] : value.as_object()) {
      if (field.is_null() || (field.is_string() && field.as_string().empty())) continue;
      std::string const text =
          key == "memory_bytes" ? humanize_bytes(field.to_number<std::uint64_t>()) : plain(field);
      line += fmt::format("{}{}={}", line.empty() ? "" : "  ", std::string_view(key), text);
    }
    fmt::print("  {}\n", line);
  }
}

void print(json::object const& answer) {
  Paint const paint = paint_for(stdout);
  json::object const& service = answer.at("service").as_object();
  fmt::print("{}{}{}\n", paint.bold, plain(service.at("name")), paint.reset);
  for (std::string_view const key :
       {"state", "phase", "revision", "percent", "pid", "restarts", "problem", "command"}) {
    print_key(key, service.at(key));
  }
  fmt::print("{}configuration{}\n", paint.bold, paint.reset);
  for (auto const& [key, value] : answer.at("configuration").as_object()) print_key(key, value);
  print_list("instances", service.at("instances").as_array());
  if (json::value const* draining = service.if_contains("draining")) {
    print_list("draining", draining->as_array());
  }
  print_list("listeners", service.at("listeners").as_array());
}

void print_starts(json::object const& starts) {
  if (starts.empty()) return;
  Paint const paint = paint_for(stdout);
  fmt::print("{}starts{}\n", paint.bold, paint.reset);
  for (auto const& [tier, counts] : starts) {
    auto const ms = [&](std::string_view key) {
      json::value const& value = counts.at(key);
      return value.is_null() ? "-" : humanize_ms(value);
    };
    fmt::print("  {:<18} {} ({} failed), p50 {}, p99 {}\n", std::string_view(tier),
               plain(counts.at("count")), plain(counts.at("failed")), ms("p50_ms"), ms("p99_ms"));
  }
}

/// How it is made comes first: whether it is cloned, and why not.
void print_function(json::object const& answer) {
  Paint const paint = paint_for(stdout);
  json::object const& function = answer.at("function").as_object();
  fmt::print("{}{}{}\n", paint.bold, plain(function.at("id")), paint.reset);
  for (std::string_view const key :
       {"state", "problem", "revision", "pid", "trigger_port", "handler_path", "route"}) {
    print_key(key, function.at(key));
  }
  // An older Aether does not say it.
  if (json::value const* bind = function.if_contains("bind")) print_key("bind", *bind);
  if (json::value const* given = function.if_contains("given"); given && !given->is_null())
    print_key("connections given", *given);
  print_key("launch", function.at("launch"));
  for (json::value const& reason : function.at("not_cloneable").as_array()) {
    fmt::print("  {:<18} {}not cloned{}: {}\n", "", paint.yellow, paint.reset, plain(reason));
  }
  for (json::value const& note : function.at("notes").as_array()) {
    fmt::print("  {:<18} {}note{}: {}\n", "", paint.yellow, paint.reset, plain(note));
  }
  print_key("sandbox", function.at("sandbox"));
  // An older Aether does not say them.
  if (json::value const* rules = answer.if_contains("sandbox_rules")) {
    for (json::value const& rule : rules->as_array())
      fmt::print("  {:<18} - {}\n", "", plain(rule));
  }
  for (std::string_view const key :
       {"memory_limit_mb", "min_instances", "max_instances", "out_of_memory", "crashes"}) {
    print_key(key, function.at(key));
  }
  fmt::print("{}configuration{}\n", paint.bold, paint.reset);
  for (auto const& [key, value] : answer.at("configuration").as_object()) print_key(key, value);
  print_starts(function.at("starts").as_object());
  fmt::print("{}requests{}\n", paint.bold, paint.reset);
  json::object const& requests = function.at("requests").as_object();
  for (std::string_view const key : {"count", "in_flight", "queued", "by_status", "refusals"}) {
    print_key(key, requests.at(key));
  }
  print_list("instances", function.at("instances").as_array());
}

}  // namespace

Result<int> inspect(Globals const& globals, std::string const& service) {
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  TRY_ASSIGN(Named const named, client.find_named(service));
  TRY_ASSIGN(json::value const answer, client.call("GET", named.path() + "/inspect"));
  if (globals.output == Output::Json) {
    fmt::print("{}\n", api::json_text(answer));
  } else if (named.is_function()) {
    print_function(answer.as_object());
  } else {
    print(answer.as_object());
  }
  return kDone;
}

}  // namespace aether::cli
