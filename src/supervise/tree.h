// SPDX-License-Identifier: Apache-2.0
// Tree: a spawned process with everything it starts, found by cgroup where there is one, else by
// session, line of parents and a mark in the environment. Ends with its owner.
#pragma once
#include <sys/types.h>

#include <functional>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "os/cgroup.h"
#include "os/process.h"
#include "os/process_tree.h"
#include "supervise/known_children.h"

namespace aether::supervise {

/// Eight hex digits that tell this process from the others of the machine, those in other pid
/// namespaces included, so that no two Aethers take each other's trees for their own.
[[nodiscard]] std::string own_tag();

class Tree {
 public:
  /// Called with the group before the process is started in it; on an error it is not.
  using Prepare = std::function<Status(os::Cgroup const&)>;
  /// Spawns in a session of its own. `name` names its cgroup; `mark` is an entry of the child's
  /// environment that no other tree on the machine has. `known` may be null. With `prepare` there
  /// has to be a group: Unsupported if none can be made.
  static Result<Tree> start(os::SpawnSpec spec, std::string const& name, std::string mark,
                            KnownChildren* known, Prepare const& prepare = {});
  /// Takes a process that runs already, and is our child: a copy of another one. Its environment is
  /// that one's, so that no mark in it tells them apart: until join() it is known by its session
  /// (if it leads one) and its line of children.
  static Tree adopt(os::Child child, KnownChildren* known);
  /// All its processes are in that group now.
  void join(os::Cgroup cgroup);
  Tree(Tree&& other) noexcept;
  Tree& operator=(Tree&&) = delete;
  /// Kills what still lives: once, without waiting.
  ~Tree();

  /// The process whose end is the end of the program.
  [[nodiscard]] os::Child& main() { return mains_.back().child; }
  [[nodiscard]] os::Child const& main() const { return mains_.back().child; }
  /// Makes another process of the tree the main one. NotFound if it is not of this tree, or if its
  /// pidfd has another inode than `pidfd_id`, where the kernel tells processes apart by it.
  Result<os::Child*> adopt_main(pid_t pid, std::optional<std::uint64_t> pidfd_id = {});
  struct Ended {
    /// None if it cannot be known: an adopted process whose own parent took its status.
    std::optional<os::ExitStatus> status;
    bool others_live = false;  ///< Of the tree.
  };
  /// Reaps one of this tree's main processes, past or present, after its pidfd has become readable.
  Ended reap(os::Child& child);

  /// Live processes.
  [[nodiscard]] std::vector<pid_t> members() const;
  /// False also if it cannot be known now.
  [[nodiscard]] bool is_empty() const;
  [[nodiscard]] bool owns(pid_t pid) const;
  void signal_all(int signal) const;
  /// SIGKILL to all that live now. Repeat until is_empty(): a tree may fork meanwhile.
  void kill_all() const;
  [[nodiscard]] os::Cgroup const* cgroup() const { return cgroup_ ? &*cgroup_ : nullptr; }

 private:
  struct Main {
    os::Child child;
    KnownChildren::Entry known;
  };
  Tree(os::Child child, std::optional<os::Cgroup> cgroup, std::string mark, KnownChildren* known);
  [[nodiscard]] os::TreeMarks marks() const;

  std::list<Main> mains_;  ///< The spawned one first, the present one last. Addresses are stable.
  std::optional<os::Cgroup> cgroup_;
  std::string mark_;
  KnownChildren* known_;
  pid_t root_ = 0;     ///< Until it is reaped: after that the number may be a stranger's.
  pid_t session_ = 0;  ///< As long as somebody lives in it, for the same reason.
  bool owner_ = true;
};

}  // namespace aether::supervise
