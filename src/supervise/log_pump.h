// SPDX-License-Identifier: Apache-2.0
// LogPump: reads one output pipe of a child into its service's LogBook, line by line. It reads as
// soon as there is something and appending never waits, so the child never does for long.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

#include "async/event.h"
#include "async/task.h"
#include "base/result.h"
#include "os/unique_fd.h"
#include "supervise/line_splitter.h"

namespace aether::supervise {

/// Bytes read in one turn of the loop: at most a millisecond of work, when the lines are short.
inline constexpr std::size_t kPumpBytesPerTurn = std::size_t{16} * 1024;
/// What a pipe can hold at most (/proc/sys/fs/pipe-max-size).
inline constexpr std::size_t kPipeBytesMax = std::size_t{1024} * 1024;

/// A pipe for a child's output. Our end does not block, the child's does.
struct OutputPipe {
  os::UniqueFd read_end;
  os::UniqueFd write_end;
  [[nodiscard]] static Result<OutputPipe> open();
};

class LogPump {
 public:
  /// An empty `read_end` is a stream that has ended.
  LogPump(os::UniqueFd read_end, LineSplitter::Sink sink);

  /// Reads until the end of the stream or finish(); then closes the pipe: whoever still writes
  /// gets EPIPE. Runs at most once.
  [[nodiscard]] async::Task<void> run();
  /// Reads what is there now, at most `bytes_max`. Never blocks.
  void drain(std::size_t bytes_max);
  /// Tells what came after the last newline, as a line that continues.
  void flush();
  /// Reads what is there, tells the rest, and ends run().
  void finish();
  [[nodiscard]] bool ended() const { return ended_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  /// False: nothing was there, or the stream has ended.
  bool read_some(std::size_t bytes_max);
  void end();
  [[nodiscard]] async::Task<void> read_all();

  os::UniqueFd read_end_;
  async::Event finished_;
  bool ended_ = false;
  LineSplitter splitter_;
  LineSplitter::Sink sink_;
  std::uint64_t bytes_ = 0;
};

}  // namespace aether::supervise
