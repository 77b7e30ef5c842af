// SPDX-License-Identifier: Apache-2.0
// Unix paths: each lane is bound to a hidden name beside the path, and the path is a hard link to
// the one that receives. Cutover: link a temporary name, rename it over the path, which is one
// step for whoever connects. The hidden names stay, so that a rollback is the same move backwards.
// The path is never unlinked before the end, and no program knows it as the name of its own
// socket, so an exit handler that unlinks getsockname() does no harm.
//
// Names in the folder: ".NAME.aether-PID-N" (what getsockname() says) and the same with ".keep".
// Mode and owner of the path are kept over cutovers.
#pragma once
#include <sys/stat.h>

#include <memory>

#include "steer/listener.h"
#include "steer/steering.h"

namespace aether::steer {

class UnixSteering final : public Steering {
 public:
  struct Opened {
    std::unique_ptr<UnixSteering> steering;
    Lane first;
  };
  /// AddressInUse if somebody listens on the path; a file that nobody listens on is replaced.
  [[nodiscard]] static Result<Opened> open(ListenSpec const& spec);

  [[nodiscard]] Address bound() const override { return spec_.address; }
  [[nodiscard]] Result<Lane> open_lane() override;
  Status direct_to(Lane const& lane) override;
  [[nodiscard]] bool ends_cleanly(Lane const&, Lane const&) const override { return true; }
  Status end_lane(Lane& lane, Lane const* steered) override;
  [[nodiscard]] bool moves_queue(Lane const&, Lane const&) const override { return false; }
  Status reconcile(std::span<Lane const> lanes, Lane const* steered) override;
  [[nodiscard]] bool revive(Lane const&) override { return false; }
  void close(std::span<Lane> lanes) override;

 private:
  explicit UnixSteering(ListenSpec const& spec) : spec_(spec) {}
  Status open_folder();
  Status claim_path() const;
  void sweep() const;
  Status bind_hidden(Lane& lane);
  Status keep_mode(Lane const& lane) const;
  [[nodiscard]] bool is_public(Lane const& lane) const;
  void remove_names(Lane const& lane) const;

  ListenSpec spec_;
  std::string folder_path_;  ///< With a closing '/'; empty: the working folder.
  std::string base_name_;
  os::UniqueFd folder_;
  std::uint64_t lanes_made_ = 0;
};

}  // namespace aether::steer
