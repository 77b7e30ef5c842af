// SPDX-License-Identifier: Apache-2.0
// A worker's line: what is answered, what is refused, and what ends it.
#include "daemon/work_line.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "api/fake_jobs_plane.h"
#include "async/testing.h"
#include "async/wait_fd.h"

namespace aether::daemon {
namespace {

constexpr char const* kClaim =
    R"("v": 1, "do": "claim", "worker": "w", "agents": ["coder"], "wait_ms": 0})";

/// The worker's end.
class LineWorker {
 public:
  explicit LineWorker(os::UniqueFd fd) : fd_(std::move(fd)) {
    ::fcntl(fd_.get(), F_SETFL, O_NONBLOCK);
  }
  void say(std::string const& line) const {
    std::string const whole = line + "\n";
    EXPECT_EQ(::send(fd_.get(), whole.data(), whole.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(whole.size()));
  }
  /// The next line; empty when the line is closed.
  async::Task<std::string> hear() {
    while (!in_.contains('\n')) {
      co_await async::readable(fd_.get());
      std::string bytes(4096, '\0');
      ssize_t const got = ::recv(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (got == 0) co_return std::string();
      if (got > 0) in_.append(bytes, 0, static_cast<std::size_t>(got));
    }
    std::size_t const end = in_.find('\n');
    std::string line = in_.substr(0, end);
    in_.erase(0, end + 1);
    co_return line;
  }

 private:
  os::UniqueFd fd_;
  std::string in_;
};

async::Task<void> serve_test_line(WorkLine* line) {
  async::Task<void> serving = line->serve();
  co_await std::move(serving);
}

struct LineHouse {
  explicit LineHouse(async::Executor executor)
      : group(executor, "test"),
        ends(or_throw(open_line_ends())),
        line(executor, "w", std::move(ends.ours), jobs, clock),
        worker(std::move(ends.theirs)) {
    group.spawn("line", serve_test_line(&line));
  }
  SystemClock clock;
  api::testing::FakeJobsPlane jobs;
  async::TaskGroup group;
  LineEnds ends;
  WorkLine line;
  LineWorker worker;
};

CORO_TEST(WorkLines, RefuseByItsIdWhatIsNoJsonAndGoOn) {
  async::Executor const executor = co_await async::this_executor;
  LineHouse house(executor);
  house.worker.say(R"({"id": 7, "v": 1, "run": "\ud800"})");
  std::string const refused = co_await house.worker.hear();
  EXPECT_TRUE(refused.contains(R"("id":7)")) << refused;
  EXPECT_TRUE(refused.contains("request-invalid")) << refused;
  house.worker.say(R"({"id": 8, "output": )" + std::string(200, '[') + std::string(200, ']') + "}");
  std::string const deep = co_await house.worker.hear();
  EXPECT_TRUE(deep.contains(R"("id":8)")) << deep;
  house.worker.say(std::string(R"({"id": 9, )") + kClaim);
  std::string const claimed = co_await house.worker.hear();
  EXPECT_TRUE(claimed.contains(R"("id":9)")) << claimed;
  EXPECT_TRUE(claimed.contains(R"("runs":[)")) << claimed;
  co_await house.group.stop(std::chrono::seconds(5));
  // The run that it was given goes back when the line ends.
  EXPECT_EQ(house.jobs.asked.back(), "release t");
}

CORO_TEST(WorkLines, EndWithWhatCannotBeAnswered) {
  async::Executor const executor = co_await async::this_executor;
  for (std::string const line :
       {"no JSON", "[]", R"({"v": 1, "id": 7, "output": NaN})", "{\"id\""}) {
    LineHouse house(executor);
    house.worker.say(line);
    std::string const heard = co_await house.worker.hear();
    EXPECT_EQ(heard, "") << line;
    co_await house.group.stop(std::chrono::seconds(5));
  }
}

}  // namespace
}  // namespace aether::daemon
