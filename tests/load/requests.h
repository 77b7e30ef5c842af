// SPDX-License-Identifier: Apache-2.0
// Clients that ask again and again, and count what they saw of each request. Nothing is retried.
#pragma once
#include <array>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "histogram.h"
#include "options.h"

namespace aether::load {

/// What a client saw of one request.
enum Outcome : unsigned {
  kOk,
  kRefused,       ///< connect: nobody listens
  kConnectReset,  ///< reset while connecting
  kSendFailed,    ///< reset while the request was sent
  kReset,         ///< reset while the answer was awaited, on a fresh connection
  kEmpty,         ///< closed without a byte, on a fresh connection
  kPartial,       ///< closed in the middle of an answer
  kIdleClosed,    ///< closed or reset under a request, on a connection that had been used before
  kTimeout,
  kBadStatus,  ///< answered, but not with 2xx
  kWrongBody,  ///< answered, but not with what the answer's header says
  kOutcomes
};

class Requests {
 public:
  explicit Requests(Options options);
  int run();

 private:
  struct Connection {
    enum class State : unsigned char { Closed, Connecting, Waiting, Idle };
    int fd = -1;
    State state = State::Closed;
    bool used = false;  ///< Has answered before.
    Clock::time_point due{};
    Clock::time_point sent{};
    std::string answer;
  };

  [[nodiscard]] nanoseconds timeout() const;
  [[nodiscard]] Clock::time_point due_at(std::uint64_t request) const;
  [[nodiscard]] bool reached_max() const;
  void begin_due(Clock::time_point now);
  void begin(Clock::time_point due);
  void connect(std::size_t index);
  void send_request(std::size_t index);
  void poll();
  void on_event(std::size_t index);
  void on_connected(std::size_t index);
  void on_readable(std::size_t index);
  [[nodiscard]] static Outcome failure_of(Connection const& connection, bool reset);
  [[nodiscard]] Outcome verdict_of(std::string_view answer) const;
  void finish(std::size_t index, Outcome outcome);
  static void close(Connection& connection);
  void expire(Clock::time_point now);
  void print() const;

  Options options_;
  int epoll_ = -1;
  std::vector<Connection> connections_;
  std::deque<std::size_t> free_;
  std::array<std::uint64_t, kOutcomes> outcomes_{};
  std::map<std::string, std::uint64_t> tally_;
  Histogram latency_;
  Clock::time_point begin_{};
  Clock::time_point next_expiry_{};
  std::uint64_t begun_ = 0;
  std::uint64_t busy_ = 0;
  std::uint64_t idle_closes_ = 0;
};

}  // namespace aether::load
