// SPDX-License-Identifier: Apache-2.0
#include "supervise/limits.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "os/file.h"

namespace aether::supervise {
namespace {

/// The period in which cpu quotas are counted, the kernel's own default.
constexpr int kCpuPeriodMicroseconds = 100'000;

bool write_whole(std::string const& path, std::string const& value) {
  std::ofstream file(path);
  file << value;
  file.flush();
  return file.good();
}

/// Who may swap instead of ending is not held by a memory limit, only made slow. Where the kernel
/// does not count swap there is no such file, and nothing to do.
void forbid_swap(std::string const& folder, std::string const& bytes) {
  std::string const v2 = folder + "/memory.swap.max";
  std::string const v1 = folder + "/memory.memsw.limit_in_bytes";
  if (::access(v2.c_str(), W_OK) == 0) (void)write_whole(v2, "0");
  if (::access(v1.c_str(), W_OK) == 0) (void)write_whole(v1, bytes);
}

os::ResourceLimit limit_of(decltype(RLIMIT_NOFILE) resource, std::uint64_t value) {
  rlimit now{};
  ::getrlimit(resource, &now);
  bool const may_raise = ::geteuid() == 0 || now.rlim_max == RLIM_INFINITY;
  rlim_t const wanted = static_cast<rlim_t>(value);
  rlim_t const allowed = may_raise ? wanted : std::min<rlim_t>(wanted, now.rlim_max);
  return {.resource = static_cast<int>(resource), .soft = allowed, .hard = allowed};
}

}  // namespace

std::string v1_folder(std::string_view controller) {
  auto const table = os::read_file("/proc/self/cgroup", 64 * 1024);
  if (!table) return {};
  std::istringstream lines(*table);
  for (std::string line; std::getline(lines, line);) {
    std::size_t const first = line.find(':');
    std::size_t const second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::string const controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    if (!controllers.contains(fmt::format(",{},", controller))) continue;
    std::string const mount = fmt::format("/sys/fs/cgroup/{}", controller);
    // In a container the path may be the host's, and the mount be our own group already.
    for (std::string const& folder : {mount + line.substr(second + 1), mount})
      if (::access(folder.c_str(), W_OK) == 0) return folder;
  }
  return {};
}

/// One limit as the kernel takes it, in both versions of control groups.
struct LimitSet::Knob {
  std::string_view key;         ///< In our configuration.
  std::string_view controller;  ///< Its v1 hierarchy.
  std::string_view v2_file;
  std::string v2_value;
  std::string_view v1_file;
  std::string v1_value;
};

std::vector<os::ResourceLimit> resource_limits(config::Limits const& limits) {
  std::vector<os::ResourceLimit> set;
  if (limits.open_files) set.push_back(limit_of(RLIMIT_NOFILE, *limits.open_files));
  if (limits.core_size) set.push_back(limit_of(RLIMIT_CORE, *limits.core_size));
  return set;
}

LimitSet LimitSet::create(config::Limits const& limits, os::Cgroup const* cgroup,
                          std::string const& name) {
  LimitSet set;
  for (os::ResourceLimit const& limit : resource_limits(limits)) {
    bool const files = limit.resource == static_cast<int>(RLIMIT_NOFILE);
    std::uint64_t const wanted = files ? *limits.open_files : *limits.core_size;
    if (limit.hard < wanted)
      set.warnings_.push_back(
          fmt::format("limits.{}: {} is more than the {} that Aether itself may "
                      "have, which is what the program gets",
                      files ? "open_files" : "core_size", wanted, limit.hard));
  }
  if (limits.memory) {
    std::string const bytes = fmt::format("{}", *limits.memory);
    set.set({"memory", "memory", "memory.max", bytes, "memory.limit_in_bytes", bytes}, cgroup,
            name);
  }
  if (limits.processes) {
    std::string const count = fmt::format("{}", *limits.processes);
    set.set({"processes", "pids", "pids.max", count, "pids.max", count}, cgroup, name);
  }
  if (limits.cpu) {
    auto const quota = std::llround(*limits.cpu * kCpuPeriodMicroseconds);
    set.set({"cpu", "cpu", "cpu.max", fmt::format("{} {}", quota, kCpuPeriodMicroseconds),
             "cpu.cfs_quota_us", fmt::format("{}", quota)},
            cgroup, name);
  }
  return set;
}

void LimitSet::set(Knob const& knob, os::Cgroup const* cgroup, std::string const& name) {
  if (cgroup != nullptr) {
    std::string const file = fmt::format("{}/{}", cgroup->path(), knob.v2_file);
    if (::access(file.c_str(), W_OK) == 0 && write_whole(file, knob.v2_value)) {
      if (knob.controller == "memory") memory_events_ = cgroup->path() + "/memory.events";
      if (knob.controller == "memory") forbid_swap(cgroup->path(), knob.v1_value);
      return;
    }
  }
  if (std::string const parent = v1_folder(knob.controller); !parent.empty()) {
    std::string const folder = fmt::format("{}/{}", parent, name);
    bool const made = ::mkdir(folder.c_str(), 0755) == 0 || errno == EEXIST;
    if (made && write_whole(fmt::format("{}/{}", folder, knob.v1_file), knob.v1_value)) {
      folders_.push_back(folder);
      if (knob.controller == "cpu") cpu_folder_ = folder;
      if (knob.controller == "memory") memory_events_ = folder + "/memory.oom_control";
      if (knob.controller == "memory") forbid_swap(folder, knob.v1_value);
      return;
    }
    if (made) ::rmdir(folder.c_str());
  }
  warnings_.push_back(
      fmt::format("limits.{} is not enforced: there is no {} control group that "
                  "Aether may write to",
                  knob.key, knob.controller));
}

std::uint64_t LimitSet::memory_kills() const {
  if (memory_events_.empty()) return 0;
  std::ifstream events(memory_events_);
  std::string key;
  for (std::uint64_t count = 0; events >> key >> count;)
    if (key == "oom_kill") return count;
  return 0;
}

LimitSet::~LimitSet() {
  for (std::string const& folder : folders_) ::rmdir(folder.c_str());
}

void put_into(std::string const& folder, std::span<pid_t const> pids) {
  for (pid_t const pid : pids) {
    // Gone meanwhile, most likely: nothing to hold then.
    (void)write_whole(folder + "/cgroup.procs", fmt::format("{}", pid));
  }
}

}  // namespace aether::supervise
