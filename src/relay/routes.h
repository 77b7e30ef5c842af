// SPDX-License-Identifier: Apache-2.0
// Routes: those listeners of one service that its programs bind themselves (`steer: bpf`), moved
// together; and what each instance has bound. Part of Listeners, which has the others. Loop thread.
#pragma once
#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "async/event.h"
#include "async/task.h"
#include "async/task_group.h"
#include "base/ids.h"
#include "base/result.h"
#include "config/config.h"
#include "os/cgroup.h"
#include "steer/bind_rewriter.h"
#include "steer/rescue.h"
#include "steer/route_group.h"

namespace aether::relay {

/// The one router of this Aether, made when it is first wanted.
using RouterSource = std::function<Result<steer::LookupRouter*>()>;

class Routes {
 public:
  using Wanted = std::vector<config::Listen>;

  explicit Routes(RouterSource router = {}) : router_(std::move(router)) {}

  /// As Listeners; of what is wanted only the listeners with `steer: bpf` matter here.
  [[nodiscard]] Status prepare(Wanted const& wanted);
  void keep(std::vector<Wanted> const& sets);
  [[nodiscard]] bool empty() const { return entries_.empty(); }
  [[nodiscard]] static bool is_route(config::Listen const& listen) {
    return listen.mode == config::ListenMode::Bpf;
  }

  /// Before an instance is started in its group: what it binds of that is found from now on.
  [[nodiscard]] Status attach(InstanceId instance, RevisionId revision, os::Cgroup const& group,
                              Wanted const& wanted);
  /// Looks what the instance has bound. True if it serves each of the addresses that it is to.
  bool look(InstanceId instance, std::span<pid_t const> tree);
  /// The instance says that it is ready: what it has not bound by now it is not expected to.
  void ready(InstanceId instance);
  /// No process of the instance lives.
  void gone(InstanceId instance);
  /// A reason to look again: it has not bound everything, or connections wait that nobody takes,
  /// and have since the question before. Cheap.
  [[nodiscard]] bool looks_stuck(InstanceId instance);

  /// NotReady if the revision said that it is ready and has bound one of these not. Before that,
  /// what is new waits for it.
  [[nodiscard]] Status steer_to(Wanted const& wanted, RevisionId revision);
  [[nodiscard]] Status split(Wanted const& wanted, steer::Split const& split);
  [[nodiscard]] bool queues_empty(RevisionId revision) const;
  [[nodiscard]] std::vector<std::uint16_t> ports(RevisionId revision) const;
  /// See supervise::OwnBinds.
  [[nodiscard]] std::optional<std::uint16_t> own_port(InstanceId instance, std::string const& host,
                                                      std::uint16_t port) const;
  /// Carries what waits in sockets that no program has any more, and what no program took, to
  /// whoever serves, by tasks of `tasks`. To be called when something has changed.
  void carry(async::TaskGroup& tasks, steer::Rescue& rescue);

  struct Info {
    std::string name;
    Address address;
    RevisionId steered;
    steer::QueueDepth queued;   ///< In the sockets of the revision that is steered to.
    steer::QueueDepth waiting;  ///< For somebody to serve.
    std::uint64_t overflows = 0;
    std::vector<steer::RouteShareInfo> shares;
  };
  [[nodiscard]] std::vector<Info> status() const;

 private:
  using GroupPtr = std::shared_ptr<steer::RouteGroup>;
  struct Entry {
    config::Listen wanted;
    GroupPtr group;
    bool served = false;     ///< By some program, at the last look.
    bool is_tended = false;  ///< A task empties the waiting listener.
    bool is_closed = false;
    async::Event changed;  ///< One of these.
  };
  using EntryPtr = std::shared_ptr<Entry>;
  struct Bound {
    RevisionId revision;
    Wanted wanted;
    steer::BindRewriter rewriter;
    std::uint32_t waited = 0;  ///< In its queues, at the last look.
    bool is_ready = false;
  };
  [[nodiscard]] EntryPtr find(config::Listen const& wanted) const;
  [[nodiscard]] Status check_bound(steer::RouteGroup const& group, RevisionId revision) const;
  static async::Task<void> carry_left(EntryPtr entry, os::UniqueFd socket, steer::Rescue* rescue);
  static async::Task<void> tend_waiting(EntryPtr entry, steer::Rescue* rescue);

  RouterSource router_;
  std::vector<EntryPtr> entries_;
  std::map<InstanceId, Bound> bound_;
};

}  // namespace aether::relay
