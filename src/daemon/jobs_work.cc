// SPDX-License-Identifier: Apache-2.0
// Jobs: workers, over HTTP and over lines.
#include <functional>
#include <utility>

#include <boost/asio/post.hpp>

#include "async/event.h"
#include "daemon/engine_reply.h"
#include "daemon/jobs_plane.h"
#include "daemon/work_line.h"

namespace aether::daemon {
namespace {

/// A claim that waits; whoever waits may go at any time.
struct PendingClaim {
  async::Event answered;
  Result<std::vector<jobs::ClaimedRun>> result = std::vector<jobs::ClaimedRun>();
  bool is_left = false;  ///< Nobody waits any more.
};

/// What nobody took goes back.
void return_runs(jobs::Engine* engine, std::vector<jobs::ClaimedRun> const& runs) {
  for (jobs::ClaimedRun const& run : runs) {
    std::vector<jobs::WorkMessage> messages(1);
    messages[0].verb = jobs::WorkVerb::Release;
    messages[0].why = "the worker hung up";
    engine->work(run.run, run.token, std::move(messages), [](auto const&) {});
  }
}

/// Ends the claim of a worker that hung up.
class ClaimGuard {
 public:
  ClaimGuard(jobs::Engine* engine, std::uint64_t claim, std::shared_ptr<PendingClaim> pending)
      : engine_(engine), claim_(claim), pending_(std::move(pending)) {}
  ClaimGuard(ClaimGuard const&) = delete;
  ClaimGuard& operator=(ClaimGuard const&) = delete;
  ~ClaimGuard() {
    if (is_taken_) return;
    pending_->is_left = true;
    if (pending_->answered.is_set() && pending_->result) return_runs(engine_, *pending_->result);
    engine_->end_claim(claim_);
  }
  void taken() { is_taken_ = true; }

 private:
  jobs::Engine* engine_;
  std::uint64_t claim_;
  std::shared_ptr<PendingClaim> pending_;
  bool is_taken_ = false;
};

async::Task<std::vector<jobs::ClaimedRun>> wait_for_work(jobs::Engine* engine,
                                                         jobs::WorkClaim claim, Duration wait) {
  async::Executor const executor = co_await async::this_executor;
  auto const pending = std::make_shared<PendingClaim>();
  jobs::Reply<std::vector<jobs::ClaimedRun>> reply = [engine, executor, pending](auto result) {
    boost::asio::post(executor, [engine, pending, result = std::move(result)]() mutable {
      if (pending->is_left && result) return return_runs(engine, *result);
      pending->result = std::move(result);
      pending->answered.set();
    });
  };
  std::uint64_t const id = engine->claim(std::move(claim), std::move(reply));
  ClaimGuard guard(engine, id, pending);
  bool const answered = co_await pending->answered.wait_for(wait);
  if (!answered) {
    engine->end_claim(id);
    co_await pending->answered.wait();
  }
  guard.taken();
  co_return or_throw(std::move(pending->result));
}

}  // namespace

async::Task<std::vector<jobs::ClaimedRun>> Jobs::claim(jobs::WorkClaim claim, Duration wait) {
  return wait_for_work(engine_.get(), std::move(claim), wait);
}

async::Task<jobs::WorkAnswers> Jobs::work(jobs::RunId run, std::string token,
                                          std::vector<jobs::WorkMessage> messages) {
  return wait_for<jobs::WorkAnswers>([engine = engine_.get(), run = std::move(run),
                                      token = std::move(token),
                                      messages = std::move(messages)](auto reply) mutable {
    engine->work(std::move(run), std::move(token), std::move(messages), std::move(reply));
  });
}

namespace {

async::Task<void> serve_line(std::unique_ptr<WorkLine> line) {
  async::Task<void> serving = line->serve();
  co_await std::move(serving);
}

}  // namespace

Result<os::UniqueFd> Jobs::open_line(std::string service, std::function<void()> on_claim) {
  TRY_ASSIGN(LineEnds ends, open_line_ends());
  auto line = std::make_unique<WorkLine>(executor_, service, std::move(ends.ours), *this, clock_);
  line->on_claim(std::move(on_claim));
  tasks_.spawn("worker " + service, serve_line(std::move(line)));
  return std::move(ends.theirs);
}

}  // namespace aether::daemon
