// SPDX-License-Identifier: Apache-2.0
// Carrying bytes between two connections until both sides are done.
#pragma once
#include <memory>

#include "async/event.h"
#include "async/task.h"
#include "base/address.h"
#include "base/time.h"
#include "os/unique_fd.h"

namespace aether::steer {

/// Two connected, non-blocking sockets of the same kind.
struct CarriedPair {
  os::UniqueFd client;
  os::UniqueFd server;
  Transport transport = Transport::Tcp;
  /// Set by the owner when the client's direction has ended.
  async::Event client_done;

  /// Ends both connections; whoever waits for them wakes up.
  void cut() const;
};

enum class Direction : std::uint8_t { ToServer, ToClient };

/// A non-blocking connection to the address. Throws Error(Unreachable) with the reason, also if it
/// took longer than the deadline.
[[nodiscard]] async::Task<os::UniqueFd> connect_within(Address target, Duration deadline);
/// Copies one way until the sender's end of stream, which is passed on. Whatever else ends it (a
/// reset, a cancellation) cuts the pair, and is thrown.
[[nodiscard]] async::Task<void> carry(std::shared_ptr<CarriedPair const> pair, Direction direction);

}  // namespace aether::steer
