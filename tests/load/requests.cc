// SPDX-License-Identifier: Apache-2.0
#include "requests.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

#include "answer.h"

namespace aether::load {
namespace {

constexpr std::array<std::string_view, kOutcomes> kOutcomeNames{
    "ok",      "refused",     "connect_reset", "send_failed", "reset",     "empty",
    "partial", "idle_closed", "timeout",       "bad_status",  "wrong_body"};

/// Interrupts and timeouts are looked at this often at least.
constexpr nanoseconds kPollMax = std::chrono::milliseconds(5);

}  // namespace

Requests::Requests(Options options) : options_(std::move(options)) {
  connections_.resize(static_cast<std::size_t>(options_.clients));
  epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  for (std::size_t i = 0; i < connections_.size(); ++i) free_.push_back(i);
}

int Requests::run() {
  begin_ = Clock::now();
  auto const end = begin_ + nanoseconds(static_cast<std::int64_t>(options_.seconds * 1e9));
  while (true) {
    auto const now = Clock::now();
    bool const over = interrupted != 0 || now >= end || reached_max();
    if (over && busy_ == 0) break;
    // Requests in flight are waited for, but not for ever.
    if (over && now >= end + timeout()) break;
    if (!over) begin_due(now);
    poll();
    expire(now);
  }
  print();
  return 0;
}

nanoseconds Requests::timeout() const {
  return nanoseconds(static_cast<std::int64_t>(options_.timeout * 1e9));
}

/// The n-th request is due at n / rate, the first one at once.
Clock::time_point Requests::due_at(std::uint64_t request) const {
  double const seconds = static_cast<double>(request) / options_.rate;
  return begin_ + nanoseconds(static_cast<std::int64_t>(seconds * 1e9));
}

bool Requests::reached_max() const {
  return options_.requests_max > 0 && begun_ >= options_.requests_max;
}

void Requests::begin_due(Clock::time_point now) {
  while (!free_.empty() && !reached_max()) {
    if (options_.rate <= 0) {
      begin(now);
      continue;
    }
    // Open loop: who is late is counted from when the request was due, not from when it was sent.
    auto const due = due_at(begun_);
    if (due > now) return;
    begin(due);
  }
}

void Requests::begin(Clock::time_point due) {
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

void Requests::connect(std::size_t index) {
  Connection& connection = connections_[index];
  connection.used = false;
  connection.fd = begin_connect(options_, !options_.keep_alive);
  connection.state = Connection::State::Connecting;
  if (connection.fd < 0) return finish(index, errno == ECONNREFUSED ? kRefused : kConnectReset);
  epoll_event event{.events = EPOLLOUT, .data = {.u64 = index}};
  ::epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.fd, &event);
}

void Requests::send_request(std::size_t index) {
  Connection& connection = connections_[index];
  connection.state = Connection::State::Waiting;
  ssize_t const sent =
      ::send(connection.fd, options_.request.data(), options_.request.size(), MSG_NOSIGNAL);
  if (sent != static_cast<ssize_t>(options_.request.size()))
    return finish(index, connection.used ? kIdleClosed : kSendFailed);
  epoll_event event{.events = EPOLLIN, .data = {.u64 = index}};
  ::epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.fd, &event);
}

void Requests::poll() {
  std::array<epoll_event, 256> events{};
  nanoseconds wait = kPollMax;
  // With nobody free, the next request can only begin when an answer has come.
  if (options_.rate > 0 && !free_.empty())
    wait = std::clamp(nanoseconds(due_at(begun_) - Clock::now()), nanoseconds(0), kPollMax);
  timespec const brief{.tv_sec = 0, .tv_nsec = wait.count()};
  int const count = ::epoll_pwait2(epoll_, events.data(), events.size(), &brief, nullptr);
  for (int i = 0; i < count; ++i) on_event(events[static_cast<std::size_t>(i)].data.u64);
}

void Requests::on_event(std::size_t index) {
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

void Requests::on_connected(std::size_t index) {
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(connections_[index].fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) return finish(index, error == ECONNREFUSED ? kRefused : kConnectReset);
  send_request(index);
}

void Requests::on_readable(std::size_t index) {
  Connection& connection = connections_[index];
  std::array<char, 16384> buffer{};
  ssize_t const got = ::recv(connection.fd, buffer.data(), buffer.size(), 0);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) return finish(index, failure_of(connection, got < 0));
  connection.answer.append(buffer.data(), static_cast<std::size_t>(got));
  if (!is_complete(connection.answer)) return;
  if (!options_.tally.empty()) ++tally_[std::string(header(connection.answer, options_.tally))];
  finish(index, verdict_of(connection.answer));
}

Outcome Requests::failure_of(Connection const& connection, bool reset) {
  if (!connection.answer.empty()) return kPartial;
  if (connection.used) return kIdleClosed;
  return reset ? kReset : kEmpty;
}

Outcome Requests::verdict_of(std::string_view answer) const {
  if (!is_success(answer)) return kBadStatus;
  bool const right = options_.body_is.empty() || body(answer) == header(answer, options_.body_is);
  return right ? kOk : kWrongBody;
}

void Requests::finish(std::size_t index, Outcome outcome) {
  Connection& connection = connections_[index];
  ++outcomes_[outcome];
  --busy_;
  if (outcome == kOk) latency_.add(Clock::now() - connection.due);
  if (options_.keep_alive && outcome == kOk && !wants_close(connection.answer)) {
    connection.used = true;
    connection.state = Connection::State::Idle;
  } else {
    close(connection);
  }
  free_.push_back(index);
}

void Requests::close(Connection& connection) {
  if (connection.fd >= 0) ::close(connection.fd);
  connection.fd = -1;
  connection.state = Connection::State::Closed;
  connection.used = false;
}

void Requests::expire(Clock::time_point now) {
  if (now < next_expiry_) return;
  next_expiry_ = now + std::chrono::milliseconds(100);
  for (std::size_t i = 0; i < connections_.size(); ++i) {
    Connection const& one = connections_[i];
    bool const waits =
        one.state == Connection::State::Connecting || one.state == Connection::State::Waiting;
    if (waits && now - one.sent > timeout()) finish(i, kTimeout);
  }
}

void Requests::print() const {
  double const took = std::chrono::duration<double>(Clock::now() - begin_).count();
  std::uint64_t failed = busy_;  // Never answered.
  std::string buckets;
  for (unsigned i = 0; i < kOutcomes; ++i) {
    if (i != kOk) failed += outcomes_[i];
    buckets += fmt::format("\"{}\": {}, ", kOutcomeNames[i], outcomes_[i]);
  }
  std::string tallied;
  for (auto const& [value, count] : tally_)
    tallied += fmt::format("{}\"{}\": {}", tallied.empty() ? "" : ", ", value, count);
  fmt::print(
      "{{\"requests\": {}, \"failed\": {}, {}\"hung\": {}, \"idle_closes\": {}, "
      "\"seconds\": {:.3f}, \"rate\": {:.1f}, \"p50_us\": {}, \"p99_us\": {}, "
      "\"p999_us\": {}, \"max_us\": {}, \"tally\": {{{}}}}}\n",
      begun_, failed, buckets, busy_, idle_closes_, took, static_cast<double>(begun_) / took,
      latency_.quantile(0.5), latency_.quantile(0.99), latency_.quantile(0.999), latency_.max(),
      tallied);
}

}  // namespace aether::load
