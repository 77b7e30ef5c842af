// SPDX-License-Identifier: Apache-2.0
// inspect: all that is known of one service.
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
#include "http/url.h"

namespace aether::cli {
namespace {

namespace json = boost::json;

/// A value as a person writes it: text without quotes, a list with commas, "-" for nothing.
std::string plain(json::value const& value) {
  if (value.is_string()) return std::string(value.as_string());
  if (value.is_null()) return "-";
  if (!value.is_array()) return api::json_text(value);
  std::string all;
  for (json::value const& one : value.as_array()) {
    all += fmt::format("{}{}", all.empty() ? "" : ", ", plain(one));
  }
  return all.empty() ? "-" : all;
}

/// "Ready timeout" for ready_timeout_ms, and the value in the unit that people use.
void print_key(std::string_view key, json::value const& value) {
  std::string label(key);
  std::string shown = plain(value);
  if (label.ends_with("_ms") && value.is_number()) {
    label.resize(label.size() - 3);
    shown = humanize(std::chrono::duration_cast<Duration>(
        std::chrono::duration<double, std::milli>(value.to_number<double>())));
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
       {"state", "phase", "revision", "pid", "restarts", "problem", "command"}) {
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

}  // namespace

Result<int> inspect(Globals const& globals, std::string const& service) {
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  TRY_ASSIGN(std::string const name, client.service_or_only(service));
  TRY_ASSIGN(json::value const answer, client.call("GET", fmt::format("/v1/services/{}/inspect",
                                                                      http::percent_encode(name))));
  if (globals.output == Output::Json) {
    fmt::print("{}\n", api::json_text(answer));
  } else {
    print(answer.as_object());
  }
  return kDone;
}

}  // namespace aether::cli
