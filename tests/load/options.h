// SPDX-License-Identifier: Apache-2.0
// What the command line of aether-load says.
#pragma once
#include <netinet/in.h>
#include <signal.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace aether::load {

using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;

enum class Stream : unsigned char { None, Sse, WebSocket };

struct Options {
  sockaddr_in target{};
  bool keep_alive = false;
  double rate = 0;  ///< Requests a second; 0: each client sends its next when it has an answer.
  int clients = 32;
  double seconds = 10;
  std::uint64_t requests_max = 0;
  double timeout = 10;
  std::string path = "/";
  std::string host;
  std::string request;
  std::string tally;    ///< A response header whose values are counted.
  std::string body_is;  ///< A response header whose value the body must have.
  Stream stream = Stream::None;
  bool realtime = false;
};

/// Ends the program with its usage if the words make no sense.
[[nodiscard]] Options parse(std::vector<std::string> const& words);
/// A socket that connects without blocking; -1 and errno if it was refused at once. `reset` leaves
/// no TIME_WAIT when it is closed: at high rates the client's ports would run out.
[[nodiscard]] int begin_connect(Options const& options, bool reset);

/// Set by SIGINT and SIGTERM: end now and tell what was seen.
extern sig_atomic_t volatile interrupted;

}  // namespace aether::load
