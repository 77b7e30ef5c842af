// SPDX-License-Identifier: Apache-2.0
#include "tools/process_output.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/error.h"

namespace aether::tools {

Result<os::UniqueFd> ProcessOutput::open() {
  std::array<int, 2> ends{-1, -1};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail(system_error("pipe2"));
  read_end_ = os::UniqueFd(ends[0]);
  os::UniqueFd write_end(ends[1]);
  // Only ours: a program does not expect its stdout to say "later".
  if (::fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) return fail(system_error("fcntl"));
  return write_end;
}

bool ProcessOutput::read_some() {
  std::array<char, 16 * 1024> bytes{};
  ssize_t const got = ::read(read_end_.get(), bytes.data(), bytes.size());
  if (got < 0 && errno == EINTR) return true;
  ended_ = ended_ || got == 0 || (got < 0 && errno != EAGAIN);
  if (got <= 0) return false;
  auto const count = static_cast<std::size_t>(got);
  std::size_t const kept = std::min(count, bytes_max_ - text_.size());
  text_.append(bytes.data(), kept);
  truncated_ = truncated_ || kept < count;
  return true;
}

async::Task<void> ProcessOutput::read_all() {
  while (!ended_) {
    co_await async::readable(read_end_.get());
    read_some();
  }
}

void ProcessOutput::drain() {
  // A pipe holds 1 MiB at most; whoever writes for ever is gone by now.
  constexpr int kReadsMax = 128;
  for (int i = 0; i < kReadsMax && !ended_ && read_some(); ++i) continue;
}

}  // namespace aether::tools
