// SPDX-License-Identifier: Apache-2.0
// Inside of this room: what a program writes into one pipe, its beginning kept and all of it read.
#pragma once
#include <cstddef>
#include <string>

#include "async/task.h"
#include "base/result.h"
#include "os/unique_fd.h"

namespace aether::tools {

class ProcessOutput {
 public:
  explicit ProcessOutput(std::size_t bytes_max) : bytes_max_(bytes_max) {}

  /// Opens the pipe; take the program's end of it for the spawn.
  [[nodiscard]] Result<os::UniqueFd> open();
  /// Reads until every writer has closed.
  [[nodiscard]] async::Task<void> read_all();
  /// What is there now, without waiting.
  void drain();

  [[nodiscard]] std::string const& text() const { return text_; }
  [[nodiscard]] bool truncated() const { return truncated_; }

 private:
  /// False: nothing is there, or nobody writes any more.
  bool read_some();

  std::size_t bytes_max_;
  os::UniqueFd read_end_;
  std::string text_;
  bool truncated_ = false;
  bool ended_ = false;
};

}  // namespace aether::tools
