// SPDX-License-Identifier: Apache-2.0
// Steering: how lanes are made and how the kernel is told which one receives. One kind for each
// way the kernel has: ReuseportSteering, UnixSteering, FixedSteering. Used by ListenerGroup only.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/ids.h"
#include "base/result.h"
#include "os/unique_fd.h"
#include "steer/split.h"

namespace aether::steer {

/// One listening socket of a listener, and the revision that it was given to (0: none yet).
struct Lane {
  RevisionId revision;
  os::UniqueFd fd;
  std::uint64_t inode = 0;
  /// Names of a unix lane's file in its folder: what getsockname() tells the program, and a second
  /// one that the program does not know and so cannot unlink.
  std::string shown_name;
  std::string kept_name;
};

class Steering {
 public:
  virtual ~Steering() = default;

  [[nodiscard]] virtual Address bound() const = 0;
  /// A new lane that receives nothing until direct_to().
  [[nodiscard]] virtual Result<Lane> open_lane() = 0;
  /// What is new goes to this lane from now on. Safe to repeat.
  virtual Status direct_to(Lane const& lane) = 0;
  /// Connections of this machine to itself that come from `source_port` go to `lane` from the next
  /// direct_to() on, whoever is steered to; 0: none do. Where it cannot be, nothing happens.
  virtual void admit(Lane const& /*lane*/, std::uint16_t /*source_port*/) {}
  /// From the next direct_to() on, the lane directed to gets only its part of what is new, and
  /// `rest` the others; null: it gets everything. False if that cannot be here.
  [[nodiscard]] virtual bool leave_rest(Lane const* rest, Split const& /*split*/) {
    return rest == nullptr;
  }
  /// False if ending the lane would open a moment in which what is new could go elsewhere than to
  /// `steered`; opening one more lane before makes it true.
  [[nodiscard]] virtual bool ends_cleanly(Lane const& lane, Lane const& steered) const = 0;
  /// Ends the lane for everyone who holds it, then directs to `steered` again (null: to none).
  virtual Status end_lane(Lane& lane, Lane const* steered) = 0;
  /// Whether the kernel moves what waits in `lane` to `steered` when the lane is ended.
  [[nodiscard]] virtual bool moves_queue(Lane const& lane, Lane const& steered) const = 0;
  /// Learns from the kernel what others did to the address; mends what `steered` should be.
  /// The caller has taken out lanes that left LISTEN.
  virtual Status reconcile(std::span<Lane const> lanes, Lane const* steered) = 0;
  /// Makes a lane that its program shut down listen again, in place. False if that cannot be done.
  [[nodiscard]] virtual bool revive(Lane const& lane) = 0;
  /// The last call: frees the address.
  virtual void close(std::span<Lane> lanes) = 0;

  /// Place of a socket in the kernel's group, and sockets of others in it.
  [[nodiscard]] virtual std::optional<std::size_t> index_of(Lane const&) const { return {}; }
  [[nodiscard]] virtual std::vector<std::uint64_t> foreign_sockets() const { return {}; }
};

/// The socket's inode, as in "socket:[inode]".
[[nodiscard]] Result<std::uint64_t> inode_of(int fd);

}  // namespace aether::steer
