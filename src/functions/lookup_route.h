// SPDX-License-Identifier: Apache-2.0
// LookupRoute: the way to a function each of whose instances has bound its port itself. The kernel
// gives each new connection to one of the listeners that serve (steer/lookup_router.h); that an
// instance comes, goes or is looked at, and a deploy, is one change of that choice.
//
// While nobody serves, connections wait at a listener of Aether's: that it can be read is the
// demand. They are brought to the first instance that serves over a second connection, by Aether;
// so are clients of a family that the handler does not listen on, and those whom an instance left
// in its queue when it went.
//
// Loop thread only.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/event.h"
#include "async/offload.h"
#include "async/task_group.h"
#include "base/address.h"
#include "functions/direct_way.h"
#include "steer/lookup_router.h"
#include "steer/rescue.h"

namespace aether::functions {

class LookupRoute final : public DirectWay {
 public:
  /// Holds the port on all addresses from here on. AddressInUse, BpfUnavailable.
  [[nodiscard]] static Result<std::unique_ptr<LookupRoute>> open(async::Executor executor,
                                                                 steer::LookupRouter& router,
                                                                 std::uint16_t port, Wanted wanted);
  ~LookupRoute() override;

  [[nodiscard]] bool has_own_listeners() const override { return true; }
  [[nodiscard]] Result<std::optional<supervise::PassedListener>> lane(RevisionId) override {
    return std::optional<supervise::PassedListener>();
  }
  [[nodiscard]] std::uint64_t inode(RevisionId) const override { return 0; }
  [[nodiscard]] Status steer_to(RevisionId revision) override;
  void introduce(RevisionId, int) override {}
  void farewell(RevisionId) override {}
  void add(InstanceId instance, RevisionId revision, std::vector<os::UniqueFd> listeners) override;
  void remove(InstanceId instance) override;
  void pause(InstanceId instance) override;
  void resume(InstanceId instance) override;
  [[nodiscard]] bool queue_empty(RevisionId revision, InstanceId instance) const override;
  [[nodiscard]] std::uint32_t queued_at(InstanceId instance) const override;
  [[nodiscard]] std::uint32_t queued() const override;
  [[nodiscard]] async::Task<std::optional<std::uint32_t>> connections(
      std::vector<pid_t> tree) override;
  [[nodiscard]] std::optional<std::uint64_t> given() const override;
  void refuse_waiting() override;
  void retire(RevisionId) override {}
  [[nodiscard]] async::Task<void> close(Duration limit) override;
  [[nodiscard]] async::Task<void> stop() override;

 private:
  struct Server {
    RevisionId revision;
    std::vector<os::UniqueFd> listeners;  ///< A program may bind one in each of its processes.
    bool paused = false;
  };
  LookupRoute(async::Executor executor, steer::Route route, std::uint16_t port, Wanted wanted);
  [[nodiscard]] bool takes(Server const& server) const;
  [[nodiscard]] Server const* first_server() const;
  /// Tells the kernel who serves now.
  [[nodiscard]] Status apply();
  void applied();
  /// Where one that serves is reached from here.
  [[nodiscard]] Address target() const;
  async::Task<void> watch();
  async::Task<void> bring_in();
  async::Task<void> bring_over(InstanceId instance, os::UniqueFd listener);

  std::uint16_t port_;
  Wanted wanted_;
  std::optional<steer::Route> route_;  ///< None: closed.
  os::UniqueFd waiting_;               ///< Its waiting listener, of our own.
  RevisionId steered_;
  std::map<InstanceId, Server> serving_;
  async::Event changed_;
  steer::Rescue left_;      ///< For the queues of those that went.
  steer::Rescue entrance_;  ///< For who waited at ours.
  async::ThreadPool counting_;
  async::TaskGroup tasks_;
};

}  // namespace aether::functions
