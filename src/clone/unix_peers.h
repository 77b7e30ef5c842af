// SPDX-License-Identifier: Apache-2.0
// UnixPeers: which unix socket is connected to which, of all in this network namespace
// (man 7 sock_diag, UDIAG_SHOW_PEER). A glimpse.
#pragma once
#include <cstdint>
#include <unordered_map>

#include "base/result.h"

namespace aether::clone {

class UnixPeers {
 public:
  [[nodiscard]] static Result<UnixPeers> read();
  /// Inode of the other side; 0 if there is none, or it is not seen from here.
  [[nodiscard]] std::uint64_t peer_of(std::uint64_t inode) const;

 private:
  std::unordered_map<std::uint64_t, std::uint64_t> peers_;
};

}  // namespace aether::clone
