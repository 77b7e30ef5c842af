// SPDX-License-Identifier: Apache-2.0
#include "functions/handler.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "functions/handler_hooks.h"
#include "os/file.h"
#include "os/unique_fd.h"

namespace aether::functions {
namespace {

/// Interpreter and argument of a #! line, as long as the kernel reads it (BINPRM_BUF_SIZE).
constexpr std::size_t kHeadMax = 256;
constexpr int kPortFirst = 20000;
constexpr int kPortTries = 2000;

Failure cannot_run(std::string const& path, std::string_view why) {
  return fail(ErrorCode::CommandNotExecutable, fmt::format("handler {} {}", path, why));
}

Result<std::string> read_head(std::string const& path) {
  os::UniqueFd const file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return fail(system_error("open", path));
  std::array<char, kHeadMax> bytes{};
  ssize_t const count = ::read(file.get(), bytes.data(), bytes.size());
  if (count < 0) return fail(system_error("read", path));
  return std::string(bytes.data(), static_cast<std::size_t>(count));
}

Status check_head(std::string const& path, std::string_view head) {
  if (head.starts_with("\x7f"
                       "ELF"))
    return {};
  if (head.empty()) return cannot_run(path, "is empty");
  if (!head.starts_with("#!"))
    return cannot_run(path,
                      "has no #! line that names its interpreter; begin it with one, such as "
                      "#!/usr/bin/env python3");
  if (head.substr(0, head.find('\n')).ends_with('\r'))
    return cannot_run(path,
                      "has a #! line that ends in a carriage return, as Windows writes it; "
                      "convert its line ends: sed -i 's/\\r$//'");
  return {};
}

bool can_bind(std::uint16_t port) {
  os::UniqueFd const socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in name{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {INADDR_ANY}};
  return socket && ::bind(socket.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)) == 0;
}

/// The first port that the kernel gives to outgoing connections.
int outgoing_ports_begin() {
  std::ifstream range("/proc/sys/net/ipv4/ip_local_port_range");
  int first = 0;
  return range >> first ? first : 32768;
}

bool has(config::Variables const& variables, std::string_view name) {
  return std::ranges::any_of(variables, [&](auto const& one) { return one.first == name; });
}

void set(config::Variables& variables, std::string name, std::string value) {
  std::erase_if(variables, [&](auto const& one) { return one.first == name; });
  variables.emplace_back(std::move(name), std::move(value));
}

void load_hooks(config::Variables& variables, std::string_view sdk) {
  std::vector<std::string> known;
  for (auto const& [name, value] : variables) known.push_back(fmt::format("{}={}", name, value));
  for (std::string const& entry : hook_variables(known, std::string(sdk))) {
    std::size_t const equals = entry.find('=');
    set(variables, entry.substr(0, equals), entry.substr(equals + 1));
  }
}

}  // namespace

Result<config::Command> handler_command(std::string const& path) {
  struct stat file{};
  if (::stat(path.c_str(), &file) != 0) {
    if (errno == ENOENT || errno == ENOTDIR)
      return fail(ErrorCode::CommandNotFound,
                  fmt::format("handler {} does not exist; correct handler_path", path));
    return fail(system_error("stat", path));
  }
  if (S_ISDIR(file.st_mode)) return cannot_run(path, "is a folder; name the program in it");
  if (!S_ISREG(file.st_mode)) return cannot_run(path, "is no regular file");
  if (::access(path.c_str(), X_OK) != 0) {
    bool const readable = ::access(path.c_str(), R_OK) == 0;
    if (path.ends_with(".py") && readable) return config::Command{"python3", path};
    return cannot_run(path, readable ? "is not executable; run chmod +x on it"
                                     : "may neither be read nor executed by Aether's user");
  }
  // What may be executed but not read is a binary, or fails when it starts.
  if (::access(path.c_str(), R_OK) == 0) {
    TRY_ASSIGN(std::string const head, read_head(path));
    TRY(check_head(path, head));
  }
  return config::Command{path};
}

config::Variables handler_environment(HandlerFacts const& facts,
                                      config::Variables const& configured) {
  config::Variables variables = configured;
  std::string const port = fmt::format("{}", facts.port);
  if (!has(variables, "HOST")) set(variables, "HOST", "127.0.0.1");
  set(variables, "PORT", port);
  set(variables, "AETHER_TRIGGER_PORT", port);
  set(variables, "AETHER_FUNCTION_ID", std::string(facts.function));
  set(variables, "AETHER_SOCKET", std::string(facts.socket));
  if (facts.has_ring)
    set(variables, "AETHER_RING", fmt::format("{}", fmt::join(kRingDescriptors, ",")));
  // An io_uring cannot be copied; libuv does without (UV_USE_IO_URING, libuv 1.45).
  if (!has(variables, "UV_USE_IO_URING")) set(variables, "UV_USE_IO_URING", "0");
  if (!facts.sdk.empty()) load_hooks(variables, facts.sdk);
  return variables;
}

Result<std::uint16_t> free_inner_port() {
  int const end = std::clamp(outgoing_ports_begin(), kPortFirst + kPortTries, 65536);
  unsigned chance = 0;
  if (::getrandom(&chance, sizeof(chance), 0) != sizeof(chance)) chance = 0;
  int const count = end - kPortFirst;
  for (int i = 0; i < kPortTries; ++i) {
    // Anywhere, so that Aethers beside each other do not try the same ones.
    int const port = kPortFirst + static_cast<int>((chance + static_cast<unsigned>(i)) %
                                                   static_cast<unsigned>(count));
    if (can_bind(static_cast<std::uint16_t>(port))) return static_cast<std::uint16_t>(port);
  }
  return fail(ErrorCode::LimitReached,
              fmt::format("no port was free for a handler: {} from {} on were tried", kPortTries,
                          kPortFirst));
}

}  // namespace aether::functions
