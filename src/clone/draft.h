// SPDX-License-Identifier: Apache-2.0
// Draft: a copy of a frozen process while it is being made.
#pragma once
#include <map>
#include <vector>

#include "clone/channel.h"
#include "clone/frozen_process.h"
#include "clone/obstacles.h"
#include "clone/rebuild.h"
#include "clone/template.h"

namespace aether::clone {

/// All that copies of one original have in common. Borrowed by each Draft.
struct Original {
  FrozenProcess frozen;
  Sight sight;
  /// For each thread what it is to call when it is made again. They lie in the original's memory.
  std::vector<CallList> thread_lists;
  bool leads_session = false;
  bool leads_group = false;
};
/// Fills in what is made from the rest, and puts the lists into the original's memory.
Status prepare_threads(Original& original);

/// Destroyed before it was finished: it is killed and reaped.
class Draft {
 public:
  Draft(Original const& original, pid_t pid)
      : original_(original), leader_(TracedThread::born_traced(pid)) {}
  Draft(Draft const&) = delete;
  Draft& operator=(Draft const&) = delete;
  ~Draft();

  /// `channel` brings what `rebuild` needs, and has been told it. `inherited`: a descriptor that
  /// the original had at the birth only, or -1. `cgroup`: where to move the copy, or -1.
  [[nodiscard]] Result<Copied> finish(CopyWishes const& wishes, Rebuild& rebuild, int inherited,
                                      int cgroup);

 private:
  [[nodiscard]] Callee leader();
  [[nodiscard]] Callee other(std::size_t place);
  void add_leader_calls(CopyWishes const& wishes, CallList& list) const;
  void add_memory_calls(CallList& list) const;
  void add_threads(CallList& list) const;
  Status copy_shared_memory();
  [[nodiscard]] Result<std::map<pid_t, pid_t>> tids_by_own() const;
  Status take_threads(CallList const& made, std::size_t first);
  Status shape_threads();
  Status set_free();

  Original const& original_;
  TracedThread leader_;
  std::vector<TracedThread> others_;
  bool done_ = false;
};

}  // namespace aether::clone
