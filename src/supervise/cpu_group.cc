// SPDX-License-Identifier: Apache-2.0
#include "supervise/cpu_group.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include <fmt/format.h>

#include "os/unique_fd.h"

namespace aether::supervise {
namespace {

std::string switch_of(std::string const& folder) {
  return folder + "/cpu.idle";
}

bool is_writable(std::string const& path) {
  return ::access(path.c_str(), W_OK) == 0;
}

}  // namespace

CpuGroup::CpuGroup(std::string switch_path, std::string made)
    : switch_(std::move(switch_path)), made_(std::move(made)) {}

CpuGroup::CpuGroup(CpuGroup&& other) noexcept
    : switch_(std::move(other.switch_)), made_(std::exchange(other.made_, {})) {}

CpuGroup& CpuGroup::operator=(CpuGroup&& other) noexcept {
  std::swap(switch_, other.switch_);
  std::swap(made_, other.made_);
  return *this;
}

CpuGroup::~CpuGroup() {
  if (!made_.empty()) ::rmdir(made_.c_str());
}

std::optional<CpuGroup> CpuGroup::find(os::Cgroup const* own, LimitSet const& limits,
                                       std::string const& name) {
  if (own != nullptr && is_writable(switch_of(own->path())))
    return CpuGroup(switch_of(own->path()), "");
  if (std::string const held = limits.cpu_folder(); !held.empty())
    return is_writable(switch_of(held)) ? std::optional(CpuGroup(switch_of(held), ""))
                                        : std::nullopt;
  std::string const parent = v1_folder("cpu");
  if (parent.empty()) return std::nullopt;
  std::string folder = fmt::format("{}/{}", parent, name);
  if (::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST) return std::nullopt;
  CpuGroup group(switch_of(folder), folder);
  if (!is_writable(group.switch_)) return std::nullopt;
  return group;
}

bool CpuGroup::set_idle(bool idle) const {
  os::UniqueFd const file(::open(switch_.c_str(), O_WRONLY | O_CLOEXEC));
  return file && ::write(file.get(), idle ? "1" : "0", 1) == 1;
}

}  // namespace aether::supervise
