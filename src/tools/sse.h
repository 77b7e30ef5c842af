// SPDX-License-Identifier: Apache-2.0
// Inside of this room: server-sent events (WHATWG HTML, 9.2.6), in pieces as they come. Pure.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace aether::tools {

/// Of one event. A chunk of a chat has a few hundred bytes; some servers send a whole call in one.
inline constexpr std::size_t kSseEventBytesMax = std::size_t{1} * 1024 * 1024;

/// Only the data of events: their names and ids mean nothing to a chat.
class SseParser {
 public:
  /// The data of the events that these bytes complete, in order. LimitReached: an event is longer
  /// than kSseEventBytesMax; nothing more is to be fed then.
  [[nodiscard]] Result<std::vector<std::string>> feed(std::string_view bytes);

 private:
  void end_line(std::vector<std::string>& events);

  std::string line_;
  std::string data_;
  bool has_data_ = false;
  bool after_return_ = false;  ///< The last byte was CR: an LF after it belongs to it.
  bool began_ = false;         ///< A byte order mark can only come first.
};

}  // namespace aether::tools
