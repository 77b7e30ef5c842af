// SPDX-License-Identifier: Apache-2.0
// Inside of this room: follows a body to its end while its bytes pass by. Pure.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "functions/proxy_head.h"

namespace aether::functions {

/// Bytes of one line that frames a chunk, and of all trailers.
inline constexpr std::size_t kChunkLineBytesMax = 1024;
inline constexpr std::size_t kTrailerBytesMax = 16 * 1024;

class BodyMeter {
 public:
  BodyMeter() = default;
  explicit BodyMeter(BodyFrame frame);

  /// How many of these bytes belong to the body, or are well before something that is wrong.
  /// @param plain If set, gets what the chunks hold, without their frames and without trailers.
  std::size_t take(std::string_view bytes, std::string* plain = nullptr);
  [[nodiscard]] bool done() const { return state_ == State::Done; }
  /// The chunks are not framed as RFC 9112, 7.1 says: another reader could see another end.
  [[nodiscard]] bool bad() const { return state_ == State::Bad; }
  [[nodiscard]] BodyKind kind() const { return kind_; }

 private:
  enum class State : std::uint8_t {
    Done,
    Bad,
    Plain,  // Length, or until the end of the connection
    SizeFirst,
    Size,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    TrailerFirst,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
  };
  [[nodiscard]] State next(char c);
  [[nodiscard]] State after_size_digit(char c);

  State state_ = State::Done;
  BodyKind kind_ = BodyKind::None;
  std::uint64_t left_ = 0;      // of the body, or of the chunk
  std::size_t line_bytes_ = 0;  // of what frames: reset with each chunk
};

}  // namespace aether::functions
