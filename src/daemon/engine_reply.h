// SPDX-License-Identifier: Apache-2.0
// A callback of the jobs' loop, waited for on ours. Only the files of Jobs include this.
#pragma once
#include <functional>
#include <memory>
#include <utility>

#include <boost/asio/post.hpp>

#include "async/event.h"
#include "async/task.h"
#include "base/result.h"
#include "jobs/engine.h"

namespace aether::daemon {

template <class T>
struct Reply {
  async::Event answered;
  Result<T> result = fail(ErrorCode::Internal, "not answered yet");
};

template <class T>
async::Task<T> wait_for(std::move_only_function<void(jobs::Reply<T>)> ask) {
  async::Executor const executor = co_await async::this_executor;
  auto pending = std::make_shared<Reply<T>>();
  jobs::Reply<T> reply = [executor, pending](Result<T> result) mutable {
    // The event belongs to our loop: it is set, and may be destroyed, only there.
    boost::asio::post(executor,
                      [pending = std::move(pending), result = std::move(result)]() mutable {
                        pending->result = std::move(result);
                        pending->answered.set();
                      });
  };
  ask(std::move(reply));
  co_await pending->answered.wait();
  co_return or_throw(std::move(pending->result));
}

}  // namespace aether::daemon
