// SPDX-License-Identifier: Apache-2.0
// Which listening sockets a process tree holds, from /proc/PID/net (man 5 proc_pid_net).
#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <map>
#include <set>

#include <fmt/format.h>

#include "os/accepting.h"
#include "os/proc.h"

namespace aether::os {
namespace {

constexpr std::string_view kListenState = "0A";         // TCP_LISTEN
constexpr std::uint64_t kAcceptsConnections = 0x10000;  // __SO_ACCEPTCON, in /proc/net/unix

using Holders = std::map<std::uint64_t, pid_t>;  ///< socket inode to a process that holds it

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  while (true) {
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    if (line.empty()) return words;
    std::size_t const end = std::min(line.find(' '), line.size());
    words.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
}

template <class Number>
Number to_number(std::string_view text, int base) {
  Number value{};
  std::from_chars(text.data(), text.data() + text.size(), value, base);
  return value;
}

/// "0100007F:1F90" or 32 digits for IPv6: words in our byte order as the kernel has them in memory.
std::string inet_address(std::string_view hex) {
  std::size_t const colon = std::min(hex.find(':'), hex.size());
  std::size_t const digits = colon;
  std::array<std::uint32_t, 4> words{};
  for (std::size_t i = 0; i < words.size() && 8 * i < digits; ++i)
    words[i] = to_number<std::uint32_t>(hex.substr(8 * i, 8), 16);
  auto const port = to_number<std::uint16_t>(hex.substr(std::min(colon + 1, hex.size())), 16);
  std::array<char, INET6_ADDRSTRLEN> text{};
  bool const v6 = digits > 8;
  ::inet_ntop(v6 ? AF_INET6 : AF_INET, words.data(), text.data(), text.size());
  return v6 ? fmt::format("[{}]:{}", text.data(), port) : fmt::format("{}:{}", text.data(), port);
}

void add(std::vector<ListeningSocket>& found, Holders const& holders, std::uint64_t inode,
         std::string address) {
  auto const holder = holders.find(inode);
  if (holder == holders.end()) return;
  found.push_back({.pid = holder->second, .inode = inode, .address = std::move(address)});
}

void read_inet(std::string const& path, Holders const& holders,
               std::vector<ListeningSocket>& found) {
  constexpr std::size_t kAddress = 1;
  constexpr std::size_t kState = 3;
  constexpr std::size_t kInode = 9;
  std::ifstream table(path);
  std::string line;
  std::getline(table, line);  // headings
  while (std::getline(table, line)) {
    auto const words = words_of(line);
    // The listening ones come first (net/ipv4/tcp_ipv4.c, tcp_seq_start): the rest may be long.
    if (words.size() <= kInode || words[kState] != kListenState) return;
    add(found, holders, to_number<std::uint64_t>(words[kInode], 10), inet_address(words[kAddress]));
  }
}

void read_unix(std::string const& path, Holders const& holders,
               std::vector<ListeningSocket>& found) {
  constexpr std::size_t kFlags = 3;
  constexpr std::size_t kInode = 6;
  constexpr std::size_t kPath = 7;
  std::ifstream table(path);
  std::string line;
  std::getline(table, line);  // headings
  while (std::getline(table, line)) {
    auto const words = words_of(line);
    if (words.size() <= kPath) continue;
    if ((to_number<std::uint64_t>(words[kFlags], 16) & kAcceptsConnections) == 0) continue;
    auto const name = line.substr(static_cast<std::size_t>(words[kPath].data() - line.data()));
    add(found, holders, to_number<std::uint64_t>(words[kInode], 10), fmt::format("unix:{}", name));
  }
}

void add_sockets_of(pid_t pid, Holders& holders) {
  constexpr std::string_view kPrefix = "socket:[";
  for (int fd : list_fds(pid)) {
    std::string const link = read_fd_link(pid, fd);
    if (!link.starts_with(kPrefix)) continue;
    auto const inode = to_number<std::uint64_t>(std::string_view(link).substr(kPrefix.size()), 10);
    holders.try_emplace(inode, pid);
  }
}

}  // namespace

Result<std::vector<ListeningSocket>> listening_sockets(std::span<pid_t const> tree) {
  Holders holders;
  for (pid_t pid : tree) add_sockets_of(pid, holders);
  std::vector<ListeningSocket> found;
  std::set<std::uint64_t> networks;
  for (pid_t pid : tree) {
    auto const network = read_network_namespace(pid);
    if (!network || !networks.insert(*network).second) continue;
    read_inet(fmt::format("/proc/{}/net/tcp", pid), holders, found);
    read_inet(fmt::format("/proc/{}/net/tcp6", pid), holders, found);
    read_unix(fmt::format("/proc/{}/net/unix", pid), holders, found);
  }
  return found;
}

Result<bool> listens(std::span<pid_t const> tree) {
  TRY_ASSIGN(std::vector<ListeningSocket> const found, listening_sockets(tree));
  return !found.empty();
}

}  // namespace aether::os
