// SPDX-License-Identifier: Apache-2.0
#include "api/work_routes.h"

#include <unistd.h>

#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "api/fake_control_plane.h"
#include "api/fake_jobs_plane.h"
#include "api/routes.h"
#include "async/testing.h"

namespace aether::api {
namespace {

/// An Aether with jobs, and tokens of two roles named after them.
struct WorkHouse {
  WorkHouse() {
    control.plane = &jobs;
    routes.set_tokens(
        {{.name = "worker", .role = Role::Worker, .digest = digest_of("worker")},
         {.name = "submitter", .role = Role::Submitter, .digest = digest_of("submitter")}});
  }
  async::Task<http::Response> ask(std::string path, std::string body, std::string token = {}) {
    http::Request made;
    made.method = "POST";
    made.target = path;
    made.path = std::move(path);
    made.body = std::move(body);
    made.peer = {.unix_socket = true, .pid = ::getpid(), .uid = ::geteuid()};
    if (!token.empty()) made.headers.set("Authorization", "Bearer " + token);
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

std::string frame_of(std::string const& messages, std::string const& version = "1") {
  return R"({"v": )" + version + R"(, "run": ")" + testing::kFakeRun +
         R"(", "token": "t", "messages": )" + messages + "}";
}

CORO_TEST(WorkRoutes, TakeAClaimAndAFrame) {
  WorkHouse house;
  std::string const claim =
      R"({"v": 1, "do": "claim", "worker": "w", "agents": ["coder"], "wait_ms": 0})";
  http::Response const claimed = co_await house.ask("/v1/work:claim", claim, "worker");
  EXPECT_EQ(claimed.status, 200);
  EXPECT_TRUE(static_cast<bool>(claimed.stream));
  http::Response const worked =
      co_await house.ask("/v1/work", frame_of(R"([{"do": "beat"}, {"do": "release"}])"), "worker");
  EXPECT_EQ(worked.status, 200);
  EXPECT_TRUE(worked.body.contains(R"("is":"held")")) << worked.body;
  CO_ASSERT_EQ(house.jobs.asked.size(), 2U);
  EXPECT_EQ(house.jobs.asked[1], "release t");
}

CORO_TEST(WorkRoutes, RefuseWhoHasNotTheRoleAndWhatIsNotTheProtocol) {
  WorkHouse house;
  http::Response const forbidden =
      co_await house.ask("/v1/work", frame_of(R"([{"do": "beat"}])"), "submitter");
  EXPECT_EQ(forbidden.status, 403);
  for (std::string const& body :
       {std::string("[]"), std::string("no JSON"), frame_of("[]"), frame_of(R"([{"do": "x"}])"),
        frame_of(R"([{"do": "beat"}])", "2"),
        frame_of(R"([{"do": "close", "outcome": "succeeded", "output": 9007199254740993}])")}) {
    http::Response const refused = co_await house.ask("/v1/work", body);
    EXPECT_EQ(refused.status, 400) << body << refused.body;
  }
  for (std::string const agents : {R"([])", R"(["clerk"])", R"(["nobody"])", R"("coder")"}) {
    std::string const claim = R"({"v": 1, "do": "claim", "worker": "w", "agents": )" + agents + "}";
    http::Response const refused = co_await house.ask("/v1/work:claim", claim);
    EXPECT_EQ(refused.status, 400) << agents;
  }
  EXPECT_TRUE(house.jobs.asked.empty());
}

}  // namespace
}  // namespace aether::api
