// SPDX-License-Identifier: Apache-2.0
// Listeners with one socket that the kernel cannot have twice: nothing to steer.
#pragma once
#include <memory>
#include <utility>

#include "steer/listener.h"
#include "steer/steering.h"

namespace aether::steer {

/// Abstract names, which exist once: one socket, nothing to steer.
class AbstractSteering final : public Steering {
 public:
  [[nodiscard]] static std::unique_ptr<AbstractSteering> make(ListenSpec const& spec);

  [[nodiscard]] Address bound() const override { return spec_.address; }
  [[nodiscard]] Result<Lane> open_lane() override;
  Status direct_to(Lane const&) override { return {}; }
  [[nodiscard]] bool ends_cleanly(Lane const&, Lane const&) const override { return true; }
  Status end_lane(Lane& lane, Lane const* steered) override;
  [[nodiscard]] bool moves_queue(Lane const&, Lane const&) const override { return false; }
  Status reconcile(std::span<Lane const>, Lane const*) override { return {}; }
  [[nodiscard]] bool revive(Lane const&) override { return false; }
  void close(std::span<Lane> lanes) override;

 private:
  explicit AbstractSteering(ListenSpec const& spec) : spec_(spec) {}
  ListenSpec spec_;
};

/// A socket made by someone else: given on as it is, and left to its maker in the end.
class AdoptedSteering final : public Steering {
 public:
  explicit AdoptedSteering(Address address) : address_(std::move(address)) {}

  [[nodiscard]] Address bound() const override { return address_; }
  [[nodiscard]] Result<Lane> open_lane() override;
  Status direct_to(Lane const&) override { return {}; }
  [[nodiscard]] bool ends_cleanly(Lane const&, Lane const&) const override { return true; }
  Status end_lane(Lane&, Lane const*) override { return {}; }
  [[nodiscard]] bool moves_queue(Lane const&, Lane const&) const override { return false; }
  Status reconcile(std::span<Lane const>, Lane const*) override { return {}; }
  [[nodiscard]] bool revive(Lane const&) override { return false; }
  void close(std::span<Lane> lanes) override;

 private:
  Address address_;
};

}  // namespace aether::steer
