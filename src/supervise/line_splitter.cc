// SPDX-License-Identifier: Apache-2.0
#include "supervise/line_splitter.h"

#include "supervise/printable.h"

namespace aether::supervise {
namespace {

std::string_view without_return(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

/// Tells the pieces of `line` that are too long to be held; returns what is left of it.
std::string_view tell_pieces(std::string_view line, LineSplitter::Sink const& sink) {
  while (line.size() > kLogLineBytesMax) {
    std::size_t const cut = cut_position(line, kLogLineBytesMax);
    sink({.text = line.substr(0, cut), .continues = true});
    line.remove_prefix(cut);
  }
  return line;
}

}  // namespace

void LineSplitter::push(std::string_view bytes, Sink const& sink) {
  while (!bytes.empty()) {
    std::size_t const end = bytes.find('\n');
    std::string_view line = bytes.substr(0, end);
    bool const complete = end != std::string_view::npos;
    bytes.remove_prefix(complete ? end + 1 : bytes.size());
    if (complete && partial_.empty()) {
      sink({.text = without_return(tell_pieces(line, sink))});
      continue;
    }
    partial_ += line;  // At most one read's bytes longer than the limit, for a moment.
    std::string_view const rest = tell_pieces(partial_, sink);
    if (complete) {
      sink({.text = without_return(rest)});
      partial_.clear();
    } else {
      partial_.erase(0, partial_.size() - rest.size());
    }
  }
}

void LineSplitter::finish(Sink const& sink) {
  if (!partial_.empty()) sink({.text = without_return(partial_)});
  partial_ = {};
}

}  // namespace aether::supervise
