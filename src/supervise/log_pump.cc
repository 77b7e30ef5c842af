// SPDX-License-Identifier: Apache-2.0
#include "supervise/log_pump.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/error.h"

namespace aether::supervise {

Result<OutputPipe> OutputPipe::open() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    return fail(system_error("pipe2", "for a child's output"));
  OutputPipe pipe{.read_end = os::UniqueFd(ends[0]), .write_end = os::UniqueFd(ends[1])};
  // The two ends are two open file descriptions: the child's stays blocking.
  int const flags = ::fcntl(pipe.read_end.get(), F_GETFL);
  if (flags < 0 || ::fcntl(pipe.read_end.get(), F_SETFL, flags | O_NONBLOCK) != 0)
    return fail(system_error("fcntl", "of a child's output pipe"));
  return pipe;
}

LogPump::LogPump(os::UniqueFd read_end, LineSplitter::Sink sink)
    : read_end_(std::move(read_end)), ended_(!read_end_), sink_(std::move(sink)) {}

async::Task<void> LogPump::run() {
  async::Task<void> reading = read_all();
  co_await async::until(finished_, std::move(reading));
  read_end_.reset();
}

async::Task<void> LogPump::read_all() {
  while (!ended()) {
    int const fd = read_end_.get();
    co_await async::readable(fd);
    drain(kPumpBytesPerTurn);
  }
}

void LogPump::drain(std::size_t bytes_max) {
  std::uint64_t const until = bytes_ + bytes_max;
  while (!ended() && bytes_ < until)
    if (!read_some(static_cast<std::size_t>(until - bytes_))) return;
}

bool LogPump::read_some(std::size_t bytes_max) {
  std::array<char, 16 * 1024> buffer;  // NOLINT: filled by read().
  ssize_t const count = ::read(read_end_.get(), buffer.data(), std::min(buffer.size(), bytes_max));
  if (count < 0 && errno == EINTR) return true;
  if (count < 0 && errno == EAGAIN) return false;
  if (count <= 0) {
    end();
    return false;
  }
  bytes_ += static_cast<std::uint64_t>(count);
  splitter_.push({buffer.data(), static_cast<std::size_t>(count)}, sink_);
  return true;
}

void LogPump::flush() {
  splitter_.finish([&](SplitLine line) {
    line.continues = true;
    sink_(line);
  });
}

void LogPump::finish() {
  drain(kPipeBytesMax);
  if (!ended()) end();
}

void LogPump::end() {
  ended_ = true;
  splitter_.finish(sink_);
  finished_.set();
}

}  // namespace aether::supervise
