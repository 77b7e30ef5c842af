// SPDX-License-Identifier: Apache-2.0
#include "functions/ready_socket.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <vector>

#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/log.h"
#include "functions/handler_hooks.h"
#include "os/unix_socket.h"

namespace aether::functions {
namespace {

/// Of what comes after the word, or as an answer.
constexpr std::size_t kRestMax = 256;
/// For tasks that wait for nothing outside once they are cancelled.
constexpr Duration kCloseLimit = std::chrono::seconds(1);
/// Until connections are looked for again when there was no descriptor for one.
constexpr Duration kAcceptAgain = std::chrono::milliseconds(100);
/// A whole deploy of copies may connect before the loop turns.
constexpr int kBacklog = 1024;

}  // namespace

ReadyWord::Verdict ReadyWord::push(std::string_view bytes) {
  for (char const byte : bytes) {
    if (nonsense_) break;
    if (matched_ == kReadyWord.size()) {
      if (rest_.size() < kRestMax) rest_ += byte;
    } else if (byte == kReadyWord[matched_]) {
      ++matched_;
    } else {
      nonsense_ = true;
    }
  }
  if (nonsense_) return Verdict::Nonsense;
  return matched_ == kReadyWord.size() ? Verdict::Ready : Verdict::More;
}

Result<std::unique_ptr<ReadySocket>> ReadySocket::open(async::Executor executor, std::string path,
                                                       Ready ready) {
  TRY_ASSIGN(os::UniqueFd listener, os::listen_unix(path, os::UnixKind::Stream, 0600, kBacklog));
  return std::unique_ptr<ReadySocket>(
      new ReadySocket(executor, std::move(path), std::move(listener), std::move(ready)));
}

ReadySocket::ReadySocket(async::Executor executor, std::string path, os::UniqueFd listener,
                         Ready ready)
    : path_(std::move(path)),
      listener_(std::move(listener)),
      ready_(std::move(ready)),
      tasks_(executor, "ready socket") {
  tasks_.spawn("accept", accept_all());
}

ReadySocket::~ReadySocket() {
  ::unlink(path_.c_str());
}

ReadySocket::Accepted ReadySocket::accept_one() {
  auto accepted = os::accept_unix(listener_.get());
  if (!accepted) {
    log::warn("{}: {}", path_, accepted.error().describe());
    return Accepted::Failed;
  }
  if (!*accepted) return Accepted::None;
  auto const who = os::peer_credentials((*accepted)->get());
  if (!who || peers_.size() >= kReadyConnectionsMax) return Accepted::One;
  auto peer = std::make_shared<Peer>();
  peer->fd = std::move(**accepted);
  peers_.emplace(who->pid, peer);
  tasks_.spawn("connection", hear(who->pid, std::move(peer)));
  return Accepted::One;
}

async::Task<void> ReadySocket::accept_all() {
  int const fd = listener_.get();
  while (true) {
    co_await async::readable(fd);
    Accepted const accepted = accept_one();
    if (accepted == Accepted::Failed) co_await async::sleep_for(kAcceptAgain);
  }
}

async::Task<void> ReadySocket::hear(pid_t pid, std::shared_ptr<Peer> peer) {
  int const fd = peer->fd.get();
  while (true) {
    co_await async::readable(fd);
    std::array<char, 512> bytes{};
    ssize_t const count = ::recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (count <= 0) break;
    take(pid, *peer, {bytes.data(), static_cast<std::size_t>(count)});
  }
  auto const [begin, end] = peers_.equal_range(pid);
  auto const own = std::find_if(begin, end, [&](auto const& one) { return one.second == peer; });
  if (own != end) peers_.erase(own);
}

void ReadySocket::take(pid_t pid, Peer& peer, std::string_view bytes) {
  if (peer.told) {
    peer.answers += bytes.substr(0, kRestMax - std::min(kRestMax, peer.answers.size()));
    heard_.set();
    heard_.reset();
    return;
  }
  auto const verdict = peer.word.push(bytes);
  if (peer.judged || verdict == ReadyWord::Verdict::More) return;
  peer.judged = true;
  if (verdict == ReadyWord::Verdict::Ready)
    ready_(pid);
  else
    log::warn("process {} ({}) said something else than READY on AETHER_SOCKET", pid, path_);
}

bool ReadySocket::has_hook(pid_t pid) const {
  auto const [begin, end] = peers_.equal_range(pid);
  return std::any_of(begin, end,
                     [](auto const& one) { return one.second->word.rest().contains(kHooksWord); });
}

std::vector<std::uint64_t> ReadySocket::inodes_of(pid_t pid) const {
  std::vector<std::uint64_t> inodes;
  auto const [begin, end] = peers_.equal_range(pid);
  std::for_each(begin, end, [&](auto const& one) {
    struct stat socket{};
    if (::fstat(one.second->fd.get(), &socket) == 0) inodes.push_back(socket.st_ino);
  });
  return inodes;
}

void ReadySocket::add(pid_t pid, os::UniqueFd connection) {
  if (!connection || peers_.size() >= kReadyConnectionsMax) return;
  auto peer = std::make_shared<Peer>();
  peer->fd = std::move(connection);
  peer->judged = true;
  peers_.emplace(pid, peer);
  tasks_.spawn("connection", hear(pid, std::move(peer)));
}

void ReadySocket::tell(pid_t pid, std::string_view line) {
  // A copy connected before it ran: it waits here, if the loop has not come to it yet.
  while (accept_one() == Accepted::One) continue;
  auto const [begin, end] = peers_.equal_range(pid);
  std::for_each(begin, end, [&](auto const& one) {
    one.second->told = true;
    one.second->answers.clear();
    // Shorter than any socket's buffer; a peer whose buffer is full does not read.
    (void)::send(one.second->fd.get(), line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  });
}

async::Task<bool> ReadySocket::answered(pid_t pid, Duration limit) {
  Instant const deadline = async::deadline_in(limit);
  while (true) {
    auto const [begin, end] = peers_.equal_range(pid);
    bool const has_answered = std::any_of(
        begin, end, [](auto const& one) { return one.second->answers.contains(kHookAnswer); });
    if (has_answered || begin == end) co_return has_answered;
    bool const more = co_await heard_.wait_until(deadline);
    if (!more) co_return false;
  }
}

async::Task<void> ReadySocket::close() {
  async::Task<std::vector<std::string>> stopping = tasks_.stop(kCloseLimit);
  co_await std::move(stopping);
  peers_.clear();
}

}  // namespace aether::functions
