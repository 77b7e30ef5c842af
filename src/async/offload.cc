// SPDX-License-Identifier: Apache-2.0
#include "async/offload.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

#include "async/event.h"
#include "base/check.h"
#include "base/error.h"
#include "os/signals_blocked.h"

namespace aether::async {

struct ThreadPool::State {
  std::size_t queue_max;
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<Work> queue;
  bool ending = false;
  std::vector<std::thread> threads;

  void serve();
};

void ThreadPool::State::serve() {
  std::unique_lock lock(mutex);
  while (true) {
    wake.wait(lock, [this] { return ending || !queue.empty(); });
    if (queue.empty()) return;
    Work work = std::move(queue.front());
    queue.pop_front();
    lock.unlock();
    work();
    work = nullptr;
    lock.lock();
  }
}

ThreadPool::ThreadPool(std::size_t threads, std::size_t queue_max)
    : state_(std::make_unique<State>()) {
  AETHER_CHECK(threads > 0);
  state_->queue_max = queue_max;
  os::SignalsBlocked const blocked;
  for (std::size_t i = 0; i < threads; ++i) {
    state_->threads.emplace_back([state = state_.get()] { state->serve(); });
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard const lock(state_->mutex);
    state_->ending = true;
  }
  state_->wake.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

bool ThreadPool::post(Work work) {
  {
    std::lock_guard const lock(state_->mutex);
    if (state_->queue.size() >= state_->queue_max) return false;
    state_->queue.push_back(std::move(work));
  }
  state_->wake.notify_one();
  return true;
}

std::size_t ThreadPool::threads() const {
  return state_->threads.size();
}

namespace detail {

Task<void> run_on(ThreadPool& pool, ThreadPool::Work work) {
  Executor const executor = co_await this_executor;
  auto done = std::make_shared<Event>();
  ThreadPool::Work job = [executor, done, work = std::move(work)]() mutable {
    work();
    work = nullptr;  // what it owns goes before the caller goes on
    // The event belongs to the loop's thread: it is set, and may be destroyed, only there.
    boost::asio::post(executor, [done = std::move(done)] { done->set(); });
  };
  if (!pool.post(std::move(job))) {
    throw Error(
        ErrorCode::LimitReached,
        fmt::format("offloading work: the queue of the {} threads is full (kOffloadQueueMax)",
                    pool.threads()));
  }
  co_await done->wait();
}

}  // namespace detail
}  // namespace aether::async
