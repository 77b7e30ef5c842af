// SPDX-License-Identifier: Apache-2.0
// jobs ...: over the API.
#include <cstdio>
#include <map>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/json_text.h"
#include "cli/control_client.h"
#include "cli/job_commands.h"
#include "cli/job_json.h"
#include "cli/terminal.h"
#include "http/url.h"

namespace aether::cli {
namespace {

namespace json = boost::json;

std::string job_path(std::string const& id, std::string_view rest = {}) {
  return fmt::format("/v1/jobs/{}{}", http::percent_encode(id), rest);
}

std::string_view word_of(json::object const& object, std::string_view key) {
  json::value const* const value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string_view(value->as_string()) : "";
}

void print_json(json::value const& value) {
  fmt::print("{}\n", api::json_text(value));
}

std::string_view colour_of(Paint const& paint, std::string_view status) {
  if (status == "completed") return paint.green;
  if (status == "failed" || status == "stuck") return paint.red;
  return status == "parked" || status == "paused" || status == "retrying" ? paint.yellow : "";
}

/// What the answer to a change says: {id, status}.
int print_change(Globals const& globals, json::value const& answer) {
  if (globals.output == Output::Json) {
    print_json(answer);
  } else {
    json::object const& object = answer.as_object();
    fmt::print("{} {}\n", word_of(object, "id"), word_of(object, "status"));
  }
  return kDone;
}

Result<int> change(Globals const& globals, std::string const& target, json::object const& body,
                   std::string const& key = {}) {
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  http::Headers headers;
  if (!key.empty()) headers.set("Idempotency-Key", key);
  TRY_ASSIGN(json::value const answer,
             client.call("POST", target, json::serialize(body), kAnswerLimit, headers));
  return print_change(globals, answer);
}

void print_waits(json::object const& job) {
  for (json::value const& one : job.at("waits").as_array()) {
    json::object const& wait = one.as_object();
    std::string_view const kind = word_of(wait, "kind");
    std::string_view const effect = word_of(wait, "effect");
    fmt::print("  waits for {} at {}", kind, word_of(wait, "path"));
    if (!word_of(wait, "name").empty()) fmt::print(" ({})", word_of(wait, "name"));
    if (!word_of(wait, "deadline").empty()) fmt::print(", until {}", word_of(wait, "deadline"));
    if (!effect.empty()) {
      fmt::print(
          "\n    nobody knows whether the call {} happened: aether jobs resolve {} "
          "--happened | --not-happened | --abandon",
          effect, word_of(job, "id"));
    }
    fmt::print("\n");
  }
}

std::string_view outcome_of(json::object const& step) {
  return step.contains("skipped") ? "skipped" : word_of(step, "outcome");
}

/// The signs of `trace`.
std::string_view sign_of(json::object const& step) {
  if (step.at("open").as_bool()) return "…";
  std::string_view const outcome = outcome_of(step);
  if (outcome == "skipped") return "–";
  if (outcome == "retryable") return "↻";
  return outcome == "failed" ? "✗" : "✓";
}

void print_job(json::object const& job) {
  Paint const paint = paint_for(stdout);
  std::string_view const status = word_of(job, "status");
  fmt::print("{} {}{}{}\n", word_of(job, "id"), colour_of(paint, status), status, paint.reset);
  fmt::print("  name: {}  namespace: {}  queue: {}  priority: {}\n", word_of(job, "name"),
             word_of(job, "namespace"), word_of(job, "queue"), json::serialize(job.at("priority")));
  fmt::print("  opened: {}  updated: {}\n", word_of(job, "opened"), word_of(job, "updated"));
  if (!word_of(job, "error").empty()) fmt::print("  error: {}\n", word_of(job, "error"));
  print_waits(job);
  for (json::value const& one : job.at("steps").as_array()) {
    json::object const& step = one.as_object();
    bool const open = step.at("open").as_bool();
    fmt::print("  {} {:<32} {:<10} {}\n", sign_of(step), word_of(step, "path"),
               word_of(step, "kind"), open ? "open" : outcome_of(step));
  }
  if (!job.at("output").is_null()) fmt::print("  output: {}\n", api::json_text(job.at("output")));
}

/// Follows the job to its end; prints it.
Result<int> wait_for_job(Globals const& globals, ControlClient const& client,
                         std::string const& id) {
  Status const followed =
      client.follow(job_path(id, "/events?follow=true"), [](std::string_view) {});
  if (!followed) {
    return fail(
        ErrorCode::Unreachable,
        fmt::format("Aether went away while job {} was waited for ({}); the job is kept and "
                    "goes on when Aether runs again: aether jobs show {}",
                    id, followed.error().message(), id));
  }
  TRY_ASSIGN(json::value const job, client.call("GET", job_path(id)));
  if (globals.output == Output::Json) {
    print_json(job);
  } else {
    print_job(job.as_object());
  }
  return word_of(job.as_object(), "status") == "completed" ? kDone : kFailed;
}

/// A file may hold a graph alone, or the whole body.
Result<json::object> body_of(SubmitOptions const& options) {
  json::object body;
  if (!options.file.empty()) {
    TRY_ASSIGN(json::value document, read_document(options.file));
    bool const is_graph =
        document.is_array() || (document.is_object() && document.as_object().contains("nodes"));
    if (is_graph) {
      body["graph"] = std::move(document);
    } else if (document.is_object()) {
      body = std::move(document.as_object());
    } else {
      return fail(ErrorCode::UsageInvalid,
                  fmt::format("{} holds neither a graph nor a job", options.file));
    }
  }
  auto const set = [&body](std::string_view key, std::string const& value) {
    if (!value.empty()) body[key] = value;
  };
  set("agent", options.agent);
  set("goal", options.goal);
  set("name", options.name);
  set("namespace", options.space);
  set("queue", options.queue);
  set("deadline", options.deadline);
  if (!options.input.empty()) body["input"] = json_or_text(options.input);
  if (options.priority) body["priority"] = *options.priority;
  return body;
}

}  // namespace

Result<int> jobs_list(Globals const& globals, JobsListOptions const& options) {
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  std::string target = fmt::format("/v1/jobs?limit={}", options.limit);
  auto const add = [&target](std::string_view key, std::string const& value) {
    if (!value.empty()) target += fmt::format("&{}={}", key, http::percent_encode(value));
  };
  add("status", options.status);
  add("namespace", options.space);
  add("after", options.after);
  TRY_ASSIGN(json::value const answer, client.call("GET", target));
  if (globals.output == Output::Json) {
    print_json(answer);
    return kDone;
  }
  Paint const paint = paint_for(stdout);
  fmt::print("{:<36} {:<10} {:<12} {:<12} {:<24} {}\n", "ID", "STATUS", "NAMESPACE", "QUEUE",
             "OPENED", "NAME");
  for (json::value const& one : answer.at("jobs").as_array()) {
    json::object const& job = one.as_object();
    std::string_view const status = word_of(job, "status");
    fmt::print("{:<36} {}{:<10}{} {:<12} {:<12} {:<24} {}{}{}\n", word_of(job, "id"),
               colour_of(paint, status), status, paint.reset, word_of(job, "namespace"),
               word_of(job, "queue"), word_of(job, "opened"), word_of(job, "name"),
               word_of(job, "detail").empty() ? "" : ": ", word_of(job, "detail"));
  }
  std::string_view const next = word_of(answer.as_object(), "next");
  if (!next.empty()) fmt::print(stderr, "there may be older ones: --after {}\n", next);
  return kDone;
}

Result<int> jobs_ids(Globals const& globals) {
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  TRY_ASSIGN(json::value const answer, client.call("GET", "/v1/jobs?limit=50"));
  for (json::value const& one : answer.at("jobs").as_array())
    fmt::print("{}\n", word_of(one.as_object(), "id"));
  return kDone;
}

Result<int> jobs_show(Globals const& globals, std::string const& id) {
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  TRY_ASSIGN(json::value const job, client.call("GET", job_path(id)));
  if (globals.output == Output::Json) {
    print_json(job);
  } else {
    print_job(job.as_object());
  }
  return kDone;
}

Result<int> jobs_submit(Globals const& globals, SubmitOptions const& options) {
  TRY_ASSIGN(json::object const body, body_of(options));
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  http::Headers headers;
  if (!options.key.empty()) headers.set("Idempotency-Key", options.key);
  TRY_ASSIGN(json::value const answer,
             client.call("POST", "/v1/jobs", json::serialize(body), kAnswerLimit, headers));
  if (!options.wait) return print_change(globals, answer);
  return wait_for_job(globals, client, std::string(word_of(answer.as_object(), "id")));
}

Result<int> jobs_control(Globals const& globals, std::string const& action,
                         ControlOptions const& options) {
  json::object const body{{"action", action}, {"reason", options.reason}};
  return change(globals, job_path(options.id, "/control"), body);
}

Result<int> jobs_signal(Globals const& globals, SignalOptions const& options) {
  json::object body{{"name", options.name}};
  if (!options.payload.empty()) body["payload"] = json_or_text(options.payload);
  return change(globals, job_path(options.id, "/signals"), body, options.key);
}

Result<int> jobs_approve(Globals const& globals, std::string const& decision,
                         ApprovalOptions const& options) {
  json::object body{{"decision", decision}};
  if (!options.step.empty()) body["step"] = options.step;
  if (!options.reason.empty()) body["reason"] = options.reason;
  if (!options.form.empty()) body["form"] = json_or_text(options.form);
  return change(globals, job_path(options.id, "/approvals"), body);
}

Result<int> jobs_resolve(Globals const& globals, ResolveOptions const& options) {
  json::object body{{"outcome", options.outcome}};
  if (!options.effect.empty()) body["effect"] = options.effect;
  if (!options.result.empty()) body["result"] = json_or_text(options.result);
  return change(globals, job_path(options.id, "/resolve"), body);
}

Result<int> jobs_fork(Globals const& globals, ForkOptions const& options) {
  json::object body{{"step", options.step}};
  if (!options.input.empty()) body["input"] = json_or_text(options.input);
  if (!options.graph.empty()) {
    TRY_ASSIGN(body["graph"], read_document(options.graph));
  }
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  TRY_ASSIGN(json::value const answer,
             client.call("POST", job_path(options.id, "/fork"), json::serialize(body)));
  if (globals.output == Output::Json) {
    print_json(answer);
  } else {
    fmt::print("{}\n", word_of(answer.as_object(), "id"));
  }
  return kDone;
}

Result<int> jobs_erase(Globals const& globals, ControlOptions const& options) {
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  json::object const body{{"reason", options.reason}};
  TRY_ASSIGN(json::value const answer,
             client.call("POST", job_path(options.id, "/erase"), json::serialize(body)));
  if (globals.output == Output::Json) {
    print_json(answer);
    return kDone;
  }
  auto const count = [&answer](std::string_view key) { return answer.at(key).as_int64(); };
  fmt::print("{}: {} values erased, {} were gone before\n", options.id, count("erased"),
             count("gone"));
  if (count("erased") + count("gone") == 0)
    fmt::print(
        "  Values up to 4 KiB stand in the events, unless they are recorded with "
        "store: {{erasable: all}}\n");
  return kDone;
}

}  // namespace aether::cli
