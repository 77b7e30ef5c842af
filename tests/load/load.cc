// SPDX-License-Identifier: Apache-2.0
// aether-load HOST:PORT [options]: HTTP requests at a fixed rate or as fast as they are answered,
// with every way to fail in a bucket of its own. Nothing is retried: what a client would see is
// what is counted. Latency counts from the time a request was due, so that a stall is not hidden
// (the "coordinated omission" of closed loops). Ends at --seconds, --requests or SIGTERM, and
// prints one JSON object.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;

struct Options {
  sockaddr_in target{};
  bool keep_alive = false;
  double rate = 0;  ///< Requests a second; 0: each client sends its next when it has an answer.
  int clients = 32;
  double seconds = 10;
  std::uint64_t requests_max = 0;
  double timeout = 10;
  std::string request;
  std::string tally;  ///< A response header whose values are counted.
};

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
  kOutcomes
};
constexpr std::array<std::string_view, kOutcomes> kOutcomeNames{
    "ok",    "refused", "connect_reset", "send_failed", "reset",
    "empty", "partial", "idle_closed",   "timeout",     "bad_status"};

/// Latencies in buckets 5 % wide, from 1 us on.
class Histogram {
 public:
  void add(nanoseconds latency) {
    double const us = std::max(1.0, static_cast<double>(latency.count()) / 1000.0);
    auto const bucket = static_cast<std::size_t>(std::log(us) / std::log(1.05));
    ++counts_[std::min(bucket, counts_.size() - 1)];
    ++total_;
    max_ = std::max(max_, us);
  }
  [[nodiscard]] double quantile(double q) const {
    auto const wanted = static_cast<std::uint64_t>(std::ceil(q * static_cast<double>(total_)));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      seen += counts_[i];
      if (seen >= wanted && seen > 0)
        return std::min(max_, std::pow(1.05, static_cast<double>(i + 1)));
    }
    return 0;
  }
  [[nodiscard]] double max() const { return max_; }

 private:
  std::array<std::uint64_t, 512> counts_{};
  std::uint64_t total_ = 0;
  double max_ = 0;
};

struct Connection {
  enum class State : unsigned char { Closed, Connecting, Waiting, Idle };
  int fd = -1;
  State state = State::Closed;
  bool used = false;  ///< Has answered before.
  Clock::time_point due{};
  Clock::time_point sent{};
  std::string answer;
};

sig_atomic_t volatile interrupted = 0;

class Load {
 public:
  explicit Load(Options options) : options_(std::move(options)) {
    connections_.resize(static_cast<std::size_t>(options_.clients));
    epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
    for (std::size_t i = 0; i < connections_.size(); ++i) free_.push_back(i);
  }

  int run() {
    begin_ = Clock::now();
    auto const end = begin_ + nanoseconds(static_cast<std::int64_t>(options_.seconds * 1e9));
    while (true) {
      auto const now = Clock::now();
      bool const over = interrupted != 0 || now >= end ||
                        (options_.requests_max > 0 && begun_ >= options_.requests_max);
      if (over && busy_ == 0) break;
      // Requests in flight are waited for, but not for ever.
      if (over && now >= end + timeout()) break;
      if (!over) begin_due(now);
      poll(now);
      expire(now);
    }
    print();
    return 0;
  }

 private:
  [[nodiscard]] nanoseconds timeout() const {
    return nanoseconds(static_cast<std::int64_t>(options_.timeout * 1e9));
  }

  void begin_due(Clock::time_point now) {
    if (options_.rate <= 0) {
      while (!free_.empty() && !reached_max()) begin(now);
      return;
    }
    double const elapsed = std::chrono::duration<double>(now - begin_).count();
    // The n-th request is due at n / rate, the first one at once.
    auto const wanted = static_cast<std::uint64_t>(elapsed * options_.rate) + 1;
    while (begun_ < wanted && !free_.empty() && !reached_max()) {
      auto const at =
          begin_ +
          nanoseconds(static_cast<std::int64_t>(static_cast<double>(begun_) / options_.rate * 1e9));
      begin(at);
    }
  }

  [[nodiscard]] bool reached_max() const {
    return options_.requests_max > 0 && begun_ >= options_.requests_max;
  }

  void begin(Clock::time_point due) {
    std::size_t const index = free_.front();
    free_.pop_front();
    ++begun_;
    ++busy_;
    Connection& connection = connections_[index];
    connection.due = due;
    connection.sent = Clock::now();
    connection.answer.clear();
    if (connection.state == Connection::State::Idle) {
      send_request(index);
    } else {
      connect(index);
    }
  }

  void connect(std::size_t index) {
    Connection& connection = connections_[index];
    connection.used = false;
    connection.fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int const on = 1;
    ::setsockopt(connection.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (!options_.keep_alive) {
      // No TIME_WAIT: at these rates the client's ports would run out.
      linger const reset{.l_onoff = 1, .l_linger = 0};
      ::setsockopt(connection.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    auto const* address = reinterpret_cast<sockaddr const*>(&options_.target);
    connection.state = Connection::State::Connecting;
    if (::connect(connection.fd, address, sizeof options_.target) != 0 && errno != EINPROGRESS) {
      finish(index, errno == ECONNREFUSED ? kRefused : kConnectReset);
      return;
    }
    epoll_event event{.events = EPOLLOUT, .data = {.u64 = index}};
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.fd, &event);
  }

  void send_request(std::size_t index) {
    Connection& connection = connections_[index];
    connection.state = Connection::State::Waiting;
    ssize_t const sent =
        ::send(connection.fd, options_.request.data(), options_.request.size(), MSG_NOSIGNAL);
    if (sent != static_cast<ssize_t>(options_.request.size())) {
      finish(index, connection.used ? kIdleClosed : kSendFailed);
      return;
    }
    epoll_event event{.events = EPOLLIN, .data = {.u64 = index}};
    ::epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.fd, &event);
  }

  void poll(Clock::time_point now) {
    std::array<epoll_event, 256> events{};
    // Short, because requests are due between events; the clock is looked at each time.
    int const wait = options_.rate > 0 || now < begin_ ? 0 : 1;
    timespec const brief{.tv_sec = 0, .tv_nsec = wait == 0 ? 200'000 : 1'000'000};
    int const count = ::epoll_pwait2(epoll_, events.data(), events.size(), &brief, nullptr);
    for (int i = 0; i < count; ++i) on_event(events[static_cast<std::size_t>(i)].data.u64);
  }

  void on_event(std::size_t index) {
    Connection& connection = connections_[index];
    switch (connection.state) {
      case Connection::State::Connecting:
        return on_connected(index);
      case Connection::State::Waiting:
        return on_readable(index);
      case Connection::State::Idle:
        // Closed by the server while no request was on its way: what keep-alive allows.
        close(connection);
        ++idle_closes_;
        return;
      case Connection::State::Closed:
        return;
    }
  }

  void on_connected(std::size_t index) {
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(connections_[index].fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
      finish(index, error == ECONNREFUSED ? kRefused : kConnectReset);
    } else {
      send_request(index);
    }
  }

  void on_readable(std::size_t index) {
    Connection& connection = connections_[index];
    std::array<char, 16384> buffer{};
    ssize_t const got = ::recv(connection.fd, buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
      finish(index, failure_of(connection, got < 0));
      return;
    }
    connection.answer.append(buffer.data(), static_cast<std::size_t>(got));
    if (complete(connection.answer)) {
      tally(connection.answer);
      finish(index, connection.answer.starts_with("HTTP/1.1 2") ||
                            connection.answer.starts_with("HTTP/1.0 2")
                        ? kOk
                        : kBadStatus);
    }
  }

  [[nodiscard]] static Outcome failure_of(Connection const& connection, bool reset) {
    if (!connection.answer.empty()) return kPartial;
    if (connection.used) return kIdleClosed;
    return reset ? kReset : kEmpty;
  }

  /// Content-Length only: the servers of the tests all send it.
  [[nodiscard]] static bool complete(std::string_view answer) {
    std::size_t const head = answer.find("\r\n\r\n");
    if (head == std::string_view::npos) return false;
    std::string_view const length = header(answer.substr(0, head + 2), "content-length");
    std::size_t const body = length.empty() ? 0 : std::strtoull(length.data(), nullptr, 10);
    return answer.size() >= head + 4 + body;
  }

  [[nodiscard]] static std::string_view header(std::string_view head, std::string_view name) {
    for (std::size_t at = head.find("\r\n"); at != std::string_view::npos && at + 2 < head.size();
         at = head.find("\r\n", at + 2)) {
      std::string_view const line = head.substr(at + 2);
      if (line.size() <= name.size() || line[name.size()] != ':') continue;
      bool const same = ::strncasecmp(line.data(), name.data(), name.size()) == 0;
      if (!same) continue;
      std::string_view value = line.substr(name.size() + 1);
      value = value.substr(0, value.find("\r\n"));
      return value.substr(std::min(value.find_first_not_of(' '), value.size()));
    }
    return {};
  }

  void tally(std::string_view answer) {
    if (options_.tally.empty()) return;
    ++tally_[std::string(header(answer.substr(0, answer.find("\r\n\r\n") + 2), options_.tally))];
  }

  [[nodiscard]] static bool wants_close(std::string_view answer) {
    std::string_view const value =
        header(answer.substr(0, answer.find("\r\n\r\n") + 2), "connection");
    return value.size() >= 5 && ::strncasecmp(value.data(), "close", 5) == 0;
  }

  void finish(std::size_t index, Outcome outcome) {
    Connection& connection = connections_[index];
    ++outcomes_[outcome];
    --busy_;
    if (outcome == kOk) latency_.add(Clock::now() - connection.due);
    bool const keep = options_.keep_alive && outcome == kOk && !wants_close(connection.answer);
    if (keep) {
      connection.used = true;
      connection.state = Connection::State::Idle;
    } else {
      close(connection);
    }
    free_.push_back(index);
  }

  static void close(Connection& connection) {
    if (connection.fd >= 0) ::close(connection.fd);
    connection.fd = -1;
    connection.state = Connection::State::Closed;
    connection.used = false;
  }

  void expire(Clock::time_point now) {
    if (now < next_expiry_) return;
    next_expiry_ = now + std::chrono::milliseconds(100);
    for (std::size_t i = 0; i < connections_.size(); ++i) {
      Connection const& one = connections_[i];
      bool const waits =
          one.state == Connection::State::Connecting || one.state == Connection::State::Waiting;
      if (waits && now - one.sent > timeout()) finish(i, kTimeout);
    }
  }

  void print() const {
    double const took = std::chrono::duration<double>(Clock::now() - begin_).count();
    std::uint64_t failed = busy_;  // Never answered.
    std::string buckets;
    for (unsigned i = 0; i < kOutcomes; ++i) {
      if (i != kOk) failed += outcomes_[i];
      buckets += fmt::format("\"{}\": {}, ", kOutcomeNames[i], outcomes_[i]);
    }
    std::string tallied;
    for (auto const& [value, count] : tally_) {
      tallied += fmt::format("{}\"{}\": {}", tallied.empty() ? "" : ", ", value, count);
    }
    fmt::print(
        "{{\"requests\": {}, \"failed\": {}, {}\"hung\": {}, \"idle_closes\": {}, "
        "\"seconds\": {:.3f}, \"rate\": {:.1f}, \"p50_us\": {:.0f}, \"p99_us\": {:.0f}, "
        "\"p999_us\": {:.0f}, \"max_us\": {:.0f}, \"tally\": {{{}}}}}\n",
        begun_, failed, buckets, busy_, idle_closes_, took, static_cast<double>(begun_) / took,
        latency_.quantile(0.5), latency_.quantile(0.99), latency_.quantile(0.999), latency_.max(),
        tallied);
  }

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

[[noreturn]] void usage() {
  fmt::print(stderr,
             "usage: aether-load HOST:PORT [--keep-alive] [--rate N] [--clients N] [--seconds S]\n"
             "                   [--requests N] [--timeout S] [--path /] [--tally HEADER]\n"
             "HOST is an IPv4 address of this machine.\n");
  std::exit(2);
}

Options parse(std::vector<std::string> const& words) {
  Options options;
  std::string path = "/";
  std::string host;
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::string const& word = words[i];
    auto const value = [&]() -> std::string const& {
      if (++i >= words.size()) usage();
      return words[i];
    };
    if (word == "--keep-alive")
      options.keep_alive = true;
    else if (word == "--rate")
      options.rate = std::stod(value());
    else if (word == "--clients")
      options.clients = std::max(1, std::stoi(value()));
    else if (word == "--seconds")
      options.seconds = std::stod(value());
    else if (word == "--requests")
      options.requests_max = std::stoull(value());
    else if (word == "--timeout")
      options.timeout = std::stod(value());
    else if (word == "--path")
      path = value();
    else if (word == "--tally")
      options.tally = value();
    else if (word.starts_with("--") || !host.empty())
      usage();
    else
      host = word;
  }
  std::size_t const colon = host.find(':');
  if (colon == std::string::npos) usage();
  options.target.sin_family = AF_INET;
  options.target.sin_port = htons(static_cast<std::uint16_t>(std::stoi(host.substr(colon + 1))));
  if (::inet_pton(AF_INET, host.substr(0, colon).c_str(), &options.target.sin_addr) != 1) usage();
  options.request = fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: {}\r\n\r\n", path, host,
                                options.keep_alive ? "keep-alive" : "close");
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGTERM, [](int) { interrupted = 1; });
  ::signal(SIGINT, [](int) { interrupted = 1; });
  Load load(parse({argv + 1, argv + argc}));
  return load.run();
}
