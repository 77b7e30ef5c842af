// SPDX-License-Identifier: Apache-2.0
#include "clone/threads.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include <fmt/format.h>

#include "os/file.h"
#include "os/proc.h"

namespace aether::clone {
namespace {

/// Together 2 s for killed threads to be gone, which takes them well below a millisecond.
constexpr int kReapRoundsMax = 10'000;
constexpr unsigned kReapPauseUs = 200;
constexpr std::size_t kStatusMax = std::size_t{16} * 1024;

/// A line of /proc/.../status, whole; empty if there is none.
std::string status_line(std::string const& path, std::string_view key) {
  auto const status = os::read_file(path, kStatusMax);
  if (!status) return {};
  auto const begin = status->find(fmt::format("\n{}:", key));
  if (begin == std::string::npos) return {};
  return status->substr(begin + 1, status->find('\n', begin + 1) - begin - 1);
}

}  // namespace

Result<std::vector<pid_t>> list_threads(pid_t pid) {
  std::error_code error;
  std::vector<pid_t> tids;
  auto const folder = fmt::format("/proc/{}/task", pid);
  for (auto const& entry : std::filesystem::directory_iterator(folder, error)) {
    auto const name = entry.path().filename().string();
    pid_t tid = 0;
    std::from_chars(name.data(), name.data() + name.size(), tid);
    tids.push_back(tid);
  }
  if (error) return fail(system_error_from(error.value(), "opendir", folder));
  // The main thread has the process's number and comes first.
  std::ranges::sort(tids, {}, [pid](pid_t tid) { return std::pair(tid != pid, tid); });
  return tids;
}

pid_t read_own_tid(pid_t pid, pid_t tid) {
  // "NSpid:\t26985\t1" (man 5 proc_pid_status): the innermost namespace's is the last.
  auto const line = status_line(fmt::format("/proc/{}/task/{}/status", pid, tid), "NSpid");
  pid_t own = tid;
  auto const last = line.rfind('\t') + 1;
  std::from_chars(line.data() + last, line.data() + line.size(), own);
  return own;
}

pid_t read_tracer(pid_t pid) {
  auto const line = status_line(fmt::format("/proc/{}/status", pid), "TracerPid");
  pid_t tracer = 0;
  auto const last = line.rfind('\t') + 1;
  std::from_chars(line.data() + last, line.data() + line.size(), tracer);
  return tracer;
}

bool has_ended(pid_t tid) {
  auto const line = os::read_file(fmt::format("/proc/{}/stat", tid), kStatusMax);
  auto const thread = line ? os::parse_stat(*line) : std::nullopt;
  return !thread || thread->state == 'Z' || thread->state == 'X';
}

std::vector<pid_t> reap_threads(std::vector<pid_t> tids) {
  // In no order: of the first process of a pid namespace, the last thread to end waits until the
  // numbers of all others are free again (zap_pid_ns_processes in kernel/pid_namespace.c).
  for (int round = 0; !tids.empty() && round < kReapRoundsMax; ++round) {
    std::erase_if(tids, [](pid_t tid) {
      int status = 0;
      auto const gone = waitpid(tid, &status, __WALL | WNOHANG);
      return gone < 0 || (gone == tid && !WIFSTOPPED(status));
    });
    usleep(kReapPauseUs);
  }
  return tids;
}

}  // namespace aether::clone
