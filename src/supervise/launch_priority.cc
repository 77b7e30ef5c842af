// SPDX-License-Identifier: Apache-2.0
#include "supervise/launch_priority.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
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

/// The lowest there is: about 1/70 of the share of a process with nice 0 (man 7 sched).
constexpr int kLowNice = 19;
constexpr std::string_view kLowNiceText = "19";
/// A start waits this long at any rate before it counts as starving: other work comes in bursts.
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

/// Whether a nice value that was raised can be lowered again by us (man 2 setpriority).
bool may_lower_nice(int to) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  if (::syscall(SYS_capget, &header, sets.data()) == 0 &&
      (sets[0].effective & (1U << CAP_SYS_NICE)) != 0)
    return true;
  rlimit limit{};
  return ::getrlimit(RLIMIT_NICE, &limit) == 0 && limit.rlim_cur >= static_cast<rlim_t>(20 - to);
}

std::optional<int> nice_of(pid_t thread) {
  errno = 0;
  int const nice = ::getpriority(PRIO_PROCESS, static_cast<id_t>(thread));
  return errno == 0 ? std::optional(nice) : std::nullopt;
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

/// Sets every thread of the process that has the low value; how many had it.
int raise_threads(pid_t process, int nice) {
  std::error_code gone;
  int raised = 0;
  std::filesystem::directory_iterator threads(fmt::format("/proc/{}/task", process), gone);
  for (; !gone && threads != std::filesystem::end(threads); threads.increment(gone)) {
    std::string const name = threads->path().filename();
    pid_t thread = 0;
    std::from_chars(name.data(), name.data() + name.size(), thread);
    if (nice_of(thread) != kLowNice) continue;
    if (::setpriority(PRIO_PROCESS, static_cast<id_t>(thread), nice) == 0) ++raised;
  }
  return raised;
}

}  // namespace

bool LaunchPatience::is_over(Instant now, std::optional<Share> share) const {
  if (now - launched >= time_max) return true;
  return share && share->waited > share->ran + kWaitAllowance;
}

LaunchPriority LaunchPriority::lower(pid_t root, std::string const& cgroup_folder) {
  LaunchPriority priority;
  // Which of the three decides depends on the machine: the weight of a control group, if the
  // program's has one; else the autogroup of its session, if the kernel makes those; else the nice
  // value. Each is without effect where another one decides.
  priority.autogroup_ = move_down(autogroup_of(root));
  if (!cgroup_folder.empty()) {
    priority.weight_path_ = cgroup_folder + "/cpu.weight.nice";
    priority.weight_ = move_down(priority.weight_path_);
  }
  auto const nice = nice_of(root);
  if (nice && *nice < kLowNice && may_lower_nice(*nice) &&
      ::setpriority(PRIO_PROCESS, static_cast<id_t>(root), kLowNice) == 0)
    priority.nice_ = nice;
  return priority;
}

bool LaunchPriority::restore(std::span<pid_t const> tree) {
  // Busy: too soon after the last change. Every other failure does not become better by waiting.
  if (weight_ && write_once(weight_path_, *weight_) != EAGAIN) weight_.reset();
  if (autogroup_ && !raise_autogroups(tree, *autogroup_)) autogroup_.reset();
  if (nice_) {
    int raised = 1;
    for (int walk = 0; walk < kWalksMax && raised > 0; ++walk) {
      raised = 0;
      for (pid_t const process : tree) raised += raise_threads(process, *nice_);
    }
    if (raised == 0) nice_.reset();
  }
  return !is_low();
}

std::optional<LaunchPatience::Share> LaunchPriority::share(std::span<pid_t const> tree) {
  std::optional<LaunchPatience::Share> sum;
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
