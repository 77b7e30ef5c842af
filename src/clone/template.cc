// SPDX-License-Identifier: Apache-2.0
#include "clone/template.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/fault.h"
#include "clone/descriptors.h"
#include "clone/draft.h"
#include "clone/obstacles.h"
#include "os/file.h"
#include "os/proc.h"

namespace aether::clone {
namespace {

constexpr std::size_t kProcFileBytesMax = std::size_t{1024} * 1024;
constexpr std::size_t kThreadStatBytesMax = 1024;
constexpr Duration kThawPatience = std::chrono::seconds(5);
/// A copy that failed may have taken all of its own time.
constexpr Duration kUndoPatience = std::chrono::seconds(2);

/// CLONE_PTRACE: the copy is ours to shape from its first instruction, without a stop of the
/// original for each. CLONE_PARENT: it is our child, not the original's.
constexpr std::uint64_t kProcessFlags = CLONE_PTRACE | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;

/// Of those that open() takes for a file that is there already.
constexpr std::uint32_t kReopenFlags =
    O_ACCMODE | O_APPEND | O_NONBLOCK | O_DSYNC | O_SYNC | O_DIRECT | O_NOATIME;

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
  TRY(fault::pass(fault::Point::CloneLook));
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

/// The original, and how descriptors get into it and its copies.
struct Template::State {
  Original original;
  std::optional<Channel> channel = std::nullopt;
  /// Until the kernel says that the original has not the right.
  bool may_choose_cgroup = true;

  Result<Copied> copy(CopyWishes const& wishes);
  Status undo();
  Status drop_channel();

 private:
  struct Birth {
    pid_t pid;
    int inherited;  ///< A descriptor that the copy has from it; -1: none, it has no cgroup yet.
  };
  Status need_channel();
  Status hand_over(Rebuild const& rebuild) const;
  [[nodiscard]] Result<os::UniqueFd> open_again(int number) const;
  [[nodiscard]] Result<Birth> give_birth(int cgroup);
  [[nodiscard]] Result<Birth> give_birth_in(int cgroup);
};

Status Template::State::need_channel() {
  if (channel) return {};
  auto const number = free_numbers(original.sight.descriptors, -1, 1).front();
  TRY_ASSIGN(auto opened, Channel::open(original.frozen, number));
  channel.emplace(std::move(opened));
  return {};
}

Status Template::State::drop_channel() {
  if (!channel) return {};
  auto const closed = channel->close(original.frozen);
  channel.reset();
  return closed;
}

/// After a copy that failed in the middle: the original makes no calls any more, and has open what
/// it had when it was frozen.
Status Template::State::undo() {
  TRY(fault::pass(fault::Point::CloneUndo));
  TRY(original.frozen.settle());
  channel.reset();
  auto const& table = original.sight.descriptors;
  auto list = original.frozen.arena().process_list();
  for (auto const number : os::list_fds(original.frozen.pid())) {
    auto const is_its_own = std::ranges::find(table, number, &Descriptor::number) != table.end();
    if (!is_its_own) list.call("close", SYS_close, {static_cast<std::uint64_t>(number)});
  }
  return original.frozen.perform(list);
}

Result<os::UniqueFd> Template::State::open_again(int number) const {
  auto const& table = original.sight.descriptors;
  auto const it = std::ranges::find(table, number, &Descriptor::number);
  // By number, so that a file without a name (any more) is found as well.
  auto const path = fmt::format("/proc/{}/fd/{}", original.frozen.pid(), number);
  auto const flags = static_cast<int>(it->flags & kReopenFlags);
  os::UniqueFd file(open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY));
  if (!file) return fail(system_error("open anew", it->link));
  return file;
}

Status Template::State::hand_over(Rebuild const& rebuild) const {
  for (auto const& message : rebuild.lent()) {
    std::vector<int> descriptors;
    std::vector<os::UniqueFd> opened;
    for (auto const what : message) {
      if (what < 0) {
        TRY_ASSIGN(auto file, open_again(Rebuild::file_of(what)));
        opened.push_back(std::move(file));
      }
      descriptors.push_back(what < 0 ? opened.back().get() : what);
    }
    TRY(channel->hand(descriptors));
  }
  return {};
}

Result<Template::State::Birth> Template::State::give_birth_in(int cgroup) {
  auto& frozen = original.frozen;
  auto list = frozen.arena().process_list();
  // The first process of a namespace must be the parent of those it makes (EINVAL); its copies are
  // the first of namespaces of their own, and so have the number that the program knows.
  auto const flags =
      kProcessFlags | (frozen.is_namespace_init() ? CLONE_NEWPID : std::uint64_t{CLONE_PARENT});
  auto const tid_address = frozen.threads().front().tid_address;
  if (cgroup < 0) {
    auto const place = list.call("clone", SYS_clone, {flags | SIGCHLD, 0, 0, tid_address, 0});
    TRY_ASSIGN(auto const pid, frozen.perform_fork(list, place));
    return Birth{.pid = pid, .inherited = -1};
  }
  TRY(need_channel());
  TRY(channel->hand({&cgroup, 1}));
  auto const number = free_numbers(original.sight.descriptors, channel->number(), 1).front();
  add_receipt(channel->number(), 1, list);
  // A sibling of its maker has that one's signal, and may not name another (EINVAL).
  bool const is_sibling = (flags & CLONE_PARENT) != 0;
  clone_args arguments{.flags = flags | CLONE_INTO_CGROUP,
                       .child_tid = tid_address,
                       .exit_signal = is_sibling ? std::uint64_t{0} : std::uint64_t{SIGCHLD}};
  arguments.cgroup = static_cast<std::uint64_t>(number);
  auto const place =
      list.call("clone3", SYS_clone3, {list.place_value(arguments), sizeof arguments});
  // The copy stands behind the call that made it; this is the original's alone.
  list.call("close", SYS_close, {static_cast<std::uint64_t>(number)});
  TRY_ASSIGN(auto const pid, frozen.perform_fork(list, place));
  return Birth{.pid = pid, .inherited = number};
}

Result<Template::State::Birth> Template::State::give_birth(int cgroup) {
  if (cgroup >= 0 && may_choose_cgroup) {
    auto born = give_birth_in(cgroup);
    // Old kernels, filters of system calls, and folders that are not the original's user's.
    if (born || born.error().code() != ErrorCode::SystemCall || !original.frozen.lives()) {
      return born;
    }
    bool const had_channel = channel.has_value();
    if (!undo()) return born;
    if (had_channel) TRY(need_channel());
    auto plain = give_birth_in(-1);
    if (plain) may_choose_cgroup = false;
    return plain;
  }
  return give_birth_in(-1);
}

Result<Copied> Template::State::copy(CopyWishes const& wishes) {
  auto const& table = original.sight.descriptors;
  if (Rebuild::needs_channel(table, wishes.files)) TRY(need_channel());
  TRY_ASSIGN(auto const born, give_birth(wishes.cgroup));
  Draft draft(original, born.pid);
  Rebuild rebuild(table, wishes.files, channel ? channel->number() : -1);
  TRY(hand_over(rebuild));
  return draft.finish(wishes, rebuild, born.inherited, born.inherited < 0 ? wishes.cgroup : -1);
}

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
    auto const process = os::read_process(pid);
    auto state =
        std::make_unique<State>(Original{.frozen = std::move(frozen),
                                         .sight = std::move(*sight),
                                         .leads_session = process && process->session == pid,
                                         .leads_group = process && process->group == pid});
    auto prepared = prepare_threads(state->original);
    if (prepared) return Template(std::move(state));
    TRY(state->original.frozen.thaw());
    return fail(std::move(prepared).error());
  }
  TRY(frozen.thaw());
  if (!sight) return fail(std::move(sight).error());
  return fail(ErrorCode::Unsupported,
              fmt::format("process {} cannot be copied: {}", pid, fmt::join(reasons, "; ")));
}

pid_t Template::pid() const {
  return state_->original.frozen.pid();
}

bool Template::has_own_numbers() const {
  return state_->original.frozen.is_namespace_init();
}

std::size_t Template::threads() const {
  return state_->original.frozen.threads().size();
}

Result<Copied> Template::copy(CopyWishes const& wishes) {
  auto const within = [&]() -> Result<Copied> {
    TRY_ASSIGN(auto const limit, Patience::begin(wishes.patience));
    return state_->copy(wishes);
  };
  auto copied = within();
  if (copied) return copied;
  TRY_ASSIGN(auto const limit, Patience::begin(kUndoPatience));
  auto const undone = state_->undo();
  bool const lives = state_->original.frozen.lives();
  if (undone && lives) return copied;
  if (!lives) {
    return fail(ErrorCode::NotRunning,
                fmt::format("process {}, of which copies are made, has ended", pid()));
  }
  state_->original.frozen.end();
  return fail(ErrorCode::NotRunning,
              fmt::format("process {}, of which copies are made, was ended, because a copy failed "
                          "({}) and what it had done could not be undone ({})",
                          pid(), copied.error().message(), undone.error().message()));
}

bool Template::lives() {
  return state_->original.frozen.lives();
}

Status Template::thaw() {
  TRY_ASSIGN(auto const limit, Patience::begin(kThawPatience));
  auto const dropped = state_->drop_channel();
  TRY(state_->original.frozen.thaw());
  return dropped;
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
    auto const line =
        os::read_file(fmt::format("/proc/{}/task/{}/stat", pid, tid), kThreadStatBytesMax);
    auto const thread = line ? os::parse_stat(*line) : std::nullopt;
    return thread && thread->state == 'S';
  });
}

}  // namespace aether::clone
