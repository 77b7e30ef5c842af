// SPDX-License-Identifier: Apache-2.0
#include "streams.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

namespace aether::load {

Streams::Streams(Options options) : options_(std::move(options)), begin_(Clock::now()) {
  clients_.resize(static_cast<std::size_t>(options_.clients));
  epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
}

int Streams::run() {
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    clients_[i].fd = begin_connect(options_, false);
    epoll_event event{.events = EPOLLOUT, .data = {.u64 = i}};
    if (clients_[i].fd >= 0)
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, clients_[i].fd, &event);
    else
      clients_[i].state = State::Ended;
  }
  auto const over = begin_ + nanoseconds(static_cast<std::int64_t>(options_.seconds * 1e9));
  std::array<epoll_event, 256> events{};
  while (interrupted == 0 && Clock::now() < over) {
    int const count = ::epoll_wait(epoll_, events.data(), events.size(), 50);
    for (int i = 0; i < count; ++i)
      on_event(clients_[events[static_cast<std::size_t>(i)].data.u64]);
  }
  print();
  return 0;
}

void Streams::on_event(Client& client) {
  if (client.state == State::Connecting) {
    on_connected(client);
  } else if (client.state != State::Ended) {
    read(client);
  }
}

void Streams::on_connected(Client& client) {
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(client.fd, SOL_SOCKET, SO_ERROR, &error, &size);
  ssize_t const sent = error != 0 ? -1
                                  : ::send(client.fd, options_.request.data(),
                                           options_.request.size(), MSG_NOSIGNAL);
  if (sent != static_cast<ssize_t>(options_.request.size())) {
    client.refused = true;
    return end(client);
  }
  client.state = State::Greeting;
  epoll_event event{.events = EPOLLIN,
                    .data = {.u64 = static_cast<std::uint64_t>(&client - clients_.data())}};
  ::epoll_ctl(epoll_, EPOLL_CTL_MOD, client.fd, &event);
}

void Streams::read(Client& client) {
  std::array<char, 16384> buffer{};
  ssize_t const got = ::recv(client.fd, buffer.data(), buffer.size(), 0);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) return end(client);
  client.pending.append(buffer.data(), static_cast<std::size_t>(got));
  if (client.state == State::Greeting) take_greeting(client);
  if (client.state != State::Open) return;
  if (options_.stream == Stream::Sse) {
    take_lines(client);
  } else {
    take_frames(client);
  }
}

void Streams::take_greeting(Client& client) {
  std::size_t const head = client.pending.find("\r\n\r\n");
  if (head == std::string::npos) return;
  std::string_view const wanted = options_.stream == Stream::Sse ? "HTTP/1.1 200" : "HTTP/1.1 101";
  if (!client.pending.starts_with(wanted)) {
    client.refused = true;
    return end(client);
  }
  client.pending.erase(0, head + 4);
  client.state = State::Open;
  client.heard = Clock::now();
}

/// Lines of `data: N`; the sizes of chunks stand on lines of their own and are passed over.
void Streams::take_lines(Client& client) {
  std::size_t begin = 0;
  for (std::size_t end; (end = client.pending.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    std::string_view const line = std::string_view(client.pending).substr(begin, end - begin);
    if (line.starts_with("data: ")) take_number(client, line.substr(6));
    if (line == "0\r") client.closed_well = true;
  }
  client.pending.erase(0, begin);
}

/// RFC 6455, section 5.2: from a server, not masked. Only short frames are expected.
void Streams::take_frames(Client& client) {
  std::size_t begin = 0;
  std::string_view const all = client.pending;
  while (all.size() >= begin + 2) {
    unsigned const opcode = static_cast<unsigned char>(all[begin]) & 0x0fU;
    std::size_t const size = static_cast<unsigned char>(all[begin + 1]) & 0x7fU;
    if (all.size() < begin + 2 + size) break;
    if (opcode == 1) take_number(client, all.substr(begin + 2, size));
    if (opcode == 8) client.closed_well = true;
    begin += 2 + size;
  }
  client.pending.erase(0, begin);
}

void Streams::take_number(Client& client, std::string_view text) {
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  if (client.last != 0 && number != client.last + 1) ++client.gaps;
  client.last = number;
  ++client.events;
  auto const now = Clock::now();
  client.silence = std::max(client.silence, nanoseconds(now - client.heard));
  client.heard = now;
}

void Streams::end(Client& client) {
  client.state = State::Ended;
  client.ended = Clock::now();
  ::close(client.fd);
  client.fd = -1;
}

void Streams::print() const {
  std::uint64_t refused = 0;
  std::uint64_t alive = 0;
  std::uint64_t told = 0;
  std::uint64_t cut = 0;
  std::uint64_t gaps = 0;
  std::uint64_t events = 0;
  nanoseconds silence{};
  double first_end = 0;
  for (Client const& client : clients_) {
    bool const open = client.state == State::Open;
    bool const ended = client.state == State::Ended;
    if (client.events == 0 && !open) ++refused;
    if (open) ++alive;
    if (ended && client.events > 0) ++(client.closed_well ? told : cut);
    gaps += client.gaps;
    events += client.events;
    silence = std::max(silence, client.silence);
    double const at = std::chrono::duration<double>(client.ended - begin_).count();
    if (ended && client.events > 0) first_end = first_end == 0 ? at : std::min(first_end, at);
  }
  fmt::print(
      "{{\"clients\": {}, \"refused\": {}, \"alive\": {}, \"cut\": {}, \"closed_by_message\": {}, "
      "\"gaps\": {}, \"events\": {}, \"longest_silence_ms\": {:.1f}, \"first_end_s\": {:.3f}, "
      "\"seconds\": {:.3f}}}\n",
      clients_.size(), refused, alive, cut, told, gaps, events,
      static_cast<double>(silence.count()) / 1e6, first_end,
      std::chrono::duration<double>(Clock::now() - begin_).count());
}

}  // namespace aether::load
