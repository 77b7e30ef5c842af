// SPDX-License-Identifier: Apache-2.0
#include "async/loop.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/system/system_error.hpp>

#include "async/spawn.h"
#include "base/error.h"

namespace aether::async {

struct Loop::Context {
  Context() {
    try {
      try_timer();
    } catch (boost::system::system_error const& error) {
      throw system_error_from(error.code().value(), "make an event loop");
    }
  }

  // The hint 1: one thread runs it, which saves wake-ups; others may still post to it (offload
  // does).
  boost::asio::io_context io{1};

 private:
  /// Asio makes its descriptors when they are first needed, and does not look whether its set took
  /// them: without its timer the loop would wait for ever.
  void try_timer() {
    constexpr Duration kPatience = std::chrono::seconds(2);
    boost::asio::steady_timer timer(io, Duration::zero());
    bool fired = false;
    timer.async_wait([&fired](boost::system::error_code const& ec) { fired = !ec; });
    io.run_one_for(kPatience);
    io.restart();  // It ran out of work, which is not its end.
    if (!fired)
      throw Error(ErrorCode::SystemCall,
                  "make an event loop: its timer does not fire; are the watches of this user used "
                  "up (fs.epoll.max_user_watches)?");
  }
};

namespace {

struct RunTask final : detail::Completion {
  bool done = false;
  std::exception_ptr thrown;

  void ended(std::exception_ptr exception) override {
    done = true;
    thrown = std::move(exception);
  }
};

}  // namespace

Loop::Loop(Clock const& clock) : context_(std::make_unique<Context>()), clock_(clock) {}

Loop::~Loop() {
  // Marks the loop as ended for what is destroyed with it (TaskGroup looks at it).
  context_->io.stop();
}

Executor Loop::executor() const {
  return context_->io.get_executor();
}

void Loop::run() {
  context_->io.restart();
  context_->io.run();
}

void Loop::stop() {
  context_->io.stop();
}

void Loop::run_for(Duration duration) {
  context_->io.restart();
  context_->io.run_for(duration);
}

void Loop::run_until_end(Task<void> task) {
  auto completion = std::make_shared<RunTask>();
  detail::spawn(executor(), std::move(task), completion);
  context_->io.restart();
  while (!completion->done && context_->io.run_one() > 0) {
  }
  if (!completion->done) {
    throw Error(ErrorCode::Internal,
                "the loop was stopped, or had nothing left to wait for, before the task ended");
  }
  if (completion->thrown) std::rethrow_exception(completion->thrown);
}

}  // namespace aether::async
