// SPDX-License-Identifier: Apache-2.0
// LaneIndex: the places of sockets in one SO_REUSEPORT group, as the kernel keeps them. Pure.
//
// A steering program answers with a place. Places are given in order of joining; when a socket
// leaves, the last one takes its place (__reuseport_detach_sock in net/core/sock_reuseport.c), so
// that a place which was right before may be wrong after. An answer beyond the end makes the
// kernel choose by hash among all that are left.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace aether::steer {

class LaneIndex {
 public:
  /// A socket's inode.
  using Key = std::uint64_t;

  /// At the end. The key must not be there yet.
  std::size_t join(Key key);
  /// The last takes its place. No-op if it is not there.
  void leave(Key key);
  [[nodiscard]] std::optional<std::size_t> index_of(Key key) const;
  [[nodiscard]] bool contains(Key key) const { return index_of(key).has_value(); }
  [[nodiscard]] std::size_t size() const { return keys_.size(); }
  /// In the kernel's order.
  [[nodiscard]] std::vector<Key> const& keys() const { return keys_; }

  /// Whether `leaving` can go while a program names `steered`, without a moment in which the
  /// kernel would choose another socket. False only if `steered` is last, an earlier one leaves,
  /// and there would be others to choose from: then let one more join first.
  [[nodiscard]] bool leaves_cleanly(Key leaving, Key steered) const;

  bool operator==(LaneIndex const&) const = default;

 private:
  std::vector<Key> keys_;
};

}  // namespace aether::steer
