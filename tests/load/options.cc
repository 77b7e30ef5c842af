// SPDX-License-Identifier: Apache-2.0
#include "options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>

#include <fmt/format.h>

namespace aether::load {
namespace {

[[noreturn]] void usage() {
  fmt::print(stderr,
             "usage: aether-load HOST:PORT [--keep-alive] [--rate N] [--clients N] [--seconds S]\n"
             "                   [--requests N] [--timeout S] [--path /] [--tally HEADER]\n"
             "                   [--body-is HEADER] [--stream sse|websocket] [--realtime]\n"
             "HOST is an IPv4 address of this machine.\n");
  std::exit(2);
}

Stream stream_of(std::string const& word) {
  if (word == "sse") return Stream::Sse;
  if (word == "websocket") return Stream::WebSocket;
  usage();
}

void finish(Options& options) {
  std::size_t const colon = options.host.find(':');
  if (colon == std::string::npos) usage();
  std::string const address = options.host.substr(0, colon);
  options.target.sin_family = AF_INET;
  options.target.sin_port =
      htons(static_cast<std::uint16_t>(std::stoi(options.host.substr(colon + 1))));
  if (::inet_pton(AF_INET, address.c_str(), &options.target.sin_addr) != 1) usage();
  std::string_view connection = options.keep_alive ? "keep-alive" : "close";
  // The key of RFC 6455, section 1.3: the answer to it is not checked, so that one will do.
  if (options.stream == Stream::WebSocket)
    connection =
        "Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
  options.request = fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: {}\r\n\r\n",
                                options.path, options.host, connection);
}

}  // namespace

sig_atomic_t volatile interrupted = 0;

Options parse(std::vector<std::string> const& words) {
  Options options;
  using Taker = std::function<void(std::string const&)>;
  std::map<std::string, Taker> const with_value{
      {"--rate", [&](auto const& word) { options.rate = std::stod(word); }},
      {"--clients", [&](auto const& word) { options.clients = std::max(1, std::stoi(word)); }},
      {"--seconds", [&](auto const& word) { options.seconds = std::stod(word); }},
      {"--requests", [&](auto const& word) { options.requests_max = std::stoull(word); }},
      {"--timeout", [&](auto const& word) { options.timeout = std::stod(word); }},
      {"--path", [&](auto const& word) { options.path = word; }},
      {"--tally", [&](auto const& word) { options.tally = word; }},
      {"--body-is", [&](auto const& word) { options.body_is = word; }},
      {"--stream", [&](auto const& word) { options.stream = stream_of(word); }},
  };
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::string const& word = words[i];
    auto const taker = with_value.find(word);
    if (taker != with_value.end() && i + 1 < words.size()) {
      taker->second(words[++i]);
    } else if (word == "--keep-alive") {
      options.keep_alive = true;
    } else if (word == "--realtime") {
      options.realtime = true;
    } else if (word.starts_with("--") || !options.host.empty()) {
      usage();
    } else {
      options.host = word;
    }
  }
  finish(options);
  return options;
}

int begin_connect(Options const& options, bool reset) {
  int const fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int const on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (reset) {
    linger const at_once{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  }
  auto const* address = reinterpret_cast<sockaddr const*>(&options.target);
  if (::connect(fd, address, sizeof options.target) == 0 || errno == EINPROGRESS) return fd;
  int const why = errno;
  ::close(fd);
  errno = why;
  return -1;
}

}  // namespace aether::load
