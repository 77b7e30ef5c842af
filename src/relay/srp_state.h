// SPDX-License-Identifier: Apache-2.0
// State: the memory of a service on its way from one revision to the next, in Aether's hands.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "os/memfd.h"
#include "relay/srp_frame.h"

namespace aether::relay {

/// A state by pipe is held twice for a moment; what is larger than this must go by shm.
inline constexpr std::uint64_t kPipeStateMax = std::uint64_t{1} << 30;

/// What the bytes are. Aether never looks into them; the receiving SDK decodes.
enum class StateFormat : std::uint8_t { Json, Bytes, Pickle, Protobuf };
[[nodiscard]] std::string_view format_name(StateFormat format);
[[nodiscard]] std::optional<StateFormat> parse_format(std::string_view name);

/// Bytes in a sealed memfd: nobody can change them, so that they were checked once is enough for
/// all who read them later. Cheap to copy (the memory is shared). Safe to read from any thread.
class State {
 public:
  /// A state that Aether itself writes down (from frames, or in tests): one copy, then sealed.
  [[nodiscard]] static Result<State> from_pieces(StateFormat format,
                                                 std::vector<std::string_view> const& pieces);
  [[nodiscard]] static Result<State> from_bytes(StateFormat format, std::string_view bytes);
  /// A peer's memfd of exactly `size` bytes. Sealed here if the peer did not. Computes the CRC-32C
  /// of all of it: blocks for tens of milliseconds per GiB, so call it off the loop.
  [[nodiscard]] static Result<State> from_memfd(StateFormat format, os::UniqueFd fd,
                                                std::uint64_t size);

  [[nodiscard]] StateFormat format() const { return format_; }
  [[nodiscard]] std::uint64_t size() const { return memory_->size(); }
  [[nodiscard]] std::uint32_t crc32c() const { return crc32c_; }
  /// The program's own number for how it keeps its memory; 0: it has none.
  [[nodiscard]] std::uint32_t version() const { return version_; }
  void set_version(std::uint32_t version) { version_ = version; }
  /// Borrowed: lives as long as any copy of this state.
  [[nodiscard]] int fd() const { return memory_->fd(); }
  [[nodiscard]] Result<os::Mapping> map() const { return os::Mapping::map_read(fd(), size()); }

 private:
  State(StateFormat format, std::shared_ptr<os::Memfd const> memory, std::uint32_t crc32c)
      : format_(format), memory_(std::move(memory)), crc32c_(crc32c) {}
  StateFormat format_;
  std::shared_ptr<os::Memfd const> memory_;
  std::uint32_t crc32c_;
  std::uint32_t version_ = 0;
};

}  // namespace aether::relay
