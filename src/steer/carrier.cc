// SPDX-License-Identifier: Apache-2.0
#include "steer/carrier.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "async/timers.h"
#include "async/wait_fd.h"
#include "os/unix_socket.h"
#include "steer/socket_address.h"

namespace aether::steer {
namespace {

/// Copied at once; allocated only while something is on its way, so that idle connections cost
/// no memory. Below malloc's mmap threshold.
constexpr std::size_t kPieceBytes = 64 * 1024;
/// A record must fit whole: the kernel's default send buffer (net.core.wmem_default) bounds it.
constexpr std::size_t kRecordBytes = 256 * 1024;
/// A unix listener with a full queue refuses a non-blocking connect at once (man 2 connect).
constexpr Duration kConnectPause = std::chrono::milliseconds(5);

/// 0, or the reason why the connection could not be made.
async::Task<int> connect_unix_patiently(int fd, SocketAddress address) {
  while (::connect(fd, address.get(), address.length) != 0) {
    if (errno != EAGAIN) co_return errno;
    co_await async::sleep_for(kConnectPause);
  }
  co_return 0;
}

async::Task<int> connect_inet(int fd, SocketAddress address) {
  if (::connect(fd, address.get(), address.length) == 0) co_return 0;
  if (errno != EINPROGRESS) co_return errno;
  co_await async::writable(fd);
  int reason = 0;
  socklen_t length = sizeof(reason);
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &reason, &length);
  co_return reason;
}

/// One piece, if one is there. False at the end of the stream.
async::Task<bool> carry_piece(int from, int to, Transport transport) {
  std::string buffer(transport == Transport::UnixSeqpacket ? kRecordBytes : kPieceBytes, '\0');
  bool const is_unix = transport != Transport::Tcp;
  auto received = or_throw(
      os::receive_with_fds(from, std::span<char>(buffer), is_unix ? os::kFdsPerMessageMax : 0));
  if (!received) co_return true;
  if (received->bytes == 0) co_return false;
  if (received->bytes_truncated)
    throw Error(ErrorCode::LimitReached,
                fmt::format("a record of more than {} bytes cannot be carried", kRecordBytes));
  std::vector<int> fds;
  for (auto const& fd : received->fds) fds.push_back(fd.get());
  std::string_view rest = std::string_view(buffer).substr(0, received->bytes);
  while (!rest.empty()) {
    auto const sent = or_throw(os::send_with_fds(to, rest, fds));
    if (sent) {
      rest.remove_prefix(*sent);
      fds.clear();
    } else {
      co_await async::writable(to);
    }
  }
  co_return true;
}

/// Cuts the pair unless it was told that all is well.
class CutGuard {
 public:
  explicit CutGuard(CarriedPair const& pair) : pair_(&pair) {}
  CutGuard(CutGuard const&) = delete;
  CutGuard& operator=(CutGuard const&) = delete;
  ~CutGuard() {
    if (pair_ != nullptr) pair_->cut();
  }
  void all_is_well() { pair_ = nullptr; }

 private:
  CarriedPair const* pair_;
};

}  // namespace

void CarriedPair::cut() const {
  ::shutdown(client.get(), SHUT_RDWR);
  ::shutdown(server.get(), SHUT_RDWR);
}

async::Task<os::UniqueFd> connect_within(Address target, Duration deadline) {
  auto const address = or_throw(to_connect_address(target));
  int const type = socket_type(target.transport) | SOCK_CLOEXEC | SOCK_NONBLOCK;
  os::UniqueFd fd(socket(address.family(), type, 0));
  if (!fd) throw system_error("socket", target.text());
  int const yes = 1;
  if (target.transport == Transport::Tcp)
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
  async::Task<int> attempt = target.is_unix() ? connect_unix_patiently(fd.get(), address)
                                              : connect_inet(fd.get(), address);
  auto const reason = co_await async::with_deadline(deadline, std::move(attempt));
  if (!reason)
    throw Error(ErrorCode::Unreachable, fmt::format("connecting to {}: no answer within {}",
                                                    target.text(), format_duration(deadline)));
  if (*reason != 0)
    throw Error(ErrorCode::Unreachable, fmt::format("connecting to {} failed", target.text()),
                *reason);
  co_return fd;
}

async::Task<void> carry(std::shared_ptr<CarriedPair const> pair, Direction direction) {
  int const from = direction == Direction::ToServer ? pair->client.get() : pair->server.get();
  int const to = direction == Direction::ToServer ? pair->server.get() : pair->client.get();
  CutGuard guard(*pair);
  while (true) {
    bool const more = co_await carry_piece(from, to, pair->transport);
    if (!more) break;
    co_await async::readable(from);
  }
  ::shutdown(to, SHUT_WR);
  guard.all_is_well();
}

}  // namespace aether::steer
