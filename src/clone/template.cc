// SPDX-License-Identifier: Apache-2.0
#include "clone/template.h"

#include <linux/sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "clone/descriptors.h"
#include "clone/frozen_process.h"
#include "clone/memory.h"
#include "clone/obstacles.h"
#include "os/file.h"
#include "os/proc.h"

namespace aether::clone {
namespace {

constexpr std::size_t kProcFileBytesMax = std::size_t{1024} * 1024;

/// CLONE_PTRACE: the copy is ours to shape from its first instruction, without a stop of the
/// original for each. CLONE_PARENT: it is our child, not the original's.
constexpr std::uint64_t kProcessFlags =
    CLONE_PTRACE | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD;
/// As the C library's pthread_create, but for where its number is put.
constexpr std::uint64_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
                                       CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PTRACE |
                                       CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;

std::vector<std::string> names_of_children(pid_t pid) {
  std::vector<std::string> names;
  auto const all = os::list_pids();
  if (!all) return names;
  for (auto const other : *all) {
    if (os::read_parent(other) != pid) continue;
    names.push_back(fmt::format("{} (pid {})", os::read_comm(other), other));
  }
  return names;
}

bool file_has(std::string const& path, std::string_view text) {
  auto const content = os::read_file(path, kProcFileBytesMax);
  return content && content->find(text) != std::string::npos;
}

Result<Sight> look(FrozenProcess const& frozen, std::vector<std::string> reconnects) {
  auto const pid = frozen.pid();
  Sight sight;
  TRY_ASSIGN(sight.descriptors, read_descriptors(pid, frozen.pidfd()));
  sight.mappings = frozen.mappings();
  sight.children = names_of_children(pid);
  sight.has_posix_timers = file_has(fmt::format("/proc/{}/timers", pid), "ID:");
  sight.has_interval_timer = frozen.has_interval_timer();
  sight.has_shadow_stack = file_has(fmt::format("/proc/{}/status", pid), "shstk");
  sight.reconnects = std::move(reconnects);
  return sight;
}

}  // namespace

struct Template::State {
  FrozenProcess frozen;
  Sight sight;
};

namespace {

/// A copy while it is being made. Destroyed before it was released: it is killed and reaped.
class Draft {
 public:
  Draft(FrozenProcess const& original, Sight const& sight, pid_t pid)
      : original_(original), sight_(sight), leader_(TracedThread::born_traced(pid)) {}
  Draft(Draft const&) = delete;
  Draft& operator=(Draft const&) = delete;
  ~Draft() {
    if (done_) return;
    kill(leader_.tid(), SIGKILL);  // Not reaped by anybody yet, so the number is still its own.
    std::vector<pid_t> all{leader_.tid()};
    for (auto const& thread : others_) all.push_back(thread.tid());
    reap_threads(std::move(all));
  }

  Result<os::Child> finish(CopyWishes const& wishes) {
    TRY(leader_.wait_stopped());
    TRY_ASSIGN(auto child, os::Child::adopt(leader_.tid()));
    Rebuild rebuild(sight_.descriptors, wishes.files);
    auto created = original_.arena().process_list();
    add_leader_calls(created);
    rebuild.add_creation(created);
    TRY(perform_calls(leader(), original_.arena(), created));
    TRY(copy_shared_memory());
    auto placed = original_.arena().process_list();
    rebuild.add_placement(created, placed);
    auto const first_thread = placed.size();
    add_threads(placed);
    TRY(perform_calls(leader(), original_.arena(), placed));
    TRY(shape_threads(placed, first_thread));
    TRY(set_free());
    done_ = true;
    return child;
  }

 private:
  [[nodiscard]] Callee leader() {
    return {.pid = leader_.tid(), .thread = leader_, .like = original_.threads()[0].registers};
  }

  void add_leader_calls(CallList& list) const {
    auto const& image = original_.threads().front();
    if (image.robust_list != 0) {
      list.call("set_robust_list", SYS_set_robust_list,
                {image.robust_list, image.robust_list_size});
    }
    for (auto const& area : sight_.mappings) {
      if (area.absent_after_fork) {
        list.call("madvise(MADV_DONTFORK)", SYS_madvise, {area.begin, area.size(), MADV_DONTFORK});
      }
      if (!needs_private_copy(area)) continue;
      list.call(fmt::format("mmap of a private copy of {}", area.name), SYS_mmap,
                {area.begin, area.size(), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, ~std::uint64_t{0}, 0});
    }
  }

  Status copy_shared_memory() {
    for (auto const& area : sight_.mappings) {
      if (!needs_private_copy(area)) continue;
      std::vector<std::byte> bytes(area.size());
      TRY(read_memory(original_.pid(), area.begin, bytes));
      TRY(write_memory(leader_.tid(), area.begin, bytes));
    }
    return {};
  }

  void add_threads(CallList& list) const {
    auto const& images = original_.threads();
    for (std::size_t place = 1; place < images.size(); ++place) {
      auto const& image = images[place];
      auto const what = fmt::format("clone of thread {}", image.name);
      clone_args arguments{
          .flags = kThreadFlags, .child_tid = image.tid_address, .tls = image.registers.fs_base};
      if (original_.is_namespace_init()) {
        // The number that the program knows, in a namespace where it is free.
        arguments.set_tid = list.place_value(image.own_tid);
        arguments.set_tid_size = 1;
      }
      list.call(what, SYS_clone3, {list.place_value(arguments), sizeof arguments});
    }
  }

  /// The copy's threads but the main one, by their numbers in the copy's own pid namespace.
  [[nodiscard]] Result<std::map<pid_t, pid_t>> tids_by_own() const {
    std::map<pid_t, pid_t> found;
    TRY_ASSIGN(auto const tids, list_threads(leader_.tid()));
    for (auto const tid : tids) found[read_own_tid(leader_.tid(), tid)] = tid;
    return found;
  }

  Status shape_threads(CallList const& placed, std::size_t first) {
    auto const& images = original_.threads();
    if (images.size() == 1) return {};
    std::vector<CallList> lists;
    TRY_ASSIGN(auto const tids, tids_by_own());
    for (std::size_t place = 1; place < images.size(); ++place) {
      auto const own = static_cast<pid_t>(placed.result(first + place - 1));
      others_.push_back(TracedThread::born_traced(tids.at(own)));
    }
    for (std::size_t place = 1; place < images.size(); ++place) {
      TRY(others_[place - 1].wait_stopped());
      auto list = original_.arena().thread_list(place);
      add_thread_calls(images[place], list);
      TRY(begin_calls(other(place), original_.arena(), list));
      lists.push_back(std::move(list));
    }
    for (std::size_t place = 1; place < images.size(); ++place) {
      TRY(finish_calls(other(place), lists[place - 1]));
      TRY(others_[place - 1].set_extended_state(images[place].extended_state));
    }
    return {};
  }

  [[nodiscard]] Callee other(std::size_t place) {
    return {.pid = leader_.tid(),
            .thread = others_[place - 1],
            .like = original_.threads()[place].registers};
  }

  static void add_thread_calls(ThreadImage const& image, CallList& list) {
    if (image.robust_list != 0) {
      list.call("set_robust_list", SYS_set_robust_list,
                {image.robust_list, image.robust_list_size});
    }
    if (image.rseq.address != 0) {
      list.call("rseq", SYS_rseq, {image.rseq.address, image.rseq.size, 0, image.rseq.signature});
    }
    if ((image.signal_stack.ss_flags & SS_DISABLE) == 0) {
      auto stack = image.signal_stack;
      stack.ss_flags &= ~SS_ONSTACK;
      list.call("sigaltstack", SYS_sigaltstack, {list.place_value(stack), 0});
    }
    auto const name = list.place_text(image.name);
    list.call("prctl(PR_SET_NAME)", SYS_prctl, {PR_SET_NAME, name});
  }

  /// The arena goes, every thread gets its registers and mask, and all run.
  Status set_free() {
    auto const& images = original_.threads();
    auto const& arena = original_.arena();
    TRY(call_once(leader_, images[0].registers, original_.call_instruction(), SYS_munmap,
                  {arena.base, arena.size}));
    TRY(restore(leader_, images[0]));
    for (std::size_t place = 1; place < images.size(); ++place) {
      TRY(restore(others_[place - 1], images[place]));
    }
    for (auto& thread : others_) TRY(thread.release());
    return leader_.release();
  }

  static Status restore(TracedThread& thread, ThreadImage const& image) {
    TRY(thread.set_registers(continuing(image.registers)));
    return thread.set_signal_mask(image.signal_mask);
  }

  FrozenProcess const& original_;
  Sight const& sight_;
  TracedThread leader_;
  std::vector<TracedThread> others_;
  bool done_ = false;
};

}  // namespace

Template::Template(std::unique_ptr<State> state) : state_(std::move(state)) {}
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

Result<Template> Template::freeze(pid_t pid, std::vector<std::string> reconnects,
                                  Duration patience) {
  TRY_ASSIGN(auto const limit, Patience::begin(patience));
  TRY_ASSIGN(auto frozen, FrozenProcess::freeze(pid));
  auto sight = look(frozen, std::move(reconnects));
  auto const reasons = sight ? obstacles(*sight) : std::vector<std::string>{};
  if (sight && reasons.empty()) {
    return Template(std::make_unique<State>(std::move(frozen), std::move(*sight)));
  }
  TRY(frozen.thaw());
  if (!sight) return fail(std::move(sight).error());
  return fail(ErrorCode::Unsupported,
              fmt::format("process {} cannot be copied: {}", pid, fmt::join(reasons, "; ")));
}

pid_t Template::pid() const {
  return state_->frozen.pid();
}

bool Template::has_own_numbers() const {
  return state_->frozen.is_namespace_init();
}

std::size_t Template::threads() const {
  return state_->frozen.threads().size();
}

Result<Copied> Template::copy(CopyWishes const& wishes) {
  TRY_ASSIGN(auto const limit, Patience::begin(wishes.patience));
  auto& frozen = state_->frozen;
  auto list = frozen.arena().process_list();
  // The first process of a namespace must be the parent of those it makes (EINVAL); its copies are
  // the first of namespaces of their own, and so have the number that the program knows.
  auto const flags =
      kProcessFlags | (frozen.is_namespace_init() ? CLONE_NEWPID : std::uint64_t{CLONE_PARENT});
  list.call("clone", SYS_clone, {flags, 0, 0, frozen.threads().front().tid_address, 0});
  TRY_ASSIGN(auto const pid, frozen.perform_fork(list));
  Draft draft(frozen, state_->sight, pid);
  TRY_ASSIGN(auto child, draft.finish(wishes));
  return Copied{.child = std::move(child), .listeners = {}};
}

Status Template::thaw() {
  return state_->frozen.thaw();
}

Result<std::vector<std::string>> why_not(pid_t pid, std::vector<std::string> reconnects) {
  TRY_ASSIGN(auto const limit, Patience::begin(std::chrono::seconds(5)));
  TRY_ASSIGN(auto frozen, FrozenProcess::freeze(pid));
  auto sight = look(frozen, std::move(reconnects));
  TRY(frozen.thaw());
  if (!sight) return fail(std::move(sight).error());
  return obstacles(*sight);
}

bool is_at_rest(pid_t pid) {
  auto const tids = list_threads(pid);
  if (!tids) return false;
  return std::ranges::all_of(*tids, [pid](pid_t tid) {
    auto const line = os::read_file(fmt::format("/proc/{}/task/{}/stat", pid, tid), 1024);
    auto const thread = line ? os::parse_stat(*line) : std::nullopt;
    return thread && thread->state == 'S';
  });
}

}  // namespace aether::clone
