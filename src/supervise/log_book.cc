// SPDX-License-Identifier: Apache-2.0
#include "supervise/log_book.h"

#include <algorithm>

#include "base/check.h"
#include "supervise/printable.h"

namespace aether::supervise {

std::string_view log_stream_name(LogStream stream) {
  switch (stream) {
    case LogStream::Stdout:
      return "stdout";
    case LogStream::Stderr:
      return "stderr";
    case LogStream::Hook:
      return "hook";
  }
  return "unknown";
}

LogBook::LogBook(std::string service, Clock const& clock)
    : service_(std::move(service)), clock_(clock) {}

void LogBook::append(LogLine line) {
  line.sequence = next_++;
  line.time = clock_.wall();
  line.text = printable(line.text, Controls::Keep);
  bytes_ += line.text.size();
  lines_.push_back(std::move(line));
  while (lines_.size() > kLogLinesMax || (bytes_ > kLogBytesMax && lines_.size() > 1)) {
    bytes_ -= lines_.front().text.size();
    lines_.pop_front();
  }
  if (tap_) tap_(service_, lines_.back());
  // Followers wait until set; they look at their cursors, so that one flag serves all of them.
  grown_.set();
  grown_.reset();
}

std::vector<LogLine> LogBook::tail(std::size_t count) const {
  std::size_t const kept = std::min(count, lines_.size());
  return {lines_.end() - static_cast<std::ptrdiff_t>(kept), lines_.end()};
}

std::vector<std::string> LogBook::last_texts(InstanceId instance, std::size_t count) const {
  std::vector<std::string> texts;
  for (auto line = lines_.rbegin(); line != lines_.rend() && texts.size() < count; ++line)
    if (line->instance == instance) texts.push_back(line->text);
  std::ranges::reverse(texts);
  return texts;
}

LogBatch LogBook::since(std::uint64_t cursor) const {
  LogBatch batch;
  std::uint64_t const oldest = next_ - lines_.size();
  cursor = std::clamp<std::uint64_t>(cursor, 1, next_);
  if (cursor < oldest) batch.missed = oldest - cursor;
  std::uint64_t const from = std::max(cursor, oldest);
  auto const count = static_cast<std::size_t>(std::min<std::uint64_t>(next_ - from, kLogBatchMax));
  auto const begin = lines_.begin() + static_cast<std::ptrdiff_t>(from - oldest);
  batch.lines.assign(begin, begin + static_cast<std::ptrdiff_t>(count));
  batch.next = from + count;
  return batch;
}

async::Task<void> LogBook::changed(std::uint64_t cursor) {
  while (!closed_ && cursor >= next_) co_await grown_.wait();
}

void LogBook::close() {
  closed_ = true;
  grown_.set();
}

}  // namespace aether::supervise
