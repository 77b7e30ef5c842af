// SPDX-License-Identifier: Apache-2.0
// Clients that stay: server-sent events and WebSockets. Each event carries the next number, so that
// a lost, repeated or foreign one shows.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "options.h"

namespace aether::load {

class Streams {
 public:
  explicit Streams(Options options);
  int run();

 private:
  enum class State : unsigned char { Connecting, Greeting, Open, Ended };
  struct Client {
    int fd = -1;
    State state = State::Connecting;
    std::string pending;
    std::uint64_t last = 0;  ///< 0: none yet.
    std::uint64_t events = 0;
    std::uint64_t gaps = 0;
    Clock::time_point heard{};
    Clock::time_point ended{};
    nanoseconds silence{};  ///< The longest between two events.
    bool refused = false;
    bool closed_well = false;  ///< By a close frame, or the last chunk.
  };

  void on_event(Client& client);
  void on_connected(Client& client);
  void read(Client& client);
  void take_greeting(Client& client);
  void take_lines(Client& client);
  void take_frames(Client& client);
  void take_number(Client& client, std::string_view text);
  void end(Client& client);
  void print() const;

  Options options_;
  int epoll_ = -1;
  std::vector<Client> clients_;
  Clock::time_point begin_;
};

}  // namespace aether::load
