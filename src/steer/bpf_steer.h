// SPDX-License-Identifier: Apache-2.0
// What LookupRouter, its routes and BindRewriters share: the loaded programs of bpf/steer.bpf.c,
// and who has which place in their maps. Lives as long as one of them.
#pragma once
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "os/unique_fd.h"
#include "steer/bpf_kernel.h"
#include "steer/bpf_steer_maps.h"
#include "steer/lookup_router.h"

namespace aether::steer {

/// Numbers given out and taken back. The one that was taken back longest ago comes next, so that
/// nobody in the kernel still looks at it for its last owner.
class FreeNumbers {
 public:
  explicit FreeNumbers(std::uint32_t count);
  [[nodiscard]] std::optional<std::uint32_t> take();
  void give_back(std::uint32_t number) { free_.push_back(number); }

 private:
  std::deque<std::uint32_t> free_;
};

struct LookupRouter::State {
  BpfPrograms programs;
  BpfMemory memory;  ///< aether_routes
  os::UniqueFd link;
  std::uint64_t network = 0;  ///< Cookie of our network namespace.
  std::size_t processors = 1;
  FreeNumbers routes{AETHER_ROUTES};
  FreeNumbers slots{AETHER_SLOTS};

  [[nodiscard]] aether_route& route(std::uint32_t id) const {
    return static_cast<aether_route*>(memory.get())[id];
  }
  /// Puts a socket into the kernel's map. Of nobody, if it fails.
  [[nodiscard]] Result<std::uint32_t> add_socket(int fd);
  /// The same, into a slot that the caller has.
  Status put_socket(std::uint32_t slot, int fd) const;
  void remove_socket(std::uint32_t slot);
  /// False if the socket was closed.
  [[nodiscard]] bool is_open(std::uint32_t slot) const;
  /// New connections given to the socket of this slot.
  [[nodiscard]] std::uint64_t given(std::uint32_t slot) const;
};

/// The network namespace that a socket belongs to. Linux 5.14.
[[nodiscard]] Result<std::uint64_t> network_of(int socket);
/// The kernel's own number of a socket.
[[nodiscard]] Result<std::uint64_t> cookie_of(int socket);

}  // namespace aether::steer
