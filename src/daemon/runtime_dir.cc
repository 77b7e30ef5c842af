// SPDX-License-Identifier: Apache-2.0
#include "daemon/runtime_dir.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/checksum.h"
#include "os/unix_socket.h"

namespace aether::daemon {
namespace {

namespace fs = std::filesystem;

/// The control socket's name within the folder of its Aether.
constexpr std::string_view kControlName = "control.sock";

std::string variable(char const* name) {
  char const* value = std::getenv(name);
  return value != nullptr ? value : "";
}

/// The same file gives the same name, however its path is written.
std::string real_path(std::string const& path) {
  std::error_code ec;
  fs::path const real = fs::weakly_canonical(path, ec);
  return ec ? path : real.string();
}

}  // namespace

std::string runtime_root() {
  if (std::string own = variable("AETHER_RUNTIME_DIR"); !own.empty()) return own;
  if (std::string xdg = variable("XDG_RUNTIME_DIR"); !xdg.empty()) return xdg + "/aether";
  if (::geteuid() == 0 && ::access("/run", W_OK) == 0) return "/run/aether";
  // With a read-only root (docker run --read-only) only the shared memory's folder may be left.
  bool const no_tmp = ::access("/tmp", W_OK) != 0 && ::access("/dev/shm", W_OK) == 0;
  return fmt::format("{}/aether-{}", no_tmp ? "/dev/shm" : "/tmp", ::geteuid());
}

RuntimeNames runtime_names(std::string const& config_path) {
  std::string const real = real_path(config_path);
  // Short, because a unix socket's path has 107 bytes and the services' sockets lie below it.
  std::string const stem = fs::path(real).stem().string().substr(0, 24);
  std::string folder = fmt::format("{}/{}-{:08x}", runtime_root(), stem, crc32c(real));
  return {.folder = folder,
          .control_socket = fmt::format("{}/{}", folder, kControlName),
          .log_file = fmt::format("{}/aether.log", folder)};
}

Status make_private_folder(std::string const& path) {
  std::error_code ec;
  std::string const parent = fs::path(path).parent_path().string();
  fs::create_directories(parent, ec);
  // Whoever owns the folder above can put another one in our place: /tmp/aether-UID can be guessed.
  struct stat above{};
  if (::lstat(parent.c_str(), &above) != 0) return fail(system_error("lstat", parent));
  if (above.st_uid != 0 && above.st_uid != ::geteuid() && ::geteuid() != 0) {
    return fail(ErrorCode::Forbidden,
                fmt::format("{} belongs to somebody else; set AETHER_RUNTIME_DIR to a folder of "
                            "this user",
                            parent));
  }
  if (::mkdir(path.c_str(), 0711) != 0 && errno != EEXIST) return fail(system_error("mkdir", path));
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) return fail(system_error("lstat", path));
  if (!S_ISDIR(info.st_mode) || info.st_uid != ::geteuid()) {
    return fail(
        ErrorCode::Forbidden,
        fmt::format("{} is not a folder of this user; remove it, or set AETHER_RUNTIME_DIR", path));
  }
  if (::chmod(path.c_str(), 0711) != 0) return fail(system_error("chmod", path));
  return {};
}

Status check_socket_room(std::string const& folder) {
  // "/notify-<number>-<tag>.sock" is the longest name of ours besides the services' own.
  constexpr std::size_t kNameMax = 34;
  if (folder.size() + kNameMax <= os::kUnixPathMax) return {};
  return fail(
      ErrorCode::AddressInvalid,
      fmt::format("the runtime folder {} is too long for the sockets in it (a path of a unix "
                  "socket has at most {} bytes); set AETHER_RUNTIME_DIR to a shorter one",
                  folder, os::kUnixPathMax));
}

std::vector<std::string> living_control_sockets() {
  std::vector<std::string> living;
  std::error_code ec;
  for (auto const& entry : fs::directory_iterator(runtime_root(), ec)) {
    std::string const socket = (entry.path() / kControlName).string();
    if (os::is_listening(socket)) living.push_back(socket);
  }
  std::ranges::sort(living);
  return living;
}

Result<std::string> find_control_socket(std::optional<std::string> const& config_path,
                                        std::vector<std::string> const& default_files) {
  if (config_path) {
    std::string socket = runtime_names(*config_path).control_socket;
    if (os::is_listening(socket)) return socket;
    return fail(ErrorCode::NotRunning,
                fmt::format("no Aether runs for {}; start it with: aether up -c {}", *config_path,
                            *config_path));
  }
  for (std::string const& file : default_files) {
    std::string socket = runtime_names(file).control_socket;
    if (os::is_listening(socket)) return socket;
  }
  std::vector<std::string> const living = living_control_sockets();
  if (living.size() == 1) return living.front();
  if (living.empty()) {
    return fail(ErrorCode::NotRunning,
                fmt::format("no running Aether was found below {}; start one with: aether up -c "
                            "FILE",
                            runtime_root()));
  }
  return fail(
      ErrorCode::UsageInvalid,
      fmt::format("several Aethers run; name one with -c FILE ({})", fmt::join(living, ", ")));
}

}  // namespace aether::daemon
