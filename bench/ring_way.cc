// SPDX-License-Identifier: Apache-2.0
#include "bench/ring_way.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <vector>

#include "base/result.h"
#include "ring/ring.h"

namespace aether::bench {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kCapacity = 4 << 20;  // The default of orchestrator.shm_buffer_size.
constexpr std::size_t kBatch = 64;

class RingWay final : public Way {
 public:
  RingWay(ring::Checksum checksum, ring::Peer peer) : memory_(make(checksum)), peer_(peer) {}

  void begin_writing() override { out_.emplace(or_throw(ring::Producer::attach(memory_.ring()))); }
  void begin_reading() override {
    in_.emplace(or_throw(ring::Consumer::attach(memory_.ring(), peer_)));
  }
  void write(std::span<std::byte const> message) override { or_throw(out_->send(1, message, 60s)); }
  void write_more(std::span<std::byte const> message) override {
    if (message.size() > 64 << 10) return write(message);
    auto room = or_throw(out_->claim(1, 3, message.size()));
    while (!room) {
      out_->flush();
      or_throw(out_->wait_room(message.size(), 60s));
      room = or_throw(out_->claim(1, 3, message.size()));
    }
    std::memcpy(room->data(), message.data(), message.size());
    out_->commit(message.size());
    if (++unflushed_ % kBatch == 0) out_->flush();
  }
  void finish() override { out_->flush(); }
  std::uint64_t read(bool sleep) override {
    std::uint64_t first = 0;
    bool whole = false;
    while (!whole) {
      std::size_t const got = or_throw(in_->drain(1, [&](ring::Message const& each) {
        if (each.first()) std::memcpy(&first, each.payload.data(), sizeof first);
        whole = each.last();
      }));
      if (got == 0) pause(sleep);
    }
    return first;
  }
  void read_many(std::size_t count) override {
    due_ += count;
    while (whole_ < due_) {
      std::size_t const got = or_throw(
          in_->drain(kBatch, [&](ring::Message const& each) { whole_ += each.last() ? 1 : 0; }));
      if (got == 0) or_throw(in_->wait(60s));
    }
  }

 private:
  static ring::RingMemory make(ring::Checksum checksum) {
    ring::RingSpec const spec{.capacity = kCapacity, .checksum = checksum};
    return or_throw(ring::RingMemory::create(std::span(&spec, 1)));
  }
  void pause(bool sleep) {
    if (!sleep) return;
    in_->set_spins(0);
    or_throw(in_->wait(60s));
  }

  ring::RingMemory memory_;
  ring::Peer peer_;
  std::optional<ring::Producer> out_;
  std::optional<ring::Consumer> in_;
  std::size_t unflushed_ = 0;
  std::size_t due_ = 0;
  std::size_t whole_ = 0;
};

[[noreturn]] void give_up(char const* what) {
  std::perror(what);
  std::exit(1);
}

// A stream of bytes by the kernel: messages of one size.
class StreamWay final : public Way {
 public:
  StreamWay(int reading, int writing) : reading_(reading), writing_(writing) {}

  void write(std::span<std::byte const> message) override {
    size_announced(message.size());
    while (!message.empty()) {
      ssize_t const written = ::write(writing_, message.data(), message.size());
      if (written <= 0) give_up("write");
      message = message.subspan(static_cast<std::size_t>(written));
    }
  }
  std::uint64_t read(bool /*sleep*/) override {
    if (buffer_.empty()) learn_size();
    take();
    std::uint64_t first = 0;
    std::memcpy(&first, buffer_.data(), sizeof first);
    return first;
  }
  void read_many(std::size_t count) override {
    if (buffer_.empty()) learn_size();
    for (std::size_t each = 0; each < count; ++each) take();
  }

 private:
  // The first thing through it is how large the messages are.
  void size_announced(std::size_t size) {
    if (std::exchange(announced_, true)) return;
    if (::write(writing_, &size, sizeof size) != sizeof size) give_up("write");
  }
  void learn_size() {
    std::size_t size = 0;
    if (::read(reading_, &size, sizeof size) != sizeof size) give_up("read");
    buffer_.resize(size);
  }
  void take() {
    for (std::size_t at = 0; at < buffer_.size();) {
      ssize_t const got = ::read(reading_, buffer_.data() + at, buffer_.size() - at);
      if (got <= 0) give_up("read");
      at += static_cast<std::size_t>(got);
    }
  }

  int reading_;
  int writing_;
  bool announced_ = false;
  std::vector<std::byte> buffer_;
};

std::unique_ptr<Way> make_tcp() {
  int const listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener, generic, size) != 0 || ::listen(listener, 1) != 0) give_up("listen");
  ::getsockname(listener, generic, &size);
  int const writing = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::connect(writing, generic, size) != 0) give_up("connect");
  int const reading = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  int const yes = 1;
  ::setsockopt(writing, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  ::close(listener);
  return std::make_unique<StreamWay>(reading, writing);
}

}  // namespace

std::unique_ptr<Way> make_way(std::string const& name) {
  using ring::Checksum;
  using ring::Peer;
  int ends[2];
  if (name == "ring") return std::make_unique<RingWay>(Checksum::Crc32, Peer::Hostile);
  if (name == "ring-trusted") return std::make_unique<RingWay>(Checksum::Crc32, Peer::Trusted);
  if (name == "ring-crc32c") return std::make_unique<RingWay>(Checksum::Crc32c, Peer::Hostile);
  if (name == "ring-unchecked") return std::make_unique<RingWay>(Checksum::None, Peer::Hostile);
  if (name == "tcp") return make_tcp();
  if (name == "pipe" && ::pipe2(ends, O_CLOEXEC) == 0)
    return std::make_unique<StreamWay>(ends[0], ends[1]);
  if (name == "unix" && ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0)
    return std::make_unique<StreamWay>(ends[0], ends[1]);
  return nullptr;
}

}  // namespace aether::bench
