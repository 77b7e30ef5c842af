// SPDX-License-Identifier: Apache-2.0
#include "relay/srp_state.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/checksum.h"

namespace aether::relay {
namespace {

constexpr std::array<std::pair<StateFormat, std::string_view>, 4> kFormats{{
    {StateFormat::Json, "json"},
    {StateFormat::Bytes, "bytes"},
    {StateFormat::Pickle, "pickle"},
    {StateFormat::Protobuf, "protobuf"},
}};

/// One look at the memory, while it lies in the cache. Reading a memfd piece by piece costs less
/// than mapping it: a fresh mapping takes a page fault for each 64 KiB, which is more work than the
/// copy (measured: 88 against 137 ms for 1 GB; bench/memory_pass.cc).
constexpr std::size_t kLookSize = std::size_t{256} * 1024;

Result<std::uint32_t> checksum_of(os::Memfd const& memory) {
  std::vector<std::byte> look(std::min<std::uint64_t>(kLookSize, memory.size()));
  std::uint32_t checksum = 0;
  for (std::uint64_t at = 0; at < memory.size(); at += look.size()) {
    std::uint64_t const rest = std::min<std::uint64_t>(look.size(), memory.size() - at);
    std::span<std::byte> const piece = std::span(look).first(rest);
    TRY(memory.read(at, piece));
    checksum = aether::crc32c(piece, checksum);
  }
  return checksum;
}

/// How it shows in /proc/PID/maps of whoever maps it.
constexpr std::string_view kMemfdName = "aether-state";

}  // namespace

std::string_view format_name(StateFormat format) {
  return kFormats.at(static_cast<std::size_t>(format)).second;
}

std::optional<StateFormat> parse_format(std::string_view name) {
  for (auto const& [format, known] : kFormats) {
    if (known == name) return format;
  }
  return std::nullopt;
}

Result<State> State::from_pieces(StateFormat format, std::vector<std::string_view> const& pieces) {
  std::uint64_t size = 0;
  for (std::string_view piece : pieces) size += piece.size();
  TRY_ASSIGN(os::Memfd memory, os::Memfd::create(kMemfdName, size));
  std::uint64_t offset = 0;
  std::uint32_t checksum = 0;
  for (std::string_view piece : pieces) {
    TRY(memory.write(offset, std::as_bytes(std::span(piece))));
    checksum = aether::crc32c(piece, checksum);
    offset += piece.size();
  }
  TRY(memory.seal());
  return State(format, std::make_shared<os::Memfd const>(std::move(memory)), checksum);
}

Result<State> State::from_bytes(StateFormat format, std::string_view bytes) {
  return from_pieces(format, {bytes});
}

Result<State> State::from_memfd(StateFormat format, os::UniqueFd fd, std::uint64_t size) {
  TRY_ASSIGN(os::Memfd memory, os::Memfd::adopt(std::move(fd)));
  if (memory.size() != size) {
    return fail(ErrorCode::ProtocolViolation,
                fmt::format("a state's memfd has {} bytes; its STATE_FD frame says {}",
                            memory.size(), size));
  }
  if (Status const sealed = memory.seal(); !sealed && !memory.sealed()) {
    return fail(ErrorCode::ProtocolViolation,
                fmt::format("a state's memfd cannot be sealed, so it could change while it is "
                            "read ({}); unmap it before it is sent",
                            sealed.error().message()));
  }
  TRY_ASSIGN(std::uint32_t const checksum, checksum_of(memory));
  return State(format, std::make_shared<os::Memfd const>(std::move(memory)), checksum);
}

}  // namespace aether::relay
