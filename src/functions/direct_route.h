// SPDX-License-Identifier: Apache-2.0
// DirectRoute: the listener of a function whose instances answer their clients themselves, with
// nothing between. Aether opens it and holds it; instances inherit it.
//
// Each revision has a lane, a listening socket of its own for the same address (steer/listener.h),
// which all of its instances share, its template included. So a revision that is being made ready
// gets no connection before it is steered to; what comes before the first one waits in a lane that
// no process has. While no instance of the steered revision serves, that its lane can be read is
// the demand: connections wait in the kernel's queue. While one serves, the lane is not looked at.
//
// Loop thread only.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/event.h"
#include "async/offload.h"
#include "async/task_group.h"
#include "functions/direct_way.h"
#include "steer/listener.h"
#include "steer/rescue.h"

namespace aether::functions {

class DirectRoute final : public DirectWay {
 public:
  /// Holds the port on all addresses from here on. AddressInUse, ListenFailed.
  [[nodiscard]] static Result<std::unique_ptr<DirectRoute>> open(async::Executor executor,
                                                                 std::uint16_t port, Wanted wanted);
  ~DirectRoute() override;

  [[nodiscard]] bool has_own_listeners() const override { return false; }
  [[nodiscard]] Result<std::optional<supervise::PassedListener>> lane(RevisionId revision) override;
  [[nodiscard]] std::uint64_t inode(RevisionId revision) const override;
  [[nodiscard]] Status steer_to(RevisionId revision) override;
  void introduce(RevisionId revision, int socket) override;
  void farewell(RevisionId revision) override;
  void add(InstanceId instance, RevisionId revision,
           std::vector<os::UniqueFd> listeners = {}) override;
  void remove(InstanceId instance) override;
  // The queue is everybody's: whoever does not take from it leaves it to the others.
  void pause(InstanceId) override {}
  void resume(InstanceId) override {}
  [[nodiscard]] bool queue_empty(RevisionId revision, InstanceId instance = {}) const override;
  [[nodiscard]] std::uint32_t queued_at(InstanceId) const override { return 0; }
  [[nodiscard]] std::uint32_t queued() const override;
  [[nodiscard]] async::Task<std::optional<std::uint32_t>> connections(
      std::vector<pid_t> tree) override;
  [[nodiscard]] std::optional<std::uint64_t> given() const override { return std::nullopt; }
  void refuse_waiting() override;
  void retire(RevisionId revision) override;
  [[nodiscard]] async::Task<void> close(Duration limit) override;
  [[nodiscard]] async::Task<void> stop() override;

 private:
  DirectRoute(async::Executor executor, steer::ListenerGroup group, std::uint16_t port,
              Wanted wanted);
  async::Task<void> watch();
  async::Task<void> retire_lane(RevisionId revision);
  /// An old revision of which nobody serves any more, and whose template may serve again.
  async::Task<void> bring_over(RevisionId revision);
  void bring_over_abandoned(RevisionId revision);
  [[nodiscard]] bool serves(RevisionId revision) const;
  void look_at(RevisionId revision);
  void changed();

  std::uint16_t port_;
  Wanted wanted_;
  std::optional<steer::ListenerGroup> group_;  ///< None: closed.
  os::UniqueFd watched_;                       ///< The steered lane, of our own.
  std::map<InstanceId, RevisionId> serving_;
  async::Event changed_;
  steer::Rescue rescue_;
  async::ThreadPool counting_;
  async::TaskGroup tasks_;
};

}  // namespace aether::functions
