// SPDX-License-Identifier: Apache-2.0
// TCP and UDP: lanes are sockets of one SO_REUSEPORT group, and a classic BPF program names the
// place of the one that receives (reuseport_program.h). No privilege is needed.
#pragma once
#include <memory>
#include <optional>

#include "steer/lane_index.h"
#include "steer/listener.h"
#include "steer/sock_diag.h"
#include "steer/socket_address.h"
#include "steer/steering.h"

namespace aether::steer {

class ReuseportSteering final : public Steering {
 public:
  struct Opened {
    std::unique_ptr<ReuseportSteering> steering;
    Lane first;
  };
  /// Binds the first lane and directs to it. The address must be free: SO_REUSEPORT alone would
  /// silently join the group of another program of the same user.
  [[nodiscard]] static Result<Opened> open(ListenSpec const& spec);

  [[nodiscard]] Address bound() const override { return spec_.address; }
  [[nodiscard]] Result<Lane> open_lane() override;
  Status direct_to(Lane const& lane) override;
  void admit(Lane const& lane, std::uint16_t source_port) override {
    guest_ = {.port = source_port, .inode = lane.inode};
  }
  [[nodiscard]] bool leave_rest(Lane const* rest, Split const& split) override;
  [[nodiscard]] bool ends_cleanly(Lane const& lane, Lane const& steered) const override;
  Status end_lane(Lane& lane, Lane const* steered) override;
  [[nodiscard]] bool moves_queue(Lane const& lane, Lane const& steered) const override;
  Status reconcile(std::span<Lane const> lanes, Lane const* steered) override;
  [[nodiscard]] bool revive(Lane const& lane) override;
  void close(std::span<Lane> lanes) override;
  [[nodiscard]] std::optional<std::size_t> index_of(Lane const& lane) const override {
    return index_.index_of(lane.inode);
  }
  [[nodiscard]] std::vector<std::uint64_t> foreign_sockets() const override { return foreign_; }

 private:
  explicit ReuseportSteering(ListenSpec const& spec) : spec_(spec) {}
  [[nodiscard]] Result<os::UniqueFd> make_socket() const;
  Status bind_to(int fd, SocketAddress const& address) const;
  Status listen_on(int fd) const;
  Status bind_exclusively(os::UniqueFd& fd);
  [[nodiscard]] Result<std::vector<std::uint64_t>> members_in_kernel() const;
  void learn_members(std::vector<std::uint64_t> const& in_kernel, std::span<Lane const> lanes,
                     std::uint64_t newest);
  [[nodiscard]] bool is_shared() const { return spec_.mode != ListenMode::Steered; }
  [[nodiscard]] bool is_tcp() const { return spec_.address.transport == Transport::Tcp; }

  ListenSpec spec_;   ///< With the port that is bound.
  BoundSocket self_;  ///< Family, address and flags that a member of the group has.
  LaneIndex index_;
  std::vector<std::uint64_t> foreign_;
  /// Who is let in to a lane that is not steered to (admit).
  struct Guest {
    std::uint16_t port = 0;  ///< 0: nobody.
    std::uint64_t inode = 0;
  };
  Guest guest_;
  /// Who gets what the steered one does not.
  struct Rest {
    std::uint64_t inode = 0;
    int percent = 100;
    Stick stick = Stick::None;
  };
  std::optional<Rest> rest_;
};

}  // namespace aether::steer
