// SPDX-License-Identifier: Apache-2.0
#include "supervise/tree.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

#include "base/checksum.h"
#include "base/log.h"
#include "os/proc.h"

namespace aether::supervise {
namespace {

/// Main processes that one instance may have had: a program that re-executes itself for ever must
/// not grow our list for ever.
constexpr std::size_t kMainsMax = 64;

}  // namespace

std::string own_tag() {
  struct stat name_space{};
  (void)::stat("/proc/self/ns/pid", &name_space);
  std::uint64_t const started = os::read_start_ticks(::getpid()).value_or(0);
  std::string const name = fmt::format("{} {} {}", name_space.st_ino, ::getpid(), started);
  return fmt::format("{:08x}", crc32c(name));
}

Result<Tree> Tree::start(os::SpawnSpec spec, std::string const& name, std::string mark,
                         KnownChildren* known, Prepare const& prepare) {
  std::optional<os::Cgroup> cgroup;
  auto created = os::Cgroup::create(name);
  if (created) {
    cgroup = std::move(*created);
    spec.cgroup = cgroup->fd();
  } else if (prepare) {
    return fail(std::move(created).error());
  }
  if (prepare) TRY(prepare(*cgroup));
  spec.new_session = true;
  KnownChildren::Hold const held = known != nullptr ? known->hold() : KnownChildren::Hold();
  TRY_ASSIGN(os::Child child, os::spawn(spec));
  return Tree(std::move(child), std::move(cgroup), std::move(mark), known);
}

Tree Tree::adopt(os::Child child, KnownChildren* known) {
  auto const process = os::read_process(child.pid());
  bool const leads = process && process->session == child.pid();
  Tree tree(std::move(child), std::nullopt, {}, known);
  if (!leads) tree.session_ = 0;
  return tree;
}

void Tree::join(os::Cgroup cgroup) {
  cgroup_ = std::move(cgroup);
}

Tree::Tree(os::Child child, std::optional<os::Cgroup> cgroup, std::string mark,
           KnownChildren* known)
    : cgroup_(std::move(cgroup)), mark_(std::move(mark)), known_(known) {
  root_ = session_ = child.pid();
  mains_.push_back({.child = std::move(child), .known = {known, root_}});
}

Tree::Tree(Tree&& other) noexcept
    : mains_(std::move(other.mains_)),
      cgroup_(std::move(other.cgroup_)),
      mark_(std::move(other.mark_)),
      known_(other.known_),
      root_(other.root_),
      session_(other.session_),
      owner_(std::exchange(other.owner_, false)) {}

Tree::~Tree() {
  if (owner_) kill_all();
}

Result<os::Child*> Tree::adopt_main(pid_t pid, std::optional<std::uint64_t> pidfd_id) {
  auto const refuse = [&](std::string_view why) {
    return fail(ErrorCode::NotFound,
                fmt::format("process {} was not taken for the main one: {}", pid, why));
  };
  if (mains_.size() >= kMainsMax) return refuse("there were too many main processes before");
  TRY_ASSIGN(os::Child child, os::Child::adopt(pid));
  // Asked after the pidfd is open, so that the number cannot have changed hands in between.
  if (!owns(pid)) return refuse("that process is not of this program's process tree");
  auto const own_id = os::pidfd_id(child.pidfd());
  if (pidfd_id && own_id && *pidfd_id != *own_id) return refuse("that number is another process's");
  mains_.push_back({.child = std::move(child), .known = {known_, pid}});
  return &mains_.back().child;
}

Tree::Ended Tree::reap(os::Child& child) {
  auto const main = std::ranges::find_if(mains_, [&](Main& m) { return &m.child == &child; });
  if (main == mains_.end()) return {};
  // Looked at before the zombie is reaped: until then its number cannot be a stranger's, and after
  // it only who is still in the session keeps the session's number from being used again.
  auto const found = os::tree_members(marks());
  std::vector<pid_t> const alive = found ? *found : std::vector<pid_t>{};
  auto const is_other = [&](pid_t pid) { return pid != child.pid(); };
  auto const is_in_session = [&](pid_t pid) {
    auto const process = os::read_process(pid);
    return is_other(pid) && process && process->session == session_;
  };
  if (found && child.pid() == session_ && !std::ranges::any_of(alive, is_in_session)) session_ = 0;
  auto const status = child.try_reap();
  if (child.pid() == root_) root_ = 0;
  main->known = {};
  return {.status = status ? *status : std::nullopt,
          .others_live = !found || std::ranges::any_of(alive, is_other)};
}

os::TreeMarks Tree::marks() const {
  return {.root = root_,
          .session = session_,
          .environment = mark_,
          .cgroup = cgroup_ ? &*cgroup_ : nullptr};
}

std::vector<pid_t> Tree::members() const {
  auto found = os::tree_members(marks());
  if (found) return std::move(*found);
  log::warn("looking for the processes of {}: {}", mark_, found.error().describe());
  return {};
}

bool Tree::is_empty() const {
  auto const empty = os::is_tree_empty(marks());
  if (!empty) log::debug("looking for the processes of {}: {}", mark_, empty.error().describe());
  return empty.value_or(false);
}

bool Tree::owns(pid_t pid) const {
  return os::belongs_to(pid, marks());
}

void Tree::signal_all(int signal) const {
  if (auto const sent = os::signal_tree(marks(), signal); !sent)
    log::warn("signalling the processes of {}: {}", mark_, sent.error().describe());
}

void Tree::kill_all() const {
  if (cgroup_) {
    if (cgroup_->kill()) return;
  }
  signal_all(SIGKILL);
}

}  // namespace aether::supervise
