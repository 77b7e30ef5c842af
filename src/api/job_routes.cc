// SPDX-License-Identifier: Apache-2.0
#include "api/job_routes.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/job_json.h"
#include "api/job_request.h"
#include "api/job_stream.h"
#include "api/jobs_plane.h"
#include "api/json_text.h"
#include "base/json.h"
#include "jobs/json_form.h"

namespace aether::api {
namespace {

namespace json = boost::json;
using Answer = std::optional<http::Response>;

constexpr std::array kJobRoutes{
    RouteInfo{"POST", "/v1/jobs", "Submit a job", Right::Submit},
    RouteInfo{"GET", "/v1/jobs", "Jobs, newest first", Right::ReadJobs},
    RouteInfo{"GET", "/v1/jobs/{id}", "One job, with its output", Right::ReadJobs},
    RouteInfo{"GET", "/v1/jobs/{id}/events", "What happened to a job, as JSON or by SSE",
              Right::ReadJobs},
    RouteInfo{"GET", "/v1/jobs/{id}/trace", "A job as a tree of spans", Right::ReadJobs},
    RouteInfo{"GET", "/v1/jobs/{id}/replay", "A job decided again, without any call",
              Right::ReadJobs},
    RouteInfo{"GET", "/v1/jobs/{id}/evidence", "A job as a file that proves itself", Right::Audit},
    RouteInfo{"POST", "/v1/jobs/{id}/signals", "Send a signal to a job", Right::Submit},
    RouteInfo{"POST", "/v1/jobs/{id}/approvals", "Approve or reject", Right::Approve},
    RouteInfo{"POST", "/v1/jobs/{id}/resolve", "Say what became of a call", Right::Operate},
    RouteInfo{"POST", "/v1/jobs/{id}/control", "Pause, resume or cancel a job", Right::Operate},
    RouteInfo{"POST", "/v1/jobs/{id}/fork", "A new job that shares what came before a step",
              Right::Operate},
    RouteInfo{"POST", "/v1/jobs/{id}/erase", "Take the values of a job away, not its proofs",
              Right::Operate},
    RouteInfo{"GET", "/v1/audit", "Who did or was refused what", Right::Audit},
    RouteInfo{"GET", "/v1/checkpoint", "What the journal has now, signed, to be kept elsewhere",
              Right::Audit},
};

constexpr std::size_t kListDefault = 100;
constexpr std::size_t kListMax = 1000;
/// Proxies cut what is silent for half a minute.
constexpr std::uint64_t kWaitSecondsMax = 25;

http::Response answer_with(json::value const& body, int status = 200) {
  return http::json_response(status, json_text(body));
}

Error invalid(std::string message) {
  return Error(ErrorCode::RequestInvalid, std::move(message));
}

/// One request about jobs, with who asks.
struct Asked {
  JobsPlane* jobs = nullptr;
  http::Request request;
  Decision decision;
  WallTime now;

  [[nodiscard]] jobs::Asker asker() const { return {decision.actor}; }
  [[nodiscard]] bool may_see(std::string_view space) const {
    auto const& spaces = decision.namespaces;
    return spaces.empty() || std::ranges::find(spaces, space) != spaces.end();
  }
  void check_space(std::string_view space) const {
    if (may_see(space)) return;
    jobs->note(decision.actor, {.action = request.method + " " + request.path,
                                .target = std::string(space),
                                .decision = "refused",
                                .detail = "the token is not for this namespace"});
    throw Error(ErrorCode::Forbidden,
                space.empty()
                    ? fmt::format("{} is for some namespaces only, and this tells of all of them",
                                  decision.who)
                    : fmt::format("{} is not for the namespace {}", decision.who, space));
  }
  /// An empty body is an empty object.
  [[nodiscard]] json::object body() const {
    if (request.body.empty()) return {};
    json::value value = or_throw(parse_json(request.body, "the body"));
    if (!value.is_object()) throw invalid("the body is not a JSON object");
    or_throw(check_numbers(value));
    return std::move(value.as_object());
  }
};

std::string text_of(json::object const& body, std::string_view key) {
  json::value const* const value = body.if_contains(key);
  if (value == nullptr || value->is_null()) return {};
  if (!value->is_string()) throw invalid(fmt::format("{} is not a text", key));
  return std::string(value->as_string());
}

json::value value_of(json::object const& body, std::string_view key) {
  json::value const* const value = body.if_contains(key);
  return value == nullptr ? json::value() : *value;
}

std::uint64_t number_of(std::string const* text, std::uint64_t otherwise, std::string_view name) {
  if (text == nullptr || text->empty()) return otherwise;
  std::uint64_t number = 0;
  auto const [end, failed] = std::from_chars(text->data(), text->data() + text->size(), number);
  if (failed == std::errc{} && end == text->data() + text->size()) return number;
  throw invalid(fmt::format("{} is not a number: {}", name, *text));
}

std::size_t count_of(http::Request const& request) {
  std::uint64_t const count = number_of(request.query_value("limit"), kListDefault, "limit");
  return std::clamp<std::size_t>(count, 1, kListMax);
}

std::string key_of(http::Request const& request) {
  std::string const* const key = request.headers.find("Idempotency-Key");
  if (key == nullptr) return {};
  or_throw(check_key(*key));
  return *key;
}

/// {id, status}: what everything that changes a job answers.
json::object changed(jobs::RunId const& run, jobs::RunStatus status) {
  return {{"id", run.text}, {"status", jobs::text_of(status)}};
}

async::Task<http::Response> submit(Asked asked) {
  json::object const body = asked.body();
  FindAgent const find = [&asked](std::string_view name) { return asked.jobs->agent(name); };
  jobs::Submission submission = or_throw(read_submission(body, find, asked.now));
  asked.check_space(submission.spec.space);
  submission.idempotency_key = key_of(asked.request);
  jobs::Asker const asker = asked.asker();
  async::Task<jobs::Submitted> submitting = asked.jobs->submit(asker, std::move(submission));
  jobs::Submitted const submitted = co_await std::move(submitting);
  http::Response response =
      answer_with(changed(submitted.run, submitted.status), submitted.existed ? 200 : 201);
  response.headers.set("Location", "/v1/jobs/" + submitted.run.text);
  co_return response;
}

async::Task<http::Response> list(Asked asked) {
  jobs::ListQuery query{.count = count_of(asked.request)};
  if (auto const* space = asked.request.query_value("namespace")) query.space = *space;
  if (auto const* status = asked.request.query_value("status"))
    query.status = or_throw(jobs::parse_word<jobs::RunStatus>(*status));
  if (auto const* after = asked.request.query_value("after")) query.after = *after;
  if (!query.space.empty()) asked.check_space(query.space);
  if (query.space.empty() && asked.decision.namespaces.size() == 1)
    query.space = asked.decision.namespaces.front();
  std::size_t const count = query.count;
  async::Task<std::vector<jobs::RunSummary>> listing = asked.jobs->list(std::move(query));
  std::vector<jobs::RunSummary> const runs = co_await std::move(listing);
  json::array all;
  for (jobs::RunSummary const& run : runs) {
    if (asked.may_see(run.space)) all.push_back(run_summary_json(run));
  }
  json::object answer{{"jobs", std::move(all)}};
  // A page that is not full is the last one.
  answer["next"] = runs.size() < count ? json::value() : json::value(runs.back().run.text);
  co_return answer_with(answer);
}

/// The run, if the caller may see it.
async::Task<jobs::RunState> find_run(Asked const* asked, jobs::RunId run) {
  async::Task<jobs::RunState> showing = asked->jobs->show(std::move(run));
  jobs::RunState state = co_await std::move(showing);
  asked->check_space(state.opening.spec.space);
  co_return state;
}

bool wants_stream(http::Request const& request) {
  std::string const* const follow = request.query_value("follow");
  if (follow != nullptr) return *follow != "false" && *follow != "0";
  return request.headers.get("Accept").contains("text/event-stream");
}

async::Task<http::Response> events(Asked asked, jobs::RunId run) {
  std::uint64_t after = number_of(asked.request.query_value("after"), 0, "after");
  if (wants_stream(asked.request)) {
    std::string const seen(asked.request.headers.get("Last-Event-ID"));
    after = number_of(&seen, after, "Last-Event-ID");
    co_return run_event_stream(*asked.jobs, std::move(run), after);
  }
  std::size_t const count = count_of(asked.request);
  async::Task<std::vector<journal::Event>> reading = asked.jobs->events(run, after, count);
  std::vector<journal::Event> const found = co_await std::move(reading);
  json::array all;
  for (journal::Event const& event : found) all.push_back(run_event_json(event));
  json::object answer{{"events", std::move(all)}};
  answer["next"] = found.size() < count ? json::value() : json::value(found.back().sequence.value);
  co_return answer_with(answer);
}

async::Task<http::Response> trace(Asked asked, jobs::RunId run) {
  std::string const* const asked_for = asked.request.query_value("format");
  std::string const form = asked_for == nullptr ? "json" : *asked_for;
  if (form != "json" && form != "text" && form != "otlp")
    throw invalid(fmt::format("format is not one of json, text, otlp: {}", form));
  TraceForm const wanted = form == "json"   ? TraceForm::Json
                           : form == "otlp" ? TraceForm::Otlp
                                            : TraceForm::Tree;
  async::Task<std::string> tracing = asked.jobs->trace(std::move(run), wanted);
  std::string text = co_await std::move(tracing);
  co_return wanted == TraceForm::Tree ? http::text_response(200, std::move(text))
                                      : http::json_response(200, std::move(text));
}

async::Task<http::Response> replay(Asked asked, jobs::RunId run) {
  async::Task<json::value> replaying = asked.jobs->replay(std::move(run));
  json::value const replayed = co_await std::move(replaying);
  co_return answer_with(replayed);
}

async::Task<http::Response> evidence(Asked asked, jobs::RunId run) {
  async::Task<std::string> exporting = asked.jobs->evidence(std::move(run));
  std::string text = co_await std::move(exporting);
  co_return http::text_response(200, std::move(text));
}

async::Task<http::Response> checkpoint(Asked asked) {
  std::string const* const old = asked.request.query_value("old");
  std::optional<std::uint64_t> size;
  if (old != nullptr) size = number_of(old, 0, "old");
  async::Task<std::string> signing = asked.jobs->checkpoint(size);
  std::string text = co_await std::move(signing);
  co_return http::text_response(200, std::move(text));
}

async::Task<http::Response> signal(Asked asked, jobs::RunId run) {
  json::object const body = asked.body();
  jobs::SignalReceived signal{.name = text_of(body, "name"),
                              .idempotency_key = key_of(asked.request),
                              .payload = value_of(body, "payload")};
  if (signal.name.empty()) throw invalid("the signal has no name");
  jobs::Asker const asker = asked.asker();
  async::Task<jobs::RunStatus> sending = asked.jobs->signal(asker, run, std::move(signal));
  jobs::RunStatus const status = co_await std::move(sending);
  co_return answer_with(changed(run, status));
}

async::Task<http::Response> approve(Asked asked, jobs::RunState run) {
  json::object const body = asked.body();
  std::string const decision = text_of(body, "decision");
  if (decision != "approve" && decision != "reject")
    throw invalid("decision is neither approve nor reject");
  bool const yes = decision == "approve";
  std::string path = text_of(body, "step");
  jobs::WaitState const& wait = or_throw(find_approval(run, path)).get();
  json::value payload = value_of(body, "form");
  if (yes) {
    payload = jobs::with_defaults(wait.opening.schema, std::move(payload));
    or_throw(check_form(wait.opening.schema, payload));
  }
  if (std::string const reason = text_of(body, "reason"); !reason.empty() && payload.is_null())
    payload = json::object{{"reason", reason}};
  jobs::Asker const asker = asked.asker();
  jobs::WaitEnd const end = yes ? jobs::WaitEnd::Approved : jobs::WaitEnd::Rejected;
  async::Task<jobs::RunStatus> answering =
      asked.jobs->answer(asker, run.id, path, end, std::move(payload));
  jobs::RunStatus const status = co_await std::move(answering);
  co_return answer_with(changed(run.id, status));
}

async::Task<http::Response> resolve(Asked asked, jobs::RunId run) {
  json::object const body = asked.body();
  std::string const outcome = text_of(body, "outcome");
  jobs::Resolution resolution = jobs::Resolution::Abandon;
  if (outcome == "happened") {
    resolution = jobs::Resolution::Happened;
  } else if (outcome == "not_happened") {
    resolution = jobs::Resolution::NotHappened;
  } else if (outcome != "abandon") {
    throw invalid("outcome is not one of happened, not_happened, abandon");
  }
  std::string effect = text_of(body, "effect");
  json::value result = value_of(body, "result");
  jobs::Asker const asker = asked.asker();
  async::Task<jobs::RunStatus> resolving =
      asked.jobs->resolve(asker, run, std::move(effect), resolution, std::move(result));
  jobs::RunStatus const status = co_await std::move(resolving);
  co_return answer_with(changed(run, status));
}

async::Task<http::Response> control(Asked asked, jobs::RunId run) {
  json::object const body = asked.body();
  std::string const action = text_of(body, "action");
  if (action != "pause" && action != "resume" && action != "cancel")
    throw invalid("action is not one of pause, resume, cancel");
  jobs::Control const wanted = action == "pause"    ? jobs::Control::Pause
                               : action == "resume" ? jobs::Control::Resume
                                                    : jobs::Control::Cancel;
  std::string reason = text_of(body, "reason");
  jobs::Asker const asker = asked.asker();
  async::Task<jobs::RunStatus> controlling =
      asked.jobs->control(asker, run, wanted, std::move(reason));
  jobs::RunStatus const status = co_await std::move(controlling);
  co_return answer_with(changed(run, status));
}

async::Task<http::Response> fork(Asked asked, jobs::RunState run) {
  json::object const body = asked.body();
  std::string step = text_of(body, "step");
  if (step.empty()) throw invalid("name the step before which the new job goes its own way");
  jobs::RunSpec spec = run.opening.spec;
  if (body.contains("input")) spec.input = value_of(body, "input");
  if (body.contains("graph")) spec.graph = value_of(body, "graph");
  jobs::Asker const asker = asked.asker();
  async::Task<jobs::RunId> forking =
      asked.jobs->fork(asker, run.id, std::move(step), std::move(spec));
  jobs::RunId const forked = co_await std::move(forking);
  http::Response response =
      answer_with(json::object{{"id", forked.text}, {"forked_from", run.id.text}}, 201);
  response.headers.set("Location", "/v1/jobs/" + forked.text);
  co_return response;
}

async::Task<http::Response> erase(Asked asked, jobs::RunId run) {
  std::string reason = text_of(asked.body(), "reason");
  async::Task<Erasure> erasing = asked.jobs->erase(asked.asker(), run, std::move(reason));
  Erasure const done = co_await std::move(erasing);
  co_return answer_with(
      json::object{{"id", run.text}, {"erased", done.erased}, {"gone", done.gone}});
}

/// `?wait=SECONDS`: when it has ended, and at the latest then.
async::Task<http::Response> show_run(Asked asked, jobs::RunId run) {
  std::uint64_t const wait = number_of(asked.request.query_value("wait"), 0, "wait");
  AwaitedEnd awaited{.run = run, .watch = {}};
  awaited.most = std::chrono::seconds(std::min(wait, kWaitSecondsMax));
  if (wait > 0) awaited.watch = asked.jobs->watch(run);
  if (wait > 0) awaited.heard = awaited.watch->ends;
  async::Task<jobs::RunState> finding = find_run(&asked, std::move(run));
  jobs::RunState const state = co_await std::move(finding);
  if (wait == 0 || state.closing) co_return answer_with(run_json(state));
  co_return run_end_response(*asked.jobs, std::move(awaited));
}

async::Task<Answer> answer_of_run(Asked asked, std::string action, std::string id) {
  bool const get = asked.request.method != "POST";
  jobs::RunId const run = or_throw(jobs::parse_run_id(id));
  if (get && action.empty()) co_return co_await show_run(std::move(asked), run);
  async::Task<jobs::RunState> finding = find_run(&asked, run);
  jobs::RunState state = co_await std::move(finding);
  if (get && action == "events") co_return co_await events(std::move(asked), run);
  if (get && action == "trace") co_return co_await trace(std::move(asked), run);
  if (get && action == "replay") co_return co_await replay(std::move(asked), run);
  if (get && action == "evidence") co_return co_await evidence(std::move(asked), run);
  if (get) co_return std::nullopt;
  if (action == "signals") co_return co_await signal(std::move(asked), run);
  if (action == "approvals") co_return co_await approve(std::move(asked), std::move(state));
  if (action == "resolve") co_return co_await resolve(std::move(asked), run);
  if (action == "control") co_return co_await control(std::move(asked), run);
  if (action == "erase") co_return co_await erase(std::move(asked), run);
  if (action == "fork") co_return co_await fork(std::move(asked), std::move(state));
  co_return std::nullopt;
}

}  // namespace

std::span<RouteInfo const> job_routes() {
  return kJobRoutes;
}

async::Task<Answer> answer_of_jobs(ControlPlane* control, http::Request request,
                                   std::vector<std::string> path, Decision decision, WallTime now) {
  JobsPlane* const jobs = control->jobs();
  if (jobs == nullptr) {
    throw Error(ErrorCode::NotFound,
                "this Aether runs no jobs; give its configuration a section jobs: or store:");
  }
  std::string const method = request.method;
  bool const get = method == "GET" || method == "HEAD";
  Asked asked{jobs, std::move(request), std::move(decision), now};
  if (path[1] != "jobs") {
    if (!get || path.size() != 2) co_return std::nullopt;
    // These tell of all namespaces, and of services and functions.
    if (!asked.decision.namespaces.empty()) asked.check_space("");
    if (path[1] == "checkpoint") co_return co_await checkpoint(std::move(asked));
    co_return co_await events(std::move(asked), jobs::RunId{"audit"});
  }
  if (path.size() == 2 && get) co_return co_await list(std::move(asked));
  if (path.size() == 2 && method == "POST") co_return co_await submit(std::move(asked));
  bool const of_run = path.size() == 3 || path.size() == 4;
  if (!of_run || (!get && method != "POST")) co_return std::nullopt;
  std::string const action = path.size() == 4 ? path[3] : "";
  co_return co_await answer_of_run(std::move(asked), action, path[2]);
}

}  // namespace aether::api
