// SPDX-License-Identifier: Apache-2.0
#include "journal/await_append.h"

#include <memory>
#include <utility>

#include <boost/asio/post.hpp>

#include "async/event.h"

namespace aether::journal {
namespace {

struct Pending {
  async::Event answered;
  Result<AppendOutcome> outcome = fail(ErrorCode::Internal, "not answered yet");
};

}  // namespace

async::Task<AppendOutcome> append(Journal& journal, Batch batch) {
  async::Executor const executor = co_await async::this_executor;
  auto pending = std::make_shared<Pending>();
  Answer answer = [executor, pending](Result<AppendOutcome> outcome) mutable {
    // The event belongs to the loop's thread: it is set, and may be destroyed, only there.
    boost::asio::post(executor,
                      [pending = std::move(pending), outcome = std::move(outcome)]() mutable {
                        pending->outcome = std::move(outcome);
                        pending->answered.set();
                      });
  };
  journal.append(std::move(batch), std::move(answer));
  co_await pending->answered.wait();
  co_return or_throw(std::move(pending->outcome));
}

}  // namespace aether::journal
