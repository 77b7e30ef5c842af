// SPDX-License-Identifier: Apache-2.0
#include "clone/draft.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>

#include <fmt/format.h>

#include "base/fault.h"
#include "clone/memory.h"

namespace aether::clone {
namespace {

/// As the C library's pthread_create, but for where its number is put. CLONE_PTRACE: it is ours to
/// shape from its first instruction.
constexpr std::uint64_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
                                       CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PTRACE |
                                       CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;

void add_robust_list(ThreadImage const& image, CallList& list) {
  if (image.robust_list == 0) return;
  list.call("set_robust_list", SYS_set_robust_list, {image.robust_list, image.robust_list_size});
}

void add_thread_calls(ThreadImage const& image, CallList& list) {
  add_robust_list(image, list);
  if (image.rseq.address != 0) {
    list.call("rseq", SYS_rseq, {image.rseq.address, image.rseq.size, 0, image.rseq.signature});
  }
  if ((image.signal_stack.ss_flags & SS_DISABLE) == 0) {
    auto stack = image.signal_stack;
    stack.ss_flags &= ~SS_ONSTACK;
    list.call("sigaltstack", SYS_sigaltstack, {list.place_value(stack), 0});
  }
  list.call("prctl(PR_SET_NAME)", SYS_prctl, {PR_SET_NAME, list.place_text(image.name)});
}

Status restore(TracedThread& thread, ThreadImage const& image) {
  TRY(thread.set_registers(continuing(image.registers)));
  return thread.set_signal_mask(image.signal_mask);
}

/// Where it could not be born in it.
Status join_cgroup(pid_t pid, int cgroup) {
  os::UniqueFd const members(openat(cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC));
  auto const number = std::to_string(pid);
  if (members && write(members.get(), number.data(), number.size()) >= 0) return {};
  return fail(system_error("move a copy", "into its cgroup"));
}

}  // namespace

Status prepare_threads(Original& original) {
  auto const& frozen = original.frozen;
  for (std::size_t place = 0; place < frozen.threads().size(); ++place) {
    auto list = frozen.arena().thread_list(place);
    add_thread_calls(frozen.threads()[place], list);
    if (place > 0) TRY(write_calls(frozen.pid(), list));
    original.thread_lists.push_back(std::move(list));
  }
  return {};
}

Draft::~Draft() {
  if (done_) return;
  auto const pid = leader_.tid();
  kill(pid, SIGKILL);  // Not reaped by anybody yet, so the number is still its own.
  // Its threads may be more than were known when it failed.
  reap_threads(list_threads(pid).value_or(std::vector<pid_t>{pid}));
}

Result<Copied> Draft::finish(CopyWishes const& wishes, Rebuild& rebuild, int inherited,
                             int cgroup) {
  TRY(leader_.wait_stopped());
  TRY_ASSIGN(auto child, os::Child::adopt(leader_.tid()));
  TRY(fault::pass(fault::Point::CloneRebuild));
  auto list = original_.frozen.arena().process_list();
  if (inherited >= 0) list.call("close", SYS_close, {static_cast<std::uint64_t>(inherited)});
  add_leader_calls(wishes, list);
  add_memory_calls(list);
  rebuild.add_calls(list);
  auto const first_thread = list.size();
  add_threads(list);
  auto performed = perform_calls(leader(), original_.frozen.arena(), list);
  TRY(take_threads(list, first_thread));
  TRY(std::move(performed));
  TRY_ASSIGN(auto listeners, rebuild.check(list));
  TRY(copy_shared_memory());
  TRY(shape_threads());
  if (cgroup >= 0) TRY(join_cgroup(leader_.tid(), cgroup));
  TRY(set_free());
  done_ = true;
  return Copied{.child = std::move(child),
                .listeners = std::move(listeners),
                .born_in_cgroup = inherited >= 0};
}

Callee Draft::leader() {
  return {.pid = leader_.tid(), .thread = leader_, .like = original_.frozen.threads()[0].registers};
}

Callee Draft::other(std::size_t place) {
  return {.pid = leader_.tid(),
          .thread = others_[place - 1],
          .like = original_.frozen.threads()[place].registers};
}

void Draft::add_leader_calls(CopyWishes const& wishes, CallList& list) const {
  if (wishes.ends_with_parent) {
    list.call("prctl(PR_SET_PDEATHSIG)", SYS_prctl, {PR_SET_PDEATHSIG, SIGKILL});
  }
  if (original_.leads_session) {
    list.call("setsid", SYS_setsid, {});
  } else if (original_.leads_group) {
    list.call("setpgid", SYS_setpgid, {0, 0});
  }
  if (auto const& action = original_.frozen.child_action()) {
    FrozenProcess::add_child_action(*action, list);
  }
  add_robust_list(original_.frozen.threads().front(), list);
}

void Draft::add_memory_calls(CallList& list) const {
  for (auto const& area : original_.sight.mappings) {
    if (area.absent_after_fork) {
      list.call("madvise(MADV_DONTFORK)", SYS_madvise, {area.begin, area.size(), MADV_DONTFORK});
    }
    if (!needs_private_copy(area)) continue;
    list.call(fmt::format("mmap of a private copy of {}", area.name), SYS_mmap,
              {area.begin, area.size(), PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, ~std::uint64_t{0}, 0});
  }
}

Status Draft::copy_shared_memory() {
  TRY(fault::pass(fault::Point::CloneMemory));
  for (auto const& area : original_.sight.mappings) {
    if (!needs_private_copy(area)) continue;
    std::vector<std::byte> bytes(area.size());
    TRY(read_memory(original_.frozen.pid(), area.begin, bytes));
    TRY(write_memory(leader_.tid(), area.begin, bytes));
  }
  return {};
}

void Draft::add_threads(CallList& list) const {
  auto const& images = original_.frozen.threads();
  for (std::size_t place = 1; place < images.size(); ++place) {
    auto const& image = images[place];
    auto const what = fmt::format("clone of thread {}", image.name);
    auto const tls = image.registers.fs_base;
    if (!original_.frozen.is_namespace_init()) {
      // Not clone3: filters of system calls refuse it, because they cannot see its flags.
      list.call(what, SYS_clone, {kThreadFlags, 0, 0, image.tid_address, tls});
      continue;
    }
    clone_args arguments{.flags = kThreadFlags, .child_tid = image.tid_address, .tls = tls};
    // The number that the program knows, in a namespace where it is free.
    arguments.set_tid = list.place_value(image.own_tid);
    arguments.set_tid_size = 1;
    list.call(what, SYS_clone3, {list.place_value(arguments), sizeof arguments});
  }
}

/// The copy's threads but the main one, by their numbers in the copy's own pid namespace.
Result<std::map<pid_t, pid_t>> Draft::tids_by_own() const {
  std::map<pid_t, pid_t> found;
  TRY_ASSIGN(auto const tids, list_threads(leader_.tid()));
  for (auto const tid : tids) found[read_own_tid(leader_.tid(), tid)] = tid;
  return found;
}

Status Draft::take_threads(CallList const& made, std::size_t first) {
  if (original_.frozen.threads().size() == 1) return {};
  std::map<pid_t, pid_t> tids;
  if (!original_.frozen.shares_our_numbers()) {
    TRY_ASSIGN(tids, tids_by_own());
  }
  for (auto place = first; place < made.size(); ++place) {
    auto const own = static_cast<pid_t>(made.result(place));
    if (own <= 0) return {};  // It was not made: the list's own failure is told.
    auto const seen = tids.find(own);
    others_.push_back(TracedThread::born_traced(seen == tids.end() ? own : seen->second));
  }
  return {};
}

Status Draft::shape_threads() {
  auto const& images = original_.frozen.threads();
  auto const& arena = original_.frozen.arena();
  for (std::size_t place = 1; place < images.size(); ++place) {
    TRY(fault::pass(fault::Point::CloneThread));
    TRY(others_[place - 1].wait_stopped());
    TRY(begin_calls(other(place), arena, original_.thread_lists[place]));
  }
  for (std::size_t place = 1; place < images.size(); ++place) {
    auto list = original_.thread_lists[place];
    TRY(finish_calls(other(place), list));
    TRY(others_[place - 1].set_extended_state(images[place].extended_state));
  }
  return {};
}

/// The arena goes, every thread gets its registers and mask, and all run.
Status Draft::set_free() {
  auto const& frozen = original_.frozen;
  auto const& images = frozen.threads();
  TRY(fault::pass(fault::Point::CloneRelease));
  TRY(call_once(leader_, images[0].registers, frozen.call_instruction(), SYS_munmap,
                {frozen.arena().base, frozen.arena().size}));
  TRY(restore(leader_, images[0]));
  for (std::size_t place = 1; place < images.size(); ++place) {
    TRY(restore(others_[place - 1], images[place]));
  }
  for (auto& thread : others_) TRY(thread.release());
  return leader_.release();
}

}  // namespace aether::clone
