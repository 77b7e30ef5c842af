// SPDX-License-Identifier: Apache-2.0
#include "daemon/outer_manager.h"

#include <time.h>

#include <cstdint>
#include <cstdlib>

#include <fmt/format.h>

#include "os/unix_socket.h"

namespace aether::daemon {

OuterManager::OuterManager() {
  char const* const socket = std::getenv("NOTIFY_SOCKET");
  if (socket != nullptr) socket_ = socket;
}

void OuterManager::tell(std::string_view message) const {
  if (socket_.empty()) return;
  auto const connected = os::connect_unix(socket_, os::UnixKind::Datagram);
  if (connected) (void)os::send_with_fds(connected->get(), message);
}

void OuterManager::tell_reloading() const {
  // The manager compares the time with its own signal's (man 5 systemd.service, notify-reload).
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  auto const microseconds = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000U +
                            static_cast<std::uint64_t>(now.tv_nsec) / 1'000U;
  tell(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", microseconds));
}

}  // namespace aether::daemon
