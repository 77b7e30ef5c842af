// SPDX-License-Identifier: Apache-2.0
#include "api/job_routes.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <gtest/gtest.h>

#include "api/fake_control_plane.h"
#include "api/fake_jobs_plane.h"
#include "api/job_request.h"
#include "api/routes.h"
#include "async/task_group.h"
#include "async/testing.h"
#include "async/timers.h"

namespace aether::api {
namespace {

namespace json = boost::json;

/// An Aether with jobs, and tokens of each role named after it; those ending in -blue are for the
/// namespace blue.
struct JobHouse {
  JobHouse() {
    control.plane = &jobs;
    std::vector<KnownToken> tokens;
    for (Role const role :
         {Role::Viewer, Role::Submitter, Role::Approver, Role::Operator, Role::Auditor}) {
      std::string const name(role_name(role));
      tokens.push_back({.name = name, .role = role, .digest = digest_of(name)});
      tokens.push_back({.name = name + "-blue",
                        .role = role,
                        .digest = digest_of(name + "-blue"),
                        .namespaces = {"blue"}});
    }
    routes.set_tokens(std::move(tokens));
  }

  async::Task<http::Response> ask(std::string method, std::string path, std::string body = {},
                                  std::string token = {}, std::string key = {}) {
    http::Request made;
    made.method = std::move(method);
    made.target = path;
    made.path = path.substr(0, path.find('?'));
    made.body = std::move(body);
    made.peer = {.unix_socket = true, .pid = ::getpid(), .uid = ::geteuid()};
    if (!token.empty()) made.headers.set("Authorization", "Bearer " + token);
    if (!key.empty()) made.headers.set("Idempotency-Key", key);
    http::Response response = co_await routes.answer(std::move(made));
    co_return response;
  }

  SystemClock clock;
  testing::FakeJobsPlane jobs;
  testing::FakeControlPlane control{clock};
  EventFeed feed;
  Metrics metrics{feed};
  Routes routes{control, metrics, feed, clock};
};

std::string run_path(std::string const& rest = {}) {
  return "/v1/jobs/" + std::string(testing::kFakeRun) + rest;
}

constexpr char const* kGraph = R"({"graph": {"nodes": []}})";

CORO_TEST(JobRoutes, AreAllAnswered) {
  JobHouse house;
  std::vector<std::array<std::string, 3>> const asked{
      {"POST", "/v1/jobs", kGraph},
      {"GET", "/v1/jobs", ""},
      {"GET", run_path(), ""},
      {"GET", run_path("/events"), ""},
      {"GET", run_path("/trace"), ""},
      {"GET", run_path("/replay"), ""},
      {"GET", run_path("/evidence"), ""},
      {"POST", run_path("/signals"), R"({"name": "go"})"},
      {"POST", run_path("/approvals"), R"({"decision": "approve"})"},
      {"POST", run_path("/resolve"), R"({"outcome": "happened"})"},
      {"POST", run_path("/control"), R"({"action": "pause", "reason": "night"})"},
      {"POST", run_path("/fork"), R"({"step": "review", "input": 2})"},
      {"POST", run_path("/erase"), R"({"reason": "asked to"})"},
      {"GET", "/v1/audit", ""},
      {"GET", "/v1/checkpoint", ""}};
  EXPECT_EQ(asked.size(), job_routes().size());
  for (auto const& [method, path, body] : asked) {
    http::Response const response = co_await house.ask(method, path, body);
    EXPECT_LT(response.status, 300) << method << " " << path << ": " << response.body;
  }
  std::string const who = "uid:" + std::to_string(::geteuid());
  EXPECT_EQ(house.jobs.asked,
            (std::vector<std::string>{"submit " + who + " ", "signal " + who + " go ",
                                      "approved " + who + " review null", "resolve " + who + " ",
                                      "pause " + who + " night", "fork " + who + " review 2",
                                      "erase " + who + " asked to"}));
}

CORO_TEST(JobRoutes, ASubmissionIsToldApartFromOneThatWasThere) {
  JobHouse house;
  http::Response const first = co_await house.ask("POST", "/v1/jobs", kGraph, {}, "k");
  EXPECT_EQ(first.status, 201);
  EXPECT_EQ(first.headers.get("Location"), run_path());
  EXPECT_EQ(json::parse(first.body),
            (json::value{{"id", testing::kFakeRun}, {"status", "pending"}}));
  http::Response const again = co_await house.ask("POST", "/v1/jobs", kGraph, {}, "k");
  EXPECT_EQ(again.status, 200);
  http::Response const other = co_await house.ask("POST", "/v1/jobs", R"({"goal": "x"})", {}, "k");
  EXPECT_EQ(other.status, 409);
  http::Response const broken = co_await house.ask("POST", "/v1/jobs", kGraph, {}, "a b");
  EXPECT_EQ(broken.status, 400);
}

CORO_TEST(JobRoutes, ATokenOfANamespaceIsRefusedInOthersWhichIsRecorded) {
  JobHouse house;
  http::Response const refused = co_await house.ask("POST", "/v1/jobs", kGraph, "submitter-blue");
  EXPECT_EQ(refused.status, 403) << refused.body;
  http::Response const shown = co_await house.ask("GET", run_path(), {}, "viewer-blue");
  EXPECT_EQ(shown.status, 403);
  std::string const blue = R"({"graph": {"nodes": []}, "namespace": "blue"})";
  http::Response const taken = co_await house.ask("POST", "/v1/jobs", blue, "submitter-blue");
  EXPECT_EQ(taken.status, 201);
  http::Response const listed = co_await house.ask("GET", "/v1/jobs", {}, "viewer-blue");
  EXPECT_EQ(json::parse(listed.body).at("jobs").as_array().size(), 1U);
  EXPECT_EQ(house.jobs.notes.size(), 2U);
  EXPECT_EQ(house.jobs.notes.front().first, "token:submitter-blue");
  EXPECT_EQ(house.jobs.notes.front().second.decision, "refused");
}

CORO_TEST(JobRoutes, OnlyAnApproverApprovesAndARefusalIsRecorded) {
  JobHouse house;
  std::string const body = R"({"decision": "approve", "step": "review"})";
  for (std::string const role : {"viewer", "submitter", "operator", "auditor"}) {
    http::Response const refused = co_await house.ask("POST", run_path("/approvals"), body, role);
    EXPECT_EQ(refused.status, 403) << role;
    EXPECT_EQ(house.jobs.notes.back().first, "token:" + role);
  }
  http::Response const taken = co_await house.ask("POST", run_path("/approvals"), body, "approver");
  EXPECT_EQ(taken.status, 200);
  EXPECT_EQ(house.jobs.asked.back(), "approved token:approver review null");
}

CORO_TEST(JobRoutes, AnApprovalIsFilledInAsItsFormAsks) {
  JobHouse house;
  house.jobs.run.waits["review"].opening.schema = json::parse(
      R"({"type": "object", "required": ["sum"], "properties": {"sum": {"type": "integer"}}})");
  std::string const path = run_path("/approvals");
  http::Response const empty = co_await house.ask("POST", path, R"({"decision": "approve"})");
  EXPECT_EQ(empty.status, 400) << empty.body;
  http::Response const text =
      co_await house.ask("POST", path, R"({"decision": "approve", "form": {"sum": "5"}})");
  EXPECT_EQ(text.status, 400);
  http::Response const good =
      co_await house.ask("POST", path, R"({"decision": "approve", "form": {"sum": 5}})");
  EXPECT_EQ(good.status, 200) << good.body;
  http::Response const rejected = co_await house.ask("POST", path, R"({"decision": "reject"})");
  EXPECT_EQ(rejected.status, 200);
}

CORO_TEST(JobRoutes, AreNotFoundWithoutJobs) {
  JobHouse house;
  house.control.plane = nullptr;
  http::Response const response = co_await house.ask("GET", "/v1/jobs");
  EXPECT_EQ(response.status, 404);
}

class Pieces final : public http::BodyWriter {
 public:
  async::Task<void> write(std::string bytes) override {
    text += bytes;
    co_return;
  }
  std::string text;
};

CORO_TEST(JobRoutes, AStreamOfEventsGoesOnWhereItWasCutAndEndsWithTheJob) {
  JobHouse house;
  for (char const* const kind : {"run.opened", "step.opened", "run.closed"})
    house.jobs.add_event(kind);
  http::Request asked;
  asked.path = run_path("/events");
  asked.headers.set("Accept", "text/event-stream");
  asked.headers.set("Last-Event-ID", "1");
  asked.peer = {.unix_socket = true, .uid = ::geteuid()};
  http::Response const response = co_await house.routes.answer(std::move(asked));
  EXPECT_EQ(response.headers.get("Content-Type"), "text/event-stream");
  Pieces pieces;
  async::Task<void> streaming = response.stream(pieces);
  co_await std::move(streaming);
  EXPECT_EQ(pieces.text.find("id: 1\n"), std::string::npos);
  EXPECT_NE(pieces.text.find("id: 2\nevent: step.opened\n"), std::string::npos);
  EXPECT_NE(pieces.text.find("id: 3\nevent: run.closed\n"), std::string::npos);
}

http::Request waiting_for_the_end() {
  http::Request asked;
  asked.path = run_path();
  asked.query = {{"wait", "20"}};
  asked.peer = {.unix_socket = true, .uid = ::geteuid()};
  return asked;
}

CORO_TEST(JobRoutes, WhoWaitsForAJobIsAnsweredOnceWhenItHasEnded) {
  JobHouse house;
  http::Response const response = co_await house.routes.answer(waiting_for_the_end());
  EXPECT_EQ(response.headers.get("Content-Type"), "application/json");
  Pieces pieces;
  async::Executor const executor = co_await async::this_executor;
  async::TaskGroup group(executor, "test");
  group.spawn("wait", response.stream(pieces));
  for (char const* const kind : {"run.opened", "step.opened"}) {
    co_await async::yield();
    co_await async::yield();
    house.jobs.add_event(kind);
  }
  EXPECT_EQ(pieces.text, "");
  house.jobs.run.closing =
      jobs::RunClosed{.outcome = jobs::RunOutcome::Succeeded, .output = "done", .error = {}};
  ++house.jobs.watched->ends;
  house.jobs.add_event("run.closed");
  co_await group.join();
  json::value const told = json::parse(pieces.text);
  EXPECT_EQ(told.at("status"), "completed");
  EXPECT_EQ(told.at("output"), "done");
  http::Response const at_once = co_await house.routes.answer(waiting_for_the_end());
  EXPECT_FALSE(at_once.stream);
  EXPECT_EQ(json::parse(at_once.body).at("status"), "completed");
}

// ---- Bodies

Result<jobs::Submission> whole_submission(std::string_view text, WallTime now) {
  FindAgent const find = [](std::string_view) -> Result<json::value> {
    return fail(ErrorCode::RequestInvalid, "no agents here");
  };
  return read_submission(json::parse(text), find, now);
}

Result<jobs::RunSpec> submission(std::string_view text) {
  TRY_ASSIGN(jobs::Submission read, whole_submission(text, WallTime(std::chrono::hours(24))));
  return std::move(read.spec);
}

TEST(JobRequest, IsTheSameWheneverItIsAsked) {
  auto const hash = [](std::string_view text, int hour) {
    return whole_submission(text, WallTime(std::chrono::hours(hour)))->request_hash;
  };
  std::string const first = hash(R"({"goal": "x", "delay": "1h"})", 1);
  EXPECT_FALSE(first.empty());
  EXPECT_EQ(hash(R"({"delay": "1h",  "goal": "x"})", 2), first);
  EXPECT_NE(hash(R"({"goal": "x", "delay": "2h"})", 1), first);
}

TEST(JobRequest, HasExactlyOneKindOfWork) {
  for (char const* const wrong :
       {"{}", R"({"graph": {}, "goal": "x"})", R"({"goal": ""})", R"({"graph": 5})", "[]",
        R"({"agent": {}})", R"({"agent": "nobody"})"}) {
    EXPECT_FALSE(submission(wrong)) << wrong;
  }
  EXPECT_EQ(submission(R"({"goal": "count"})")->goal, "count");
}

TEST(JobRequest, NamesTheNearestMember) {
  auto const spec = submission(R"({"goal": "x", "qeue": "heavy"})");
  ASSERT_FALSE(spec);
  EXPECT_NE(spec.error().message().find("queue"), std::string::npos) << spec.error().message();
}

TEST(JobRequest, IsReadWhole) {
  auto const spec = submission(
      R"({"goal": "x", "queue": "heavy", "priority": -5, "deadline": "2h", "namespace": "blue",
          "budget": {"calls": 3, "cost": 0.5, "time": "90s"}, "input": [1], "delay": 60,
          "concurrency_key": "k", "concurrency_limit": 2, "name": "n"})");
  ASSERT_TRUE(spec) << spec.error().message();
  EXPECT_EQ(spec->queue, "heavy");
  EXPECT_EQ(spec->priority, -5);
  EXPECT_EQ(spec->space, "blue");
  EXPECT_EQ(spec->deadline, WallTime(std::chrono::hours(26)));
  EXPECT_EQ(spec->not_before, WallTime(std::chrono::hours(24) + std::chrono::minutes(1)));
  EXPECT_EQ(spec->budget.calls, 3U);
  EXPECT_EQ(spec->budget.time, std::chrono::seconds(90));
  EXPECT_EQ(spec->concurrency_limit, 2);
}

TEST(JobRequest, RefusesWhatIsOutOfRange) {
  for (char const* const wrong :
       {R"({"goal": "x", "priority": 1001})", R"({"goal": "x", "priority": 1.5})",
        R"({"goal": "x", "queue": "a b"})", R"({"goal": "x", "deadline": "soon"})",
        R"({"goal": "x", "budget": {"calls": -1}})", R"({"goal": "x", "budget": {"call": 1}})",
        R"({"goal": "x", "namespace": "a:b"})", R"({"goal": "x", "delay": "0s"})",
        R"({"goal": "x", "concurrency_limit": 0})"}) {
    EXPECT_FALSE(submission(wrong)) << wrong;
  }
}

TEST(JobRequest, RefusesNumbersThatARecordWouldChange) {
  EXPECT_TRUE(check_numbers(json::parse(R"({"a": [9007199254740992, -9007199254740992, 1.5]})")));
  for (char const* const wrong :
       {"9007199254740993", R"({"a": [{"b": -9007199254740993}]})", "18446744073709551615"}) {
    EXPECT_FALSE(check_numbers(json::parse(wrong))) << wrong;
  }
}

TEST(JobRequest, ReadsTimesOfRfc3339) {
  EXPECT_EQ(parse_rfc3339("1970-01-02T00:00:00Z"), WallTime(std::chrono::hours(24)));
  EXPECT_EQ(parse_rfc3339("1970-01-02T01:30:00.250+01:30"),
            WallTime(std::chrono::hours(24) + std::chrono::milliseconds(250)));
  for (char const* const wrong :
       {"", "1970-01-02", "1970-13-02T00:00:00Z", "1970-01-02T25:00:00Z", "1970-01-02T00:00:00",
        "1970-02-30T00:00:00Z", "1970-01-02T00:00:00.Zx"}) {
    EXPECT_FALSE(parse_rfc3339(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace aether::api
