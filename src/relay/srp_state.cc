// SPDX-License-Identifier: Apache-2.0
#include "relay/srp_state.h"

#include <array>
#include <utility>

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
  TRY_ASSIGN(os::Mapping const mapping, os::Mapping::map_read(memory.fd(), size));
  std::uint32_t const checksum = aether::crc32c(mapping.bytes());
  return State(format, std::make_shared<os::Memfd const>(std::move(memory)), checksum);
}

}  // namespace aether::relay
