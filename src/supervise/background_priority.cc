// SPDX-License-Identifier: Apache-2.0
#include "supervise/background_priority.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <filesystem>

#include <fmt/format.h>

#include "os/file.h"
#include "os/unique_fd.h"

namespace aether::supervise {
namespace {

/// Of an autogroup: about 1/70 of the share of one with nice 0 (man 7 sched).
constexpr std::string_view kLowNiceText = "19";
/// It waits this long at any rate before it counts as starving: other work comes in bursts.
constexpr Duration kWaitAllowance = std::chrono::milliseconds(200);
constexpr std::size_t kLineMax = 256;
/// Threads that are made while their process is walked take their maker's value with them.
constexpr int kWalksMax = 4;

/// One write, as these kernel files want it. The errno of a failure, or 0.
int write_once(std::string const& path, std::string_view text) {
  os::UniqueFd const file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) return errno;
  return ::write(file.get(), text.data(), text.size()) < 0 ? errno : 0;
}

/// Whether a thread of SCHED_IDLE can be given back a usual policy by us (man 2
/// sched_setscheduler).
bool may_leave_idle(pid_t thread) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  if (::syscall(SYS_capget, &header, sets.data()) == 0 &&
      (sets[0].effective & (1U << CAP_SYS_NICE)) != 0)
    return true;
  errno = 0;
  int const nice = ::getpriority(PRIO_PROCESS, static_cast<id_t>(thread));
  rlimit limit{};
  return errno == 0 && ::getrlimit(RLIMIT_NICE, &limit) == 0 &&
         limit.rlim_cur >= static_cast<rlim_t>(20 - nice);
}

bool set_policy(pid_t thread, int policy) {
  sched_param const none{};
  return ::sched_setscheduler(thread, policy, &none) == 0;
}

/// "/autogroup-123 nice 0": the number after the last blank (man 7 sched).
std::string last_word(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.find_last_of(' ') + 1);
}

std::string autogroup_of(pid_t process) {
  return fmt::format("/proc/{}/autogroup", process);
}

/// Writes the low value; what was there before, if that could be done and was something else.
std::optional<std::string> move_down(std::string const& path) {
  auto const before = os::read_file(path, kLineMax);
  if (!before || last_word(*before) == kLowNiceText) return std::nullopt;
  if (write_once(path, kLowNiceText) != 0) return std::nullopt;
  return last_word(*before);
}

/// True: one is low still, because the kernel does not take the change yet.
bool raise_autogroups(std::span<pid_t const> tree, std::string const& value) {
  bool busy = false;
  for (pid_t const process : tree) {
    std::string const path = autogroup_of(process);
    auto const now = os::read_file(path, kLineMax);
    if (!now || last_word(*now) != kLowNiceText) continue;
    busy = write_once(path, value) == EAGAIN || busy;
  }
  return busy;
}

/// Every thread of the process that has one policy gets another; how many did.
int change_threads(pid_t process, int from, int to) {
  std::error_code gone;
  int changed = 0;
  std::filesystem::directory_iterator threads(fmt::format("/proc/{}/task", process), gone);
  for (; !gone && threads != std::filesystem::end(threads); threads.increment(gone)) {
    std::string const name = threads->path().filename();
    pid_t thread = 0;
    std::from_chars(name.data(), name.data() + name.size(), thread);
    if (::sched_getscheduler(thread) == from && set_policy(thread, to)) ++changed;
  }
  return changed;
}

/// False: threads that are made as fast as they are walked.
bool change_tree(std::span<pid_t const> tree, int from, int to) {
  for (int walk = 0; walk < kWalksMax; ++walk) {
    int changed = 0;
    for (pid_t const process : tree) changed += change_threads(process, from, to);
    if (changed == 0) return true;
  }
  return false;
}

}  // namespace

bool BackgroundPatience::is_over(Instant now, std::optional<Share> share) const {
  if (now - since >= time_max) return true;
  return share && share->waited - before.waited > share->ran - before.ran + kWaitAllowance;
}

BackgroundPriority BackgroundPriority::lower(std::span<pid_t const> tree, CpuGroup const* group) {
  BackgroundPriority priority;
  if (tree.empty()) return priority;
  // Which of the three decides depends on the machine: the tree's own control group, if it has one
  // with the cpu controller; else the autogroup of its session, if the kernel makes those; else the
  // policy. Each is without effect where another one decides.
  if (group != nullptr && group->set_idle(true)) priority.group_ = group;
  priority.autogroup_ = move_down(autogroup_of(tree.front()));
  int const policy = ::sched_getscheduler(tree.front());
  bool const usual = policy == SCHED_OTHER || policy == SCHED_BATCH;
  if (usual && may_leave_idle(tree.front()) && set_policy(tree.front(), SCHED_IDLE)) {
    priority.policy_ = policy;
    (void)change_tree(tree, policy, SCHED_IDLE);
  }
  return priority;
}

bool BackgroundPriority::restore(std::span<pid_t const> tree) {
  // Busy: too soon after the last change. Every other failure does not become better by waiting.
  if (group_ != nullptr) (void)std::exchange(group_, nullptr)->set_idle(false);
  if (autogroup_ && !raise_autogroups(tree, *autogroup_)) autogroup_.reset();
  if (policy_ && change_tree(tree, SCHED_IDLE, *policy_)) policy_.reset();
  return !is_low();
}

std::optional<BackgroundPatience::Share> BackgroundPriority::share(std::span<pid_t const> tree) {
  std::optional<BackgroundPatience::Share> sum;
  for (pid_t const process : tree) {
    auto const text = os::read_file(fmt::format("/proc/{}/schedstat", process), kLineMax);
    if (!text) continue;
    std::int64_t ran = 0;
    std::int64_t waited = 0;
    char const* const end = text->data() + text->size();
    auto const first = std::from_chars(text->data(), end, ran);
    if (first.ec != std::errc{} || first.ptr == end) continue;
    if (std::from_chars(first.ptr + 1, end, waited).ec != std::errc{}) continue;
    if (!sum) sum.emplace();
    sum->ran += std::chrono::nanoseconds(ran);
    sum->waited += std::chrono::nanoseconds(waited);
  }
  return sum;
}

}  // namespace aether::supervise
