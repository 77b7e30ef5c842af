// SPDX-License-Identifier: Apache-2.0
#include "functions/gateway_backend.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

namespace aether::functions {

Status Upstream::connect(std::uint16_t port) {
  os::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail(system_error("socket"));
  int const on = 1;
  (void)::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int const begun = ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address));
  if (begun != 0 && errno != EINPROGRESS) {
    int const reason = errno;
    return fail(ErrorCode::Unreachable,
                system_error_from(reason, "connect", fmt::format("127.0.0.1:{}", port)).message(),
                reason);
  }
  return stream.open(std::move(fd), *this);
}

void Upstream::woken() {
  if (stream.readable() || stream.peer_closed() || stream.broken()) home_.drop(*this);
}

void Upstream::due() {
  home_.drop(*this);
}

std::unique_ptr<Upstream> GatewayBackend::take_kept() {
  while (!kept_.empty()) {
    // The last one: the others' time runs out when they are too many.
    std::unique_ptr<Upstream> upstream = std::move(kept_.back());
    kept_.pop_back();
    bool const good = !upstream->stream.peer_closed() && !upstream->stream.readable();
    poller_.clear_alarm(*upstream);
    if (good) return upstream;
    poller_.bury(std::move(upstream));
  }
  return nullptr;
}

Result<std::unique_ptr<Upstream>> GatewayBackend::connect() {
  auto upstream = std::make_unique<Upstream>(poller_, *this);
  TRY(upstream->connect(port));
  return upstream;
}

void GatewayBackend::keep(std::unique_ptr<Upstream> upstream) {
  if (!takes_requests() || kept_.size() >= kKeptConnectionsMax) return;
  upstream->used_before = true;
  upstream->stream.watch_by(*upstream);
  poller_.set_alarm(*upstream, poller_.turn() + limits_.kept_timeout);
  kept_.push_back(std::move(upstream));
}

void GatewayBackend::drop(Upstream& upstream) {
  auto const found =
      std::ranges::find(kept_, &upstream, [](auto const& kept) { return kept.get(); });
  // It may be in use: this wake is from before it was taken.
  if (found == kept_.end()) return;
  poller_.bury(std::move(*found));
  kept_.erase(found);
}

}  // namespace aether::functions
