// SPDX-License-Identifier: Apache-2.0
#include "steer/unix_steering.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "base/log.h"
#include "os/proc.h"
#include "os/unix_socket.h"
#include "steer/sock_diag.h"
#include "steer/socket_address.h"

namespace aether::steer {
namespace {

/// Of the path's name, this much stands in the hidden names (NAME_MAX is 255).
constexpr std::size_t kShownBaseMax = 100;
/// More names than stragglers of former Aethers could hold.
constexpr int kNamesTriedMax = 1000;

std::optional<struct stat> stat_in(int folder, std::string const& name) {
  struct stat status{};
  if (fstatat(folder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return std::nullopt;
  return status;
}

bool is_same_file(struct stat const& a, struct stat const& b) {
  return a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

/// 0 if somebody would answer at this socket file, else the reason (ECONNREFUSED: nobody).
int knock(int folder, std::string const& name, int type, pid_t& holder) {
  os::UniqueFd const probe(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe) return errno;
  // Through /proc, so that the folder's length does not count.
  Address const target{.transport = Transport::UnixStream,
                       .host = {},
                       .path = fmt::format("/proc/self/fd/{}/{}", folder, name)};
  auto const address = to_socket_address(target);
  if (!address) return ENAMETOOLONG;
  if (connect(probe.get(), address->get(), address->length) != 0) return errno;
  if (auto const peer = os::peer_credentials(probe.get())) holder = peer->pid;
  return 0;
}

/// As knock(), whatever the socket's type is.
int knock_any(int folder, std::string const& name, pid_t& holder) {
  for (int const type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
    int const answer = knock(folder, name, type, holder);
    if (answer != EPROTOTYPE) return answer;
  }
  return EPROTOTYPE;
}

Error unix_error(ListenSpec const& spec, ErrorCode code, std::string_view why, int errno_value) {
  return {code, fmt::format("listener \"{}\" on {}: {}", spec.name, spec.address.text(), why),
          errno_value};
}

/// The pid in ".NAME.aether-PID-N[.keep]", 0 if the name is not of that form.
pid_t maker_of(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return 0;
  name.remove_prefix(prefix.size());
  pid_t pid = 0;
  for (char const c : name.substr(0, name.find('-'))) {
    if (c < '0' || c > '9' || pid > 100'000'000) return 0;
    pid = pid * 10 + (c - '0');
  }
  return pid;
}

std::string hidden_prefix(std::string_view base_name) {
  return fmt::format(".{}.aether-", base_name.substr(0, kShownBaseMax));
}

}  // namespace

Result<UnixSteering::Opened> UnixSteering::open(ListenSpec const& spec) {
  std::unique_ptr<UnixSteering> steering(new UnixSteering(spec));
  TRY(steering->open_folder());
  TRY(steering->claim_path());
  steering->sweep();
  TRY_ASSIGN(auto first, steering->open_lane());
  if (auto linked = steering->direct_to(first); !linked) {
    steering->remove_names(first);
    return fail(std::move(linked).error());
  }
  return Opened{.steering = std::move(steering), .first = std::move(first)};
}

Status UnixSteering::open_folder() {
  auto const& path = spec_.address.path;
  auto const slash = path.rfind('/');
  if (slash != std::string::npos) folder_path_ = path.substr(0, slash + 1);
  base_name_ = path.substr(folder_path_.size());
  auto const* name = folder_path_.empty() ? "." : folder_path_.c_str();
  folder_.reset(::open(name, O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (folder_) return {};
  return fail(unix_error(spec_, ErrorCode::ListenFailed,
                         fmt::format("the folder {} cannot be opened; create it", name), errno));
}

/// The path must be free, or a socket that nobody listens on. It is replaced later, by rename.
Status UnixSteering::claim_path() const {
  auto const present = stat_in(folder_.get(), base_name_);
  if (!present) return {};
  if (!S_ISSOCK(present->st_mode))
    return fail(unix_error(spec_, ErrorCode::AddressInUse,
                           "there is a file of that name which is no socket; remove it, or choose "
                           "another path",
                           EEXIST));
  pid_t holder = 0;
  int const answer = knock_any(folder_.get(), base_name_, holder);
  if (answer == ECONNREFUSED || answer == ENOENT) return {};
  std::string who = holder > 0 ? fmt::format("{} (pid {})", os::read_comm(holder), holder)
                               : describe_holder(spec_.address);
  if (answer == EACCES || answer == EPERM)
    return fail(unix_error(spec_, ErrorCode::AddressInUse,
                           "there is a socket of that name which this user may not ask whether it "
                           "is alive; remove it, or choose another path",
                           answer));
  return fail(unix_error(spec_, ErrorCode::AddressInUse,
                         fmt::format("{} listens there; stop it, or choose another path", who),
                         EADDRINUSE));
}

/// Removes hidden names of an Aether that was killed.
void UnixSteering::sweep() const {
  int const copy = openat(folder_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (copy < 0) return;
  DIR* const entries = fdopendir(copy);
  if (entries == nullptr) {
    ::close(copy);
    return;
  }
  auto const prefix = hidden_prefix(base_name_);
  while (dirent const* const entry = readdir(entries)) {
    pid_t const maker = maker_of(entry->d_name, prefix);
    pid_t holder = 0;
    if (maker == 0 || knock_any(folder_.get(), entry->d_name, holder) != ECONNREFUSED) continue;
    unlinkat(folder_.get(), entry->d_name, 0);
  }
  closedir(entries);
}

/// Chooses a name that is free: a straggler of an Aether that had our pid may still hold one.
Status UnixSteering::bind_hidden(Lane& lane) {
  // The file is born with the socket's own mode (unix_bind in net/unix/af_unix.c), without umask
  // being touched, which is the whole process's.
  if (spec_.unix_mode) fchmod(lane.fd.get(), *spec_.unix_mode);
  for (int attempt = 0; attempt < kNamesTriedMax; ++attempt) {
    lane.shown_name = fmt::format("{}{}-{}", hidden_prefix(base_name_), getpid(), ++lanes_made_);
    Address shown = spec_.address;
    shown.path = folder_path_ + lane.shown_name;
    // A long folder leaves no room for the hidden name; by way of /proc there is always enough.
    if (shown.path.size() > kUnixPathMax) {
      lane.shown_name = fmt::format(".aether-{}-{}", getpid(), lanes_made_);
      shown.path = fmt::format("/proc/self/fd/{}/{}", folder_.get(), lane.shown_name);
    }
    TRY_ASSIGN(auto const address, to_socket_address(shown));
    if (::bind(lane.fd.get(), address.get(), address.length) == 0) return {};
    if (errno != EADDRINUSE) break;
  }
  return fail(unix_error(spec_, ErrorCode::ListenFailed,
                         fmt::format("no socket can be made in its folder; check that this user "
                                     "may write to \"{}\"",
                                     folder_path_.empty() ? "." : folder_path_),
                         errno));
}

/// What the configuration says, else what the path has now (someone may have changed it).
Status UnixSteering::keep_mode(Lane const& lane) const {
  auto const present = stat_in(folder_.get(), base_name_);
  bool const replaces = present && S_ISSOCK(present->st_mode);
  if (!spec_.unix_mode && !replaces) return {};
  auto const mode = spec_.unix_mode ? *spec_.unix_mode : present->st_mode & 07777U;
  if (fchmodat(folder_.get(), lane.shown_name.c_str(), mode, 0) != 0)
    return fail(unix_error(spec_, ErrorCode::ListenFailed, "its mode could not be set", errno));
  bool const other_owner =
      replaces && (present->st_uid != geteuid() || present->st_gid != getegid());
  if (other_owner && fchownat(folder_.get(), lane.shown_name.c_str(), present->st_uid,
                              present->st_gid, AT_SYMLINK_NOFOLLOW) != 0)
    log::debug("listener \"{}\": the owner of {} could not be kept", spec_.name,
               spec_.address.path);
  return {};
}

Result<Lane> UnixSteering::open_lane() {
  Lane lane;
  lane.fd.reset(socket(AF_UNIX, socket_type(spec_.address.transport) | SOCK_CLOEXEC, 0));
  if (!lane.fd)
    return fail(unix_error(spec_, ErrorCode::ListenFailed,
                           system_error("no socket could be made").message(), errno));
  TRY_ASSIGN(lane.inode, inode_of(lane.fd.get()));
  TRY(bind_hidden(lane));
  lane.kept_name = lane.shown_name + ".keep";
  // The link comes first: of a file given to another owner none may be made any more
  // (fs.protected_hardlinks).
  int const linked =
      linkat(folder_.get(), lane.shown_name.c_str(), folder_.get(), lane.kept_name.c_str(), 0);
  auto ready = linked == 0 ? keep_mode(lane)
                           : fail(unix_error(spec_, ErrorCode::ListenFailed,
                                             "its folder's file system has no hard links", errno));
  if (ready && spec_.address.has_connections() && ::listen(lane.fd.get(), spec_.backlog) != 0)
    ready = fail(unix_error(spec_, ErrorCode::ListenFailed, "listen failed", errno));
  if (ready) return lane;
  remove_names(lane);
  return fail(std::move(ready).error());
}

bool UnixSteering::is_public(Lane const& lane) const {
  auto const kept = stat_in(folder_.get(), lane.kept_name);
  auto const present = stat_in(folder_.get(), base_name_);
  return kept && present && is_same_file(*kept, *present);
}

Status UnixSteering::direct_to(Lane const& lane) {
  // Renaming one hard link over another of the same file does nothing (man 2 rename).
  if (is_public(lane)) return {};
  auto const temporary = fmt::format("{}{}-next", hidden_prefix(base_name_), getpid());
  int const folder = folder_.get();
  unlinkat(folder, temporary.c_str(), 0);
  bool const moved = linkat(folder, lane.kept_name.c_str(), folder, temporary.c_str(), 0) == 0 &&
                     renameat(folder, temporary.c_str(), folder, base_name_.c_str()) == 0;
  if (moved) return {};
  Error error = unix_error(spec_, ErrorCode::ListenFailed,
                           "the path could not be moved to another lane", errno);
  unlinkat(folder, temporary.c_str(), 0);
  return fail(std::move(error));
}

Status UnixSteering::end_lane(Lane& lane, Lane const* steered) {
  // The ended program may have unlinked the path on its way out: it is put back before anything
  // else, since clients miss it.
  Status const restored = steered != nullptr ? direct_to(*steered) : Status();
  ::shutdown(lane.fd.get(), SHUT_RDWR);
  lane.fd.reset();
  remove_names(lane);
  return restored;
}

Status UnixSteering::reconcile(std::span<Lane const> /*lanes*/, Lane const* steered) {
  if (steered == nullptr || is_public(*steered)) return {};
  log::warn("listener \"{}\": {} was removed or replaced by another program; it is put back",
            spec_.name, spec_.address.path);
  return direct_to(*steered);
}

void UnixSteering::remove_names(Lane const& lane) const {
  if (!lane.kept_name.empty()) unlinkat(folder_.get(), lane.kept_name.c_str(), 0);
  unlinkat(folder_.get(), lane.shown_name.c_str(), 0);
}

void UnixSteering::close(std::span<Lane> lanes) {
  bool const ours = std::ranges::any_of(lanes, [&](Lane const& lane) { return is_public(lane); });
  if (ours) unlinkat(folder_.get(), base_name_.c_str(), 0);
  for (auto& lane : lanes) {
    ::shutdown(lane.fd.get(), SHUT_RDWR);
    lane.fd.reset();
    remove_names(lane);
  }
}

}  // namespace aether::steer
