// SPDX-License-Identifier: Apache-2.0
#include "api/routes.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/function_json.h"
#include "api/function_routes.h"
#include "api/inspect_json.h"
#include "api/job_json.h"
#include "api/job_routes.h"
#include "api/jobs_plane.h"
#include "api/json_text.h"
#include "api/status_json.h"
#include "api/streams.h"
#include "api/work_routes.h"
#include "base/log.h"

namespace aether::api {
namespace {

namespace json = boost::json;

constexpr std::array kRoutes{
    RouteInfo{"GET", "/health", "Whether everything serves: 200 or 503", Right::Open},
    RouteInfo{"GET", "/metrics", "Prometheus metrics", Right::Open},
    RouteInfo{"GET", "/v1/status", "Aether, its services and functions", Right::Look},
    RouteInfo{"POST", "/v1/reload", "Swap every service to its new revision", Right::Change},
    RouteInfo{"POST", "/v1/stop", "Stop Aether and all services in order", Right::Change},
    RouteInfo{"GET", "/v1/events", "What happens, as server-sent events", Right::Look},
    RouteInfo{"GET", "/v1/services", "All services", Right::Look},
    RouteInfo{"GET", "/v1/services/{name}", "One service", Right::Look},
    RouteInfo{"GET", "/v1/services/{name}/inspect", "One service, and what it was told",
              Right::Look},
    RouteInfo{"POST", "/v1/services/{name}/reload", "Swap one service to its new revision",
              Right::Change},
    RouteInfo{"POST", "/v1/services/{name}/rollback", "Back to the revision before", Right::Change},
    RouteInfo{"GET", "/v1/services/{name}/swaps/{swap}", "The verdict of a swap, when it is out",
              Right::Look},
    RouteInfo{"GET", "/v1/services/{name}/logs", "Lines of output; follow=true goes on",
              Right::ReadLogs},
    RouteInfo{"GET", "/v1/functions", "All functions", Right::Look},
    RouteInfo{"POST", "/v1/functions", "Deploy the functions of a file", Right::Change},
    RouteInfo{"GET", "/v1/functions/{name}", "One function", Right::Look},
    RouteInfo{"DELETE", "/v1/functions/{name}", "End a function", Right::Change},
    RouteInfo{"GET", "/v1/functions/{name}/inspect", "One function, and what it was told",
              Right::Look},
    RouteInfo{"POST", "/v1/functions/{name}/reload", "A new revision of what is known of it",
              Right::Change},
    RouteInfo{"POST", "/v1/functions/{name}/rollback", "Back to the revision before",
              Right::Change},
    RouteInfo{"GET", "/v1/functions/{name}/logs", "Lines of output; follow=true goes on",
              Right::ReadLogs},
};

/// Lines of a log that are given when the caller does not say how many.
constexpr std::size_t kTailDefault = 100;

std::vector<std::string> segments(std::string_view path) {
  std::vector<std::string> parts;
  while (!path.empty()) {
    path.remove_prefix(1);
    std::size_t const end = std::min(path.find('/'), path.size());
    parts.emplace_back(path.substr(0, end));
    path.remove_prefix(end);
  }
  return parts;
}

bool is_true(std::string const* value) {
  return value != nullptr && (*value == "true" || *value == "1" || value->empty());
}

template <class Number>
Number number_or(std::string const* text, Number otherwise, std::string_view name) {
  if (text == nullptr) return otherwise;
  Number number{};
  auto const [end, failed] = std::from_chars(text->data(), text->data() + text->size(), number);
  if (failed != std::errc{} || end != text->data() + text->size()) {
    throw Error(ErrorCode::RequestInvalid, fmt::format("{} is not a number: {}", name, *text));
  }
  return number;
}

http::Response problem(Error const& error) {
  int const status = http_status(error.code());
  http::Response response = http::json_response(status, json_text(problem_json(error, status)));
  response.headers.set("Content-Type", "application/problem+json");
  return response;
}

/// Whether the segments of a path are those of a route; {name} stands for any.
bool matches(std::string_view route, std::vector<std::string> const& path) {
  std::vector<std::string> const wanted = segments(route);
  return std::ranges::equal(wanted, path, [](std::string const& want, std::string const& have) {
    return want.starts_with('{') || want == have;
  });
}

/// The route of a request; null if there is none. HEAD is asked as GET is.
RouteInfo const* route_of(http::Request const& request) {
  std::string_view const asked = request.method;
  std::string_view const method = asked == "HEAD" ? "GET" : asked;
  std::vector<std::string> const path = segments(request.path);
  std::vector<RouteInfo> const& all = routes();
  auto const found = std::ranges::find_if(all, [&](RouteInfo const& route) {
    return route.method == method && matches(route.path, path);
  });
  return found == all.end() ? nullptr : &*found;
}

/// 405 with what is allowed (RFC 9110, 15.5.6) if the path is known, else 404.
http::Response no_route(http::Request const& request) {
  std::string allowed;
  for (RouteInfo const& route : routes()) {
    if (!matches(route.path, segments(request.path))) continue;
    allowed += fmt::format("{}{}", allowed.empty() ? "" : ", ", route.method);
  }
  Error const error(ErrorCode::NotFound,
                    fmt::format("no route {} {}", request.method, request.path));
  if (allowed.empty()) return problem(error);
  http::Response response = http::json_response(405, json_text(problem_json(error, 405)));
  response.headers.set("Content-Type", "application/problem+json");
  response.headers.set("Allow", std::move(allowed));
  return response;
}

http::Response ok(json::value const& body, int status = 200) {
  return http::json_response(status, json_text(body));
}

/// The body of a reload: absent, or {reason, force}.
ReloadCall reload_call(http::Request const& request, std::optional<std::string> service) {
  ReloadCall call{.service = std::move(service)};
  if (request.body.empty()) return call;
  boost::system::error_code ec;
  json::value const body = json::parse(request.body, ec);
  if (ec || !body.is_object()) {
    throw Error(ErrorCode::RequestInvalid,
                R"(the body is not a JSON object like {"reason": "...", "force": false})");
  }
  json::object const& fields = body.as_object();
  if (auto const* reason = fields.if_contains("reason"); reason && reason->is_string()) {
    call.reason = reason->as_string();
  }
  if (auto const* force = fields.if_contains("force"); force && force->is_bool()) {
    call.force = force->as_bool();
  }
  if (auto const* check = fields.if_contains("check_state"); check && check->is_bool()) {
    call.check_state = check->as_bool();
  }
  return call;
}

}  // namespace

std::vector<RouteInfo> const& routes() {
  static std::vector<RouteInfo> const all = [] {
    std::vector<RouteInfo> made(kRoutes.begin(), kRoutes.end());
    made.insert(made.end(), job_routes().begin(), job_routes().end());
    made.insert(made.end(), work_routes().begin(), work_routes().end());
    return made;
  }();
  return all;
}

Routes::Routes(ControlPlane& control, Metrics& metrics, EventFeed& feed, Clock const& clock)
    : control_(control), metrics_(metrics), feed_(feed), clock_(clock), refusals_(clock) {}

void Routes::set_tokens(std::vector<KnownToken> tokens) {
  tokens_ = std::move(tokens);
}

async::Task<http::Response> Routes::answer(http::Request request) {
  RouteInfo const* const route = route_of(request);
  // What does not exist is told to those only who may look around.
  Right const right = route == nullptr ? Right::Look : route->right;
  http::Response response;
  Decision const decision = decide(request, right, tokens_, ::geteuid());
  if (decision.outcome == Outcome::Allowed) {
    if (right == Right::Change || right == Right::Operate) {
      log::info("api: {} asks for {} {}", decision.who, request.method, request.path);
    }
    response = co_await answer_allowed(std::move(request), decision);
  } else {
    response = refuse(request, decision);
  }
  metrics_.answered(route == nullptr ? "none" : route->path, response.status);
  co_return response;
}

http::Response Routes::refuse(http::Request const& request, Decision const& decision) {
  bool const unknown = decision.outcome == Outcome::Unauthorized;
  Error const error(unknown ? ErrorCode::Unauthorized : ErrorCode::Forbidden, decision.why);
  metrics_.refused(info(error.code()).name);
  std::optional<std::uint64_t> const more = refusals_.next();
  if (more) {
    std::string const others = *more == 0 ? "" : fmt::format(" ({} more like it before)", *more);
    log::warn("api: refused {}: {}{}", decision.who, error.describe(), others);
  }
  // Whoever has no token could fill the journal by asking: as much of it as of the log.
  JobsPlane* const jobs = control_.jobs();
  if (jobs != nullptr && (more || decision.actor.starts_with("token:"))) {
    jobs->note(decision.actor.empty() ? request.peer.address : decision.actor,
               {.action = fmt::format("{} {}", request.method, request.path),
                .target = {},
                .decision = "refused",
                .detail = decision.why});
  }
  http::Response response = problem(error);
  if (!decision.challenge.empty()) response.headers.set("WWW-Authenticate", decision.challenge);
  return response;
}

async::Task<http::Response> Routes::answer_allowed(http::Request request, Decision decision) {
  std::optional<Error> fault;
  try {
    co_return co_await dispatch(std::move(request), std::move(decision));
  } catch (Error const& error) {
    fault = error;
  }
  co_return problem(*fault);
}

async::Task<http::Response> Routes::dispatch(http::Request request, Decision decision) {
  std::vector<std::string> const path = segments(request.path);
  bool const get = request.method == "GET" || request.method == "HEAD";
  bool const post = request.method == "POST";
  if (get && request.path == "/health") co_return health();
  if (get && request.path == "/metrics") co_return metrics_page();
  if (get && request.path == "/v1/status") co_return status();
  if (get && request.path == "/v1/services") co_return service_list();
  if (get && request.path == "/v1/events") co_return events(request);
  if (post && request.path == "/v1/stop") co_return stop();
  if (post && request.path == "/v1/reload")
    co_return co_await reload(std::move(request), std::nullopt);
  bool const of_function = path.size() >= 2 && path[0] == "v1" && path[1] == "functions";
  bool const of_service = path.size() >= 3 && path[0] == "v1" && path[1] == "services";
  bool const of_log = path.size() == 4 && path[3] == "logs";
  if ((of_service || of_function) && get && of_log) co_return logs(request, path[2]);
  if (of_service && get && path.size() == 3) co_return service(path[2]);
  if (of_service && get && path.size() == 4 && path[3] == "inspect") co_return inspect(path[2]);
  if (of_service && post && path.size() == 4 && path[3] == "reload")
    co_return co_await reload(std::move(request), path[2]);
  if (of_service && post && path.size() == 4 && path[3] == "rollback") {
    co_return co_await rollback(std::move(request), path[2]);
  }
  if (of_service && get && path.size() == 5 && path[3] == "swaps") {
    std::vector<SwapTicket> tickets{
        {path[2], SwapId{number_or<std::uint64_t>(&path[4], 0, "the swap's number")}}};
    co_return co_await swap_answer(std::move(tickets), true);
  }
  http::Response const otherwise = no_route(request);
  std::string const first = path.size() >= 2 && path[0] == "v1" ? path[1] : "";
  std::optional<http::Response> answer;
  WallTime const now = clock_.wall();
  if (of_function) answer = co_await answer_of_functions(&control_, std::move(request), path);
  if (first == "jobs" || first == "audit" || first == "checkpoint")
    answer = co_await answer_of_jobs(&control_, std::move(request), path, std::move(decision), now);
  else if (first.starts_with("work"))
    answer = co_await answer_of_work(&control_, std::move(request), std::move(decision), now);
  co_return answer ? std::move(*answer) : otherwise;
}

http::Response Routes::health() const {
  json::array problems;
  for (relay::ServiceStatus const& one : control_.services()) {
    if (serves(one)) continue;
    problems.push_back(json::object{
        {"service", one.name}, {"state", one.state}, {"problem", one.problem.value_or("")}});
  }
  for (functions::FunctionStatus const& one : control_.functions()) {
    if (serves(one)) continue;
    problems.push_back(json::object{
        {"function", one.id}, {"state", one.state}, {"problem", one.problem.value_or("")}});
  }
  bool const good = problems.empty();
  json::object body{{"status", good ? "ok" : "unavailable"}};
  if (!good) body["services"] = std::move(problems);
  return ok(body, good ? 200 : 503);
}

http::Response Routes::metrics_page() {
  JobsPlane const* const jobs = control_.jobs();
  JobCounts const counts = jobs == nullptr ? JobCounts() : jobs->counts();
  http::Response response = http::text_response(
      200, metrics_.page(control_.info(), control_.services(), control_.functions(),
                         jobs == nullptr ? nullptr : &counts));
  response.headers.set("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
  return response;
}

http::Response Routes::status() const {
  json::object answer = status_json(control_.info(), control_.services());
  json::array functions;
  for (functions::FunctionStatus const& one : control_.functions())
    functions.push_back(function_json(one));
  answer["functions"] = std::move(functions);
  if (JobsPlane const* const jobs = control_.jobs()) answer["jobs"] = counts_json(jobs->counts());
  return ok(answer);
}

http::Response Routes::service(std::string name) const {
  for (relay::ServiceStatus const& one : control_.services()) {
    if (one.name == name) return ok(service_json(one));
  }
  throw Error(ErrorCode::ServiceUnknown, fmt::format("there is no service {}", name));
}

http::Response Routes::inspect(std::string name) const {
  config::Service const told = or_throw(control_.specification(name));
  for (relay::ServiceStatus const& one : control_.services()) {
    if (one.name != name) continue;
    return ok(
        json::object{{"service", service_json(one)}, {"configuration", configuration_json(told)}});
  }
  throw Error(ErrorCode::ServiceUnknown, fmt::format("there is no service {}", name));
}

http::Response Routes::service_list() const {
  json::array all;
  for (relay::ServiceStatus const& one : control_.services()) all.push_back(service_json(one));
  return ok(json::object{{"services", std::move(all)}});
}

async::Task<http::Response> Routes::reload(http::Request request,
                                           std::optional<std::string> service) {
  bool const wait = is_true(request.query_value("wait"));
  ReloadCall call = reload_call(request, std::move(service));
  std::vector<SwapTicket> tickets = or_throw(control_.reload(std::move(call)));
  co_return co_await swap_answer(std::move(tickets), wait);
}

async::Task<http::Response> Routes::rollback(http::Request request, std::string service) {
  bool const wait = is_true(request.query_value("wait"));
  std::vector<SwapTicket> tickets{
      or_throw(control_.rollback(service, std::string(kRollbackReason)))};
  co_return co_await swap_answer(std::move(tickets), wait);
}

async::Task<http::Response> Routes::swap_answer(std::vector<SwapTicket> tickets, bool wait) {
  json::array swaps;
  for (SwapTicket const& ticket : tickets) {
    if (!wait) {
      swaps.push_back(json::object{{"service", ticket.service}, {"swap", ticket.swap.value}});
      continue;
    }
    relay::SwapReport const report = co_await control_.verdict(ticket);
    swaps.push_back(swap_json(ticket.service, report));
  }
  co_return ok(json::object{{"swaps", std::move(swaps)}}, wait ? 200 : 202);
}

http::Response Routes::logs(http::Request const& request, std::string service) {
  supervise::LogBook* const book = or_throw(control_.log_book(service));
  auto const tail = number_or<std::size_t>(request.query_value("tail"), kTailDefault, "tail");
  http::Response response;
  response.headers.set("Content-Type", "application/x-ndjson");
  std::vector<supervise::LogLine> const lines = book->tail(tail);
  if (!is_true(request.query_value("follow"))) {
    for (supervise::LogLine const& line : lines) response.body += log_text(service, line);
    return response;
  }
  std::uint64_t const from = lines.empty() ? book->next_sequence() : lines.front().sequence;
  response.endless = true;
  response.stream = [book, from](http::BodyWriter& writer) {
    return follow_log(book, from, writer);
  };
  return response;
}

http::Response Routes::events(http::Request const& request) {
  std::string const seen(request.headers.get("Last-Event-ID"));
  std::uint64_t last =
      seen.empty() ? feed_.last_id() : number_or<std::uint64_t>(&seen, 0, "Last-Event-ID");
  // An id of an Aether that ran before this one: what this one had to tell is all new.
  if (last > feed_.last_id()) last = 0;
  http::Response response;
  response.headers.set("Content-Type", "text/event-stream");
  response.headers.set("Cache-Control", "no-cache");
  response.endless = true;
  response.stream = [feed = &feed_, last](http::BodyWriter& writer) {
    return follow_events(feed, last, writer);
  };
  return response;
}

http::Response Routes::stop() {
  control_.request_stop();
  return ok(json::object{{"stopping", true}}, 202);
}

}  // namespace aether::api
