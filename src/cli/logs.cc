// SPDX-License-Identifier: Apache-2.0
// logs: what the programs wrote, as it was or as it comes.
#include <cstdio>
#include <string>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/control_client.h"
#include "cli/terminal.h"

namespace aether::cli {
namespace {

namespace json = boost::json;

void print_entry(std::string const& line, Output output, Paint const& paint) {
  if (output == Output::Json) {
    fmt::print("{}\n", line);
    return;
  }
  json::value const entry = json::parse(line);
  if (entry.as_object().contains("missed")) {
    fmt::print("{}... {} lines are gone{}\n", paint.yellow,
               entry.at("missed").to_number<std::uint64_t>(), paint.reset);
    return;
  }
  fmt::print("{}{} [{} r{}]{} {}\n", paint.dim, entry.at("time").as_string().c_str(),
             entry.at("service").as_string().c_str(),
             entry.at("revision").to_number<std::uint64_t>(), paint.reset,
             entry.at("text").as_string().c_str());
}

}  // namespace

Result<int> logs(Globals const& globals, LogsOptions const& options) {
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  TRY_ASSIGN(Named const named, client.find_named(options.service));
  std::string const target = fmt::format("{}/logs?tail={}{}", named.path(), options.lines,
                                         options.follow ? "&follow=true" : "");
  Paint const paint = paint_for(stdout);
  std::string pending;  // A piece may end in the middle of a line.
  TRY(client.follow(target, [&](std::string_view piece) {
    pending += piece;
    for (std::size_t end = 0; (end = pending.find('\n')) != std::string::npos;) {
      print_entry(pending.substr(0, end), globals.output, paint);
      pending.erase(0, end + 1);
    }
    std::fflush(stdout);
  }));
  return kDone;
}

}  // namespace aether::cli
