// SPDX-License-Identifier: Apache-2.0
// deploy: functions of a file, made ready beside those that serve.
#include "cli/deploys.h"

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/json_text.h"
#include "cli/commands.h"
#include "cli/control_client.h"
#include "cli/terminal.h"
#include "http/limits.h"
#include "os/file.h"

namespace aether::cli {
namespace {

namespace json = boost::json;

void print_deploy(json::object const& deploy) {
  Paint const paint = paint_for(stdout);
  std::string_view const name = deploy.at("function").as_string();
  auto const from = deploy.at("from_revision").to_number<std::uint64_t>();
  auto const revision = deploy.at("revision").to_number<std::uint64_t>();
  if (deploy.at("verdict").as_string() != "succeeded") {
    fmt::print("{}✗ {}{}: {}\n    {}\n", paint.red, name, paint.reset,
               revision == 0 ? "not deployed, and nothing serves"
                             : fmt::format("not deployed, revision {} serves on", revision),
               deploy.at("why").as_string().c_str());
    return;
  }
  std::string const which = from == 0 ? fmt::format("revision {}", revision)
                                      : fmt::format("revision {} → {}", from, revision);
  fmt::print(
      "{}✓ {}{}: {} ({})\n", paint.green, name, paint.reset, which,
      humanize(std::chrono::duration_cast<Duration>(
          std::chrono::duration<double, std::milli>(deploy.at("took_ms").to_number<double>()))));
}

}  // namespace

Result<int> tell_deploys(Globals const& globals, json::value const& answer) {
  if (globals.output == Output::Json) fmt::print("{}\n", api::json_text(answer));
  bool good = true;
  for (json::value const& one : answer.at("deploys").as_array()) {
    good = good && one.at("verdict").as_string() == "succeeded";
    if (globals.output == Output::Text) print_deploy(one.as_object());
  }
  return good ? kDone : kFailed;
}

Result<int> deploy(Globals const& globals, std::string const& file) {
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  std::error_code ec;
  std::string const path = std::filesystem::absolute(file, ec).string();
  std::string body = json::serialize(json::object{{"file", path}});
  if (client.is_remote()) {
    // What this machine has, the other one need not have.
    TRY_ASSIGN(body, os::read_file(path, http::kBodyBytesMax));
  }
  TRY_ASSIGN(json::value const answer,
             client.call("POST", "/v1/functions", std::move(body), kVerdictLimit));
  return tell_deploys(globals, answer);
}

}  // namespace aether::cli
