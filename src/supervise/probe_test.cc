// SPDX-License-Identifier: Apache-2.0
#include "supervise/probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "supervise/instance_rig.h"

namespace aether::supervise {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

/// Answers with the status in the path: /200, /503.
char const* const kStatusServer =
    "from http.server import *\n"
    "class Handler(BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        self.send_response(int(self.path[1:]))\n"
    "        self.end_headers()\n"
    "    def log_message(self, *_): pass\n"
    "server = HTTPServer(('127.0.0.1', 0), Handler, False)\n"
    "server.socket = socket.socket(fileno=3)\n"
    "server.serve_forever()\n";

CORO_TEST(Probe, JudgesAnHttpAnswerByItsStatus) {
  InstanceRig rig(loop);
  std::uint16_t const port = rig.listen();
  rig.spec.ready = config::ReadyHttp{"/200"};
  auto const instance = rig.python(kStatusServer);
  auto const ready = co_await rig.wait<event::BecameReady>();
  CO_ASSERT_TRUE(ready.has_value());
  EXPECT_EQ(ready->how, ReadyBy::Probe);
  for (int const status : {200, 204, 302, 399, 404, 500, 503}) {
    ProbeSpec spec{.what = config::ProbeHttp{fmt::format("http://127.0.0.1:{}/{}", port, status)},
                   .timeout = 20s};
    ProbeResult const result = co_await probe(loop.clock(), std::move(spec));
    EXPECT_EQ(result.healthy, status < 400) << result.reason;
    EXPECT_THAT(result.reason, HasSubstr(std::to_string(status)));
  }
  co_await instance->close();
}

CORO_TEST(Probe, ConnectsToTcp) {
  InstanceRig rig(loop);
  std::uint16_t const port = rig.listen();
  ProbeSpec good{.what = config::ProbeTcp{fmt::format("127.0.0.1:{}", port)}, .timeout = 20s};
  ProbeResult const answered = co_await probe(loop.clock(), std::move(good));
  EXPECT_TRUE(answered.healthy) << answered.reason;
  ProbeSpec bad{.what = config::ProbeTcp{"127.0.0.1:1"}, .timeout = 20s};
  ProbeResult const refused = co_await probe(loop.clock(), std::move(bad));
  EXPECT_FALSE(refused.healthy);
  EXPECT_THAT(refused.reason, HasSubstr("127.0.0.1:1"));
}

CORO_TEST(Probe, GivesUpAtItsTimeout) {
  InstanceRig rig(loop);
  std::uint16_t const port = rig.listen();  // Nobody accepts: the request is never answered.
  ProbeSpec spec{.what = config::ProbeHttp{"/health"}, .timeout = 100ms, .port = port};
  ProbeResult const result = co_await probe(loop.clock(), std::move(spec));
  EXPECT_FALSE(result.healthy);
  EXPECT_GE(result.took, 100ms);
  ProbeSpec command{.what = config::ProbeCommand{{"/bin/sleep", "1000"}}, .timeout = 100ms};
  ProbeResult const slept = co_await probe(loop.clock(), std::move(command));
  EXPECT_FALSE(slept.healthy);
}

CORO_TEST(Probe, JudgesACommandByItsExit) {
  ProbeSpec good{.what = config::ProbeCommand{{"/bin/true"}}, .timeout = 20s};
  ProbeResult const ended = co_await probe(loop.clock(), std::move(good));
  EXPECT_TRUE(ended.healthy) << ended.reason;
  ProbeSpec bad{.what = config::ProbeCommand{{"/bin/sh", "-c", "echo sick; exit 2"}},
                .timeout = 20s};
  ProbeResult const failed = co_await probe(loop.clock(), std::move(bad));
  EXPECT_FALSE(failed.healthy);
  EXPECT_THAT(failed.reason, HasSubstr("sick"));
}

}  // namespace
}  // namespace aether::supervise
