// SPDX-License-Identifier: Apache-2.0
#include "clone/mappings.h"

#include <charconv>
#include <optional>

#include <fmt/format.h>

#include "os/file.h"

namespace aether::clone {
namespace {

/// About 700 bytes an area; a process has 65530 at most (vm.max_map_count).
constexpr std::size_t kSmapsBytesMax = std::size_t{64} * 1024 * 1024;
std::string_view next_word(std::string_view& line) {
  auto const begin = line.find_first_not_of(' ');
  if (begin == std::string_view::npos) return line = {};
  auto const end = std::min(line.find(' ', begin), line.size());
  auto const word = line.substr(begin, end - begin);
  line.remove_prefix(end);
  return word;
}

/// "7f00-7f10 rw-p 00000000 00:00 0   [heap]"; nothing if the line is not the first of an area.
std::optional<Mapping> parse_head(std::string_view line) {
  auto const range = next_word(line);
  auto const dash = range.find('-');
  if (dash == std::string_view::npos || range.ends_with(':')) return std::nullopt;
  Mapping area;
  auto const* const end = range.data() + range.size();
  if (std::from_chars(range.data(), range.data() + dash, area.begin, 16).ec != std::errc{} ||
      std::from_chars(range.data() + dash + 1, end, area.end, 16).ec != std::errc{}) {
    return std::nullopt;
  }
  auto const mode = next_word(line);
  if (mode.size() < 4) return std::nullopt;
  area.readable = mode[0] == 'r';
  area.writable = mode[1] == 'w';
  area.executable = mode[2] == 'x';
  area.shared = mode[3] == 's';
  auto const offset = next_word(line);
  std::from_chars(offset.data(), offset.data() + offset.size(), area.offset, 16);
  auto const device = next_word(line);
  auto const inode = next_word(line);
  if (inode != "0") area.file = fmt::format("{} {}", device, inode);
  if (auto const name = line.find_first_not_of(' '); name != std::string_view::npos) {
    area.name = line.substr(name);
  }
  return area;
}

}  // namespace

std::vector<Mapping> parse_mappings(std::string_view smaps) {
  std::vector<Mapping> areas;
  while (!smaps.empty()) {
    auto const line = smaps.substr(0, smaps.find('\n'));
    smaps.remove_prefix(std::min(line.size() + 1, smaps.size()));
    if (line.starts_with("VmFlags:") && !areas.empty()) {
      areas.back().absent_after_fork = line.find(" dc") != std::string_view::npos;
      areas.back().wiped_by_fork = line.find(" wf") != std::string_view::npos;
    } else if (auto area = parse_head(line)) {
      areas.push_back(std::move(*area));
    }
  }
  return areas;
}

Result<std::vector<Mapping>> read_mappings(pid_t pid) {
  TRY_ASSIGN(auto const text, os::read_file(fmt::format("/proc/{}/smaps", pid), kSmapsBytesMax));
  return parse_mappings(text);
}

}  // namespace aether::clone
