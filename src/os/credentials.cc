// SPDX-License-Identifier: Apache-2.0
// find_credentials: names and numbers to ids, through the system's user database.
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include <fmt/format.h>

#include "os/process.h"

namespace aether::os {
namespace {

constexpr std::size_t kEntryMax = std::size_t{1024} * 1024;  // groups may have thousands of members

std::optional<unsigned> parse_id(std::string_view text) {
  unsigned id = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  // The highest number means "leave unchanged" to setresuid: never an id.
  if (error != std::errc() || end != text.data() + text.size() || id == ~0U) return std::nullopt;
  return id;
}

/// Calls a get*_r function with a buffer that grows until the entry fits. 0, or why not.
template <class Lookup>
int with_buffer(std::vector<char>& buffer, Lookup lookup) {
  buffer.resize(4096);
  int reason = lookup();
  while (reason == ERANGE && buffer.size() < kEntryMax) {
    buffer.resize(buffer.size() * 4);
    reason = lookup();
  }
  return reason;
}

/// Fills in the user's ids, groups, name and home; false if the user has no entry.
bool look_up_user(std::string_view user, Credentials& credentials) {
  passwd entry{};
  passwd* found = nullptr;
  std::vector<char> buffer;
  auto id = parse_id(user);
  std::string const name(user);
  with_buffer(buffer, [&] {
    return id ? ::getpwuid_r(*id, &entry, buffer.data(), buffer.size(), &found)
              : ::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  });
  if (found == nullptr) return false;
  credentials.uid = entry.pw_uid;
  credentials.gid = entry.pw_gid;
  credentials.name = entry.pw_name;
  credentials.home = entry.pw_dir;
  int count = 64;
  credentials.groups.resize(static_cast<std::size_t>(count));
  while (::getgrouplist(entry.pw_name, entry.pw_gid, credentials.groups.data(), &count) < 0)
    credentials.groups.resize(static_cast<std::size_t>(count));
  credentials.groups.resize(static_cast<std::size_t>(count));
  return true;
}

std::optional<gid_t> look_up_group(std::string_view group_name) {
  if (auto id = parse_id(group_name)) return *id;
  group entry{};
  group* found = nullptr;
  std::vector<char> buffer;
  std::string const name(group_name);
  with_buffer(buffer, [&] {
    return ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  });
  return found != nullptr ? std::optional(entry.gr_gid) : std::nullopt;
}

}  // namespace

Result<Credentials> find_credentials(std::string_view user) {
  std::size_t const colon = std::min(user.find(':'), user.size());
  std::string_view const login = user.substr(0, colon);
  Credentials credentials;
  if (!look_up_user(login, credentials)) {
    auto id = parse_id(login);
    if (!id)
      return fail(ErrorCode::UserUnknown, fmt::format("there is no user \"{}\" here", login));
    credentials.uid = *id;  // a number needs no entry, as in containers
    credentials.gid = *id;
    credentials.groups = {*id};
  }
  if (colon == user.size()) return credentials;
  auto group = look_up_group(user.substr(colon + 1));
  if (!group)
    return fail(ErrorCode::UserUnknown,
                fmt::format("there is no group \"{}\" here", user.substr(colon + 1)));
  credentials.gid = *group;
  if (std::ranges::find(credentials.groups, *group) == credentials.groups.end())
    credentials.groups.push_back(*group);
  return credentials;
}

}  // namespace aether::os
