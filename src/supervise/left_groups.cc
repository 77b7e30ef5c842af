// SPDX-License-Identifier: Apache-2.0
#include "supervise/left_groups.h"

#include <unistd.h>

#include <filesystem>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "os/cgroup.h"
#include "supervise/limits.h"

namespace aether::supervise {
namespace {

namespace fs = std::filesystem;

/// A group and those that its tree made below it. rmdir() refuses one in which something lives.
bool remove_tree(std::string const& group) {
  std::error_code ec;
  for (fs::directory_iterator entry(group, ec), end; !ec && entry != end; entry.increment(ec)) {
    if (entry->is_directory(ec)) (void)remove_tree(entry->path());
  }
  return ::rmdir(group.c_str()) == 0;
}

}  // namespace

LeftGroups remove_left_groups(std::string_view tag) {
  std::set<std::string> parents;
  if (auto own = os::own_cgroup_path()) parents.insert(*own);
  for (std::string_view const controller : {"memory", "pids", "cpu"})
    if (std::string folder = v1_folder(controller); !folder.empty()) parents.insert(folder);
  std::string const prefix = fmt::format("aether-{}-", tag);
  LeftGroups left;
  for (std::string const& parent : parents) {
    std::error_code ec;
    std::vector<std::string> groups;
    for (fs::directory_iterator entry(parent, ec), end; !ec && entry != end; entry.increment(ec)) {
      if (entry->path().filename().string().starts_with(prefix)) groups.push_back(entry->path());
    }
    for (std::string const& group : groups) ++(remove_tree(group) ? left.removed : left.kept);
  }
  return left;
}

}  // namespace aether::supervise
