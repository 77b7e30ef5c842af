// SPDX-License-Identifier: Apache-2.0
// chat: each line that is typed is a job of an agent, shown while it is done.
#include <poll.h>
#include <unistd.h>

#include <iostream>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/json.h"
#include "cli/agent_commands.h"
#include "cli/control_client.h"
#include "cli/terminal.h"
#include "config/loader.h"

namespace aether::cli {
namespace {

namespace json = boost::json;

/// Between two looks at a job: shorter than a person notices.
constexpr int kChatLook = 50;  // milliseconds
/// After so many looks at a job that nobody has begun it is said where to look.
constexpr int kLooksPatient = 60;

/// "" for anything but a text.
std::string_view text_at(json::object const& object, std::string_view key) {
  json::value const* const value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string_view(value->get_string()) : "";
}

Result<std::string> agent_of(Globals const& globals, ChatOptions const& options) {
  if (!options.agent.empty()) return options.agent;
  TRY_ASSIGN(config::Config const config, config::load(globals.config_file()));
  if (config.agents.size() == 1) return config.agents.front().name;
  std::vector<std::string> names;
  for (config::Agent const& one : config.agents) names.push_back(one.name);
  return fail(ErrorCode::UsageInvalid,
              names.empty()
                  ? fmt::format("{} names no agent", globals.config_file())
                  : fmt::format("name one of the agents with --agent: {}", fmt::join(names, ", ")));
}

/// What an agent said: a text, the text of an agent without code, or JSON.
std::string shown(json::value const& output) {
  if (output.is_string()) return std::string(output.get_string());
  if (auto const* const object = output.if_object()) {
    std::string_view const text = text_at(*object, "text");
    if (!text.empty()) return std::string(text);
  }
  return json::serialize(output);
}

/// One message, from its submission to the answer.
class Turn {
 public:
  Turn(ControlClient const& client, std::string id)
      : client_(client), id_(std::move(id)), paint_(paint_for(stdout)) {}

  Result<int> follow() {
    while (true) {
      TRY_ASSIGN(json::value const page,
                 client_.call("GET", fmt::format("/v1/jobs/{}/events?after={}", id_, seen_)));
      for (json::value const& event : page.at("events").as_array()) {
        TRY(show(event.as_object()));
        seen_ = event.at("sequence").to_number<std::uint64_t>();
        if (text_at(event.as_object(), "type") == "run.closed") return end();
      }
      if (is_stuck_) return end();
      if (!page.at("events").as_array().empty()) continue;
      if (!is_begun_ && ++looks_ == kLooksPatient)
        fmt::print(stderr,
                   "  nobody has begun it yet: `aether status` shows whether its agent runs\n");
      (void)::poll(nullptr, 0, kChatLook);
    }
  }

 private:
  Status show(json::object const& event) {
    std::string_view const type = text_at(event, "type");
    json::object const body =
        event.at("body").is_object() ? event.at("body").get_object() : json::object();
    std::string_view const path = text_at(body, "path");
    is_begun_ = is_begun_ || type != "run.opened";
    if (type == "effect.intended") {
      fmt::print("{}  · {}{}\n", paint_.dim, path, paint_.reset);
    } else if (type == "step.closed" && text_at(body, "outcome") == "failed") {
      fmt::print("{}  ✗ {}: {}{}\n", paint_.red, path, text_at(body, "error"), paint_.reset);
    } else if (type == "run.controlled" && text_at(body, "control") == "stuck") {
      is_stuck_ = true;
    } else if (type == "wait.opened" && text_at(body, "kind") == "human") {
      return ask(body);
    } else if (type == "wait.opened") {
      fmt::print("{}  … waits for a {} {}{}\n", paint_.dim, text_at(body, "kind"),
                 text_at(body, "name"), paint_.reset);
    }
    std::fflush(stdout);
    return {};
  }

  /// Nobody to ask: another terminal may answer.
  Status ask(json::object const& wait) {
    bool const is_outcome = !text_at(wait, "effect").empty();
    fmt::print("{}  ? {}{}", paint_.yellow, text_at(wait, "name"), paint_.reset);
    if (is_outcome || ::isatty(STDIN_FILENO) == 0) {
      fmt::print("\n    {}\n", is_outcome ? fmt::format("aether jobs resolve {} --happened, "
                                                        "--not-happened or --abandon",
                                                        id_)
                                          : fmt::format("aether jobs approve {}", id_));
      std::fflush(stdout);
      return {};
    }
    fmt::print(" [y/n] ");
    std::fflush(stdout);
    std::string line;
    std::getline(std::cin, line);
    json::object body{{"decision", line.starts_with('y') ? "approve" : "reject"}};
    body["step"] = text_at(wait, "path");
    TRY(client_.call("POST", fmt::format("/v1/jobs/{}/approvals", id_), json::serialize(body)));
    return {};
  }

  Result<int> end() {
    TRY_ASSIGN(json::value const job, client_.call("GET", "/v1/jobs/" + id_));
    std::string_view const status = text_at(job.as_object(), "status");
    if (status == "completed") {
      fmt::print("{}\n", shown(job.at("output")));
      return kDone;
    }
    fmt::print(stderr, "{} {}: {}\n", id_, status, text_at(job.as_object(), "error"));
    return kFailed;
  }

  ControlClient const& client_;
  std::string id_;
  Paint paint_;
  std::uint64_t seen_ = 0;
  int looks_ = 0;
  bool is_begun_ = false;
  bool is_stuck_ = false;
};

Result<int> say(ControlClient const& client, std::string const& agent, std::string const& text) {
  json::object const body{{"agent", agent}, {"input", text}};
  TRY_ASSIGN(json::value const made, client.call("POST", "/v1/jobs", json::serialize(body)));
  Turn turn(client, std::string(text_at(made.as_object(), "id")));
  return turn.follow();
}

}  // namespace

Result<int> chat(Globals const& globals, ChatOptions const& options) {
  TRY_ASSIGN(std::string const agent, agent_of(globals, options));
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  if (!options.message.empty())
    return say(client, agent, fmt::format("{}", fmt::join(options.message, " ")));
  bool const is_typed = ::isatty(STDIN_FILENO) != 0;
  int result = kDone;
  std::string line;
  while (true) {
    if (is_typed) fmt::print("{}> ", agent);
    std::fflush(stdout);
    if (!std::getline(std::cin, line)) return result;
    if (line.empty()) continue;
    auto answered = say(client, agent, line);
    if (!answered && !is_typed) return answered;
    if (!answered) fmt::print(stderr, "{}\n", answered.error().message());
    result = answered.value_or(kFailed);
  }
}

}  // namespace aether::cli
