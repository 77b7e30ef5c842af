// SPDX-License-Identifier: Apache-2.0
// Laws: what must hold of a sequence of events, whoever wrote it down. Pure; used by fsck over a
// whole journal and by the verification of evidence over one stream.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "journal/journal.h"

namespace aether::journal {

enum class Breach : std::uint8_t {
  Form,        ///< An event breaks a limit, or the form of its fields.
  Position,    ///< A position is missing, or comes twice.
  Sequence,    ///< A stream's events are not numbered 1, 2, 3...
  Fence,       ///< A stream's fence went back.
  SpanOpened,  ///< A span was opened a second time.
  SpanClosed,  ///< A span was closed a second time, or was never opened.
  Key,         ///< A key was taken a second time.
  Cause,       ///< An event is caused by one that comes later.
};
[[nodiscard]] std::string_view text_of(Breach breach);

class Laws {
 public:
  enum class Positions : std::uint8_t {
    Gapless,    ///< All events of a journal.
    Ascending,  ///< One stream of it.
  };
  explicit Laws(Positions positions) : positions_(positions) {}

  /// Takes the next event; what it breaks. Goes on as if the event were right.
  std::vector<Breach> take(Event const& event);
  /// What the events of a stream come to.
  struct Stream {
    StreamState state;
    std::unordered_map<std::string, bool> spans;  ///< By name: true while it is open.
  };
  [[nodiscard]] std::unordered_map<std::string, Stream> const& streams() const { return streams_; }
  [[nodiscard]] std::unordered_map<std::string, Position> const& keys() const { return keys_; }

 private:
  Positions positions_;
  Position last_;
  std::unordered_map<std::string, Stream> streams_;
  std::unordered_map<std::string, Position> keys_;
};

}  // namespace aether::journal
