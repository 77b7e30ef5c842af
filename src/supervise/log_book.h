// SPDX-License-Identifier: Apache-2.0
// LogBook: the last lines that a service's instances and hooks wrote, in order, with sequence
// numbers. Bounded; appending never waits. Readers hold a cursor (a sequence number) and ask for
// what came since: one that is too slow loses the oldest lines and is told how many.
// Loop thread only.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "async/event.h"
#include "async/task.h"
#include "base/ids.h"
#include "base/time.h"

namespace aether::supervise {

inline constexpr std::size_t kLogLinesMax = 10'000;
/// Of text, for one service: 10 000 ordinary lines, or 256 of the longest.
inline constexpr std::size_t kLogBytesMax = std::size_t{2} * 1024 * 1024;
/// Lines in one answer of since().
inline constexpr std::size_t kLogBatchMax = 1024;

enum class LogStream : std::uint8_t { Stdout, Stderr, Hook };
[[nodiscard]] std::string_view log_stream_name(LogStream stream);

struct LogLine {
  std::uint64_t sequence = 0;  ///< From 1, without gaps, over the life of the book.
  WallTime time;
  RevisionId revision;
  InstanceId instance;  ///< None for hooks.
  LogStream stream = LogStream::Stdout;
  bool continues = false;  ///< A line longer than 8 KiB: it goes on in this stream's next entry.
  std::string text;        ///< Valid UTF-8 without its newline; may hold colours and tabs.
};

struct LogBatch {
  std::vector<LogLine> lines;
  std::uint64_t missed = 0;  ///< Lines that left the book before they were asked for.
  std::uint64_t next = 1;    ///< The cursor to ask with next time.
};

class LogBook {
 public:
  /// Called for each line as it is appended; must not wait, nor append to or destroy this book.
  using Tap = std::function<void(std::string_view service, LogLine const&)>;

  /// `clock` outlives the book.
  LogBook(std::string service, Clock const& clock);
  LogBook(LogBook const&) = delete;
  LogBook& operator=(LogBook const&) = delete;

  /// `line.sequence` and `line.time` are set here, and the text is made printable.
  void append(LogLine line);
  /// The last `count` lines, oldest first.
  [[nodiscard]] std::vector<LogLine> tail(std::size_t count) const;
  /// The texts of the last `count` lines of one instance, oldest first.
  [[nodiscard]] std::vector<std::string> last_texts(InstanceId instance, std::size_t count) const;
  /// At most kLogBatchMax lines from `cursor` on.
  [[nodiscard]] LogBatch since(std::uint64_t cursor) const;
  /// Waits until since(cursor) has something to tell, or the book is closed. May be cancelled.
  [[nodiscard]] async::Task<void> changed(std::uint64_t cursor);
  /// The sequence number that the next line will get.
  [[nodiscard]] std::uint64_t next_sequence() const { return next_; }
  [[nodiscard]] std::uint64_t lines_dropped() const { return next_ - 1 - lines_.size(); }
  [[nodiscard]] std::string const& service() const { return service_; }
  void set_tap(Tap tap) { tap_ = std::move(tap); }
  /// The service is gone: followers end.
  void close();
  [[nodiscard]] bool closed() const { return closed_; }

 private:
  std::string service_;
  Clock const& clock_;
  std::deque<LogLine> lines_;
  std::size_t bytes_ = 0;
  std::uint64_t next_ = 1;
  bool closed_ = false;
  async::Event grown_;
  Tap tap_;
};

}  // namespace aether::supervise
