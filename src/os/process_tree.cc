// SPDX-License-Identifier: Apache-2.0
#include "os/process_tree.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "os/child.h"
#include "os/proc.h"

namespace aether::os {
namespace {

// Deeper than any real tree; the walk ends even if numbers are reused under it.
constexpr int kDepthMax = 4096;
// How long the killed may take before the tree is read again for those they forked meanwhile.
constexpr Duration kRound = std::chrono::milliseconds(50);

/// The session, if its number is certainly still that of our child and not a stranger's.
pid_t trusted_session(TreeMarks const& marks) {
  if (marks.session == 0) return 0;
  auto const leader = read_process(marks.session);
  return leader && leader->parent == ::getpid() ? marks.session : 0;
}

bool is_marked(ProcessInfo const& process, TreeMarks const& marks, pid_t session) {
  if (process.pid == marks.root && marks.root != 0) return true;
  if (process.session == session && session != 0) return true;
  return !marks.environment.empty() && has_environment(process.pid, marks.environment);
}

using Children = std::map<pid_t, std::vector<pid_t>>;

Children children_of(std::vector<ProcessInfo> const& processes) {
  Children children;
  for (ProcessInfo const& process : processes) {
    if (!process.ended()) children[process.parent].push_back(process.pid);
  }
  return children;
}

/// Adds all that descends from `found`, parents before children, never through this process.
void add_descendants(std::vector<pid_t>& found, Children const& children) {
  std::set<pid_t> seen(found.begin(), found.end());
  seen.insert(::getpid());
  for (std::size_t i = 0; i < found.size(); ++i) {
    auto const below = children.find(found[i]);
    if (below == children.end()) continue;
    for (pid_t child : below->second) {
      if (seen.insert(child).second) found.push_back(child);
    }
  }
}

/// Holds each member, then sends the signal to those that still belong. The faults of the others
/// are remembered, so that one process that may not be signalled does not protect the rest.
struct Signalled {
  std::vector<Child> held;
  std::optional<Error> refused;
};

// Every member is held before the first is signalled: who belongs only because of its parent would
// be a stranger as soon as that parent is dead.
Signalled signal_members(std::vector<pid_t> const& members, TreeMarks const& marks, int signal) {
  std::vector<Child> held;
  for (pid_t pid : members) {
    auto process = Child::adopt(pid);
    if (!process || !belongs_to(pid, marks)) continue;  // gone, or the number is a stranger's
    held.push_back(std::move(*process));
  }
  Signalled result;
  for (Child& process : held) {
    if (Status sent = process.signal(signal); sent) {
      result.held.push_back(std::move(process));
    } else {
      result.refused = std::move(sent).error();
    }
  }
  return result;
}

void wait_for_end(std::vector<Child> const& processes, Instant deadline) {
  for (Child const& process : processes) {
    auto const left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return;
    pollfd end{.fd = process.pidfd(), .events = POLLIN, .revents = 0};
    ::poll(&end, 1, static_cast<int>(left.count()));
  }
}

Failure still_alive(std::vector<pid_t> const& members, Duration patience) {
  std::vector<std::string> names;
  for (pid_t pid : members) names.push_back(fmt::format("{} ({})", pid, read_comm(pid)));
  return fail(ErrorCode::Timeout,
              fmt::format("{} after SIGKILL these processes are still there, probably in a system "
                          "call that cannot be interrupted: {}",
                          humanize(patience), fmt::join(names, ", ")));
}

Status kill_cgroup(Cgroup const& cgroup, Duration patience) {
  TRY(cgroup.kill());
  if (cgroup.wait_empty(patience)) return {};
  return still_alive(cgroup.members(), patience);
}

}  // namespace

Result<std::vector<pid_t>> descendants(pid_t root) {
  TRY_ASSIGN(std::vector<ProcessInfo> const processes, read_all_processes());
  std::vector<pid_t> found{root};
  add_descendants(found, children_of(processes));
  found.erase(found.begin());
  return found;
}

bool belongs_to(pid_t pid, pid_t root) {
  for (int depth = 0; depth < kDepthMax && pid > 0; ++depth) {
    if (pid == root) return true;
    pid = read_parent(pid).value_or(0);
  }
  return false;
}

bool belongs_to(pid_t pid, TreeMarks const& marks) {
  if (marks.cgroup != nullptr) return marks.cgroup->contains(pid);
  pid_t const session = trusted_session(marks);
  pid_t const self = ::getpid();
  for (int depth = 0; depth < kDepthMax && pid > 1 && pid != self; ++depth) {
    auto const process = read_process(pid);
    if (!process) return false;
    if (is_marked(*process, marks, session)) return true;
    pid = process->parent;
  }
  return false;
}

Result<std::vector<pid_t>> tree_members(TreeMarks const& marks) {
  if (marks.cgroup != nullptr) return marks.cgroup->members();
  TRY_ASSIGN(std::vector<ProcessInfo> const processes, read_all_processes());
  pid_t const session = trusted_session(marks);
  pid_t const self = ::getpid();
  std::vector<pid_t> found;
  for (ProcessInfo const& process : processes) {
    if (process.ended() || process.pid == self) continue;
    if (is_marked(process, marks, session)) found.push_back(process.pid);
  }
  add_descendants(found, children_of(processes));
  return found;
}

Result<bool> is_tree_empty(TreeMarks const& marks) {
  if (marks.cgroup != nullptr) return !marks.cgroup->populated();
  TRY_ASSIGN(std::vector<pid_t> const members, tree_members(marks));
  return members.empty();
}

Status signal_tree(TreeMarks const& marks, int signal) {
  TRY_ASSIGN(std::vector<pid_t> const members, tree_members(marks));
  Signalled result = signal_members(members, marks, signal);
  if (result.refused) return fail(std::move(*result.refused));
  return {};
}

Status kill_tree(TreeMarks const& marks, Duration patience) {
  if (marks.cgroup != nullptr) return kill_cgroup(*marks.cgroup, patience);
  Instant const deadline = std::chrono::steady_clock::now() + patience;
  while (true) {
    TRY_ASSIGN(std::vector<pid_t> const members, tree_members(marks));
    if (members.empty()) return {};
    Instant const now = std::chrono::steady_clock::now();
    if (now >= deadline) return still_alive(members, patience);
    Signalled result = signal_members(members, marks, SIGKILL);
    if (result.held.empty() && result.refused) return fail(std::move(*result.refused));
    wait_for_end(result.held, std::min<Instant>(deadline, now + kRound));
  }
}

}  // namespace aether::os
