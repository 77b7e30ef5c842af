// SPDX-License-Identifier: Apache-2.0
// LineSplitter: turns the byte stream of a child's output into lines of bounded length. Pure.
#pragma once
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace aether::supervise {

/// A longer line is told in pieces of at most this many bytes, so that nothing is lost and one
/// child cannot make Aether hold more than this.
inline constexpr std::size_t kLogLineBytesMax = std::size_t{8} * 1024;

struct SplitLine {
  std::string_view text;   ///< Without its newline, and without a carriage return before it.
  bool continues = false;  ///< The line goes on in the next piece.
};

class LineSplitter {
 public:
  using Sink = std::function<void(SplitLine)>;

  /// Takes the next bytes; calls `sink` for each line, or piece of a line, that they complete.
  void push(std::string_view bytes, Sink const& sink);
  /// The stream has ended: tells what came after the last newline, if anything did.
  void finish(Sink const& sink);

 private:
  std::string partial_;  ///< At most kLogLineBytesMax bytes.
};

}  // namespace aether::supervise
