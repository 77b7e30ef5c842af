// SPDX-License-Identifier: Apache-2.0
#include "clone/image_manifest.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include <fmt/format.h>

#include "base/checksum.h"

namespace aether::clone {
namespace {

constexpr std::string_view kHead = "aether-image 1";
constexpr std::string_view kSeal = "seal ";
constexpr std::array<std::string_view, 8> kRights{
    "Uid:", "Gid:", "Groups:", "CapPrm:", "CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:"};

std::string_view next_fact(std::string_view& text) {
  std::string_view const line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(line.size() + 1, text.size()));
  return line;
}

std::string_view next_field(std::string_view& line) {
  std::string_view const word = line.substr(0, line.find(' '));
  line.remove_prefix(std::min(word.size() + 1, line.size()));
  return word;
}

template <typename Number>
bool take_field(std::string_view& line, Number& number, int base = 10) {
  std::string_view const word = next_field(line);
  auto const [end, failed] = std::from_chars(word.data(), word.data() + word.size(), number, base);
  return failed == std::errc{} && end == word.data() + word.size() && !word.empty();
}

bool take_thread_fact(std::string_view line, ImageManifest& manifest) {
  pid_t number = 0;
  std::uint64_t address = 0;
  if (!take_field(line, number) || !take_field(line, address, 16) || number <= 0) return false;
  manifest.threads.push_back(number);
  manifest.number_addresses[number] = address;
  return true;
}

bool take_listener_fact(std::string_view line, ImageManifest& manifest) {
  ImageListener listener;
  int ipv6 = 0;
  int only = 0;
  if (!take_field(line, listener.port) || !take_field(line, ipv6) || !take_field(line, only))
    return false;
  listener.ipv6 = ipv6 != 0;
  listener.only_ipv6 = only != 0;
  manifest.listeners.push_back(listener);
  return true;
}

bool take_file_fact(std::string_view line, ImageManifest& manifest) {
  ImageManifest::File file;
  if (!take_field(line, file.size) || !take_field(line, file.checksum, 16)) return false;
  // Of its own folder, and nothing else.
  bool const is_name = !line.empty() && !line.starts_with('.') && !line.contains('/');
  if (is_name) manifest.files[std::string(line)] = file;
  return is_name;
}

bool take_fact(std::string_view line, ImageManifest& manifest) {
  std::string_view const what = next_field(line);
  if (what == "thread") return take_thread_fact(line, manifest);
  if (what == "listener") return take_listener_fact(line, manifest);
  if (what == "file") return take_file_fact(line, manifest);
  if (what == "port") return take_field(line, manifest.port);
  if (what == "key") manifest.key.emplace_back(line);
  if (what == "note") manifest.notes.emplace_back(line);
  if (what == "stdout") manifest.stdout_name = line;
  if (what == "stderr") manifest.stderr_name = line;
  if (what == "ready") manifest.ready_name = line;
  if (what == "rights") manifest.rights = line;
  return true;
}

}  // namespace

std::string key_name(ImageKey const& key) {
  std::uint32_t forth = 0;
  std::uint32_t back = ~0U;
  for (std::size_t i = 0; i < key.size(); ++i) {
    forth = crc32c(key[i] + "\n", forth);
    back = crc32c(key[key.size() - 1 - i] + "\r", back);
  }
  return fmt::format("{:08x}{:08x}", forth, back);
}

std::string write_manifest(ImageManifest const& manifest) {
  std::string text = fmt::format("{}\n", kHead);
  for (std::string line : manifest.key) {
    std::ranges::replace(line, '\n', ' ');
    text += fmt::format("key {}\n", line);
  }
  for (pid_t const thread : manifest.threads) {
    auto const address = manifest.number_addresses.find(thread);
    text += fmt::format("thread {} {:x}\n", thread,
                        address == manifest.number_addresses.end() ? 0 : address->second);
  }
  for (ImageListener const& one : manifest.listeners)
    text += fmt::format("listener {} {:d} {:d}\n", one.port, one.ipv6, one.only_ipv6);
  text +=
      fmt::format("port {}\nstdout {}\nstderr {}\nready {}\nrights {}\n", manifest.port,
                  manifest.stdout_name, manifest.stderr_name, manifest.ready_name, manifest.rights);
  for (std::string line : manifest.notes) {
    std::ranges::replace(line, '\n', ' ');
    text += fmt::format("note {}\n", line);
  }
  for (auto const& [name, file] : manifest.files)
    text += fmt::format("file {} {:x} {}\n", file.size, file.checksum, name);
  return text + fmt::format("{}{:08x}\n", kSeal, crc32c(text));
}

Result<ImageManifest> read_manifest(std::string_view text) {
  auto const torn = [] { return fail(ErrorCode::ChecksumMismatch, "its manifest is not whole"); };
  std::size_t const at = text.rfind(kSeal);
  bool const is_line = at != std::string_view::npos && at > 0 && text[at - 1] == '\n';
  if (!is_line || !text.ends_with('\n')) return torn();
  std::uint32_t seal = 0;
  std::string_view rest = text.substr(at + kSeal.size());
  std::string_view line = next_fact(rest);
  if (!take_field(line, seal, 16) || !rest.empty()) return torn();
  text = text.substr(0, at);
  if (crc32c(text) != seal || next_fact(text) != kHead) return torn();
  ImageManifest manifest;
  while (!text.empty())
    if (!take_fact(next_fact(text), manifest)) return torn();
  if (manifest.threads.empty()) return torn();
  return manifest;
}

std::string rights_of(std::string_view status) {
  std::string rights;
  while (!status.empty()) {
    std::string_view const line = next_fact(status);
    bool const is_one =
        std::ranges::any_of(kRights, [&](std::string_view name) { return line.starts_with(name); });
    if (is_one) rights += fmt::format("{}{}", rights.empty() ? "" : "; ", line);
  }
  for (char& byte : rights)
    if (byte == '\t') byte = ' ';
  while (rights.ends_with(' ')) rights.pop_back();
  return rights;
}

}  // namespace aether::clone
