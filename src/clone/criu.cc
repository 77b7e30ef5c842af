// SPDX-License-Identifier: Apache-2.0
#include "clone/criu.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <deque>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "os/file.h"

namespace aether::clone {
namespace {

constexpr std::size_t kLogBytesMax = std::size_t{4} * 1024 * 1024;
constexpr std::size_t kLogLinesMax = 10;
constexpr Duration kReapLimit = std::chrono::seconds(5);
constexpr std::string_view kInstalled = "lib/aether/criu/criu";

bool is_program(std::string const& path) {
  struct stat file{};
  return ::stat(path.c_str(), &file) == 0 && S_ISREG(file.st_mode) &&
         ::access(path.c_str(), X_OK) == 0;
}

std::string own_prefix() {
  std::array<char, 4096> path{};
  ssize_t const length = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
  std::string folder(path.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
  for (int i = 0; i < 2; ++i) folder = folder.substr(0, folder.rfind('/'));
  return folder;
}

Status make_one(std::string const& path) {
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return fail(system_error("mkdir", path));
}

}  // namespace

Result<HeldChild> spawn_plainly(os::SpawnSpec const& spec) {
  TRY_ASSIGN(os::Child child, os::spawn(spec));
  return HeldChild{.child = std::move(child), .hold = {}};
}

os::SpawnSpec criu_spec(Criu const& criu, std::vector<std::string> words) {
  std::vector<std::string> argv{criu.program};
  argv.insert(argv.end(), words.begin(), words.end());
  // As one without privileges it keeps its notes where XDG_RUNTIME_DIR says instead of in /run,
  // which is not in memory everywhere; what it is allowed to do stays as it is. man 8 criu.
  argv.insert(argv.end(), {"--unprivileged", "--no-default-config", "--manage-cgroups=ignore"});
  return {.argv = std::move(argv),
          .environment = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                          fmt::format("XDG_RUNTIME_DIR={}", criu.folder)},
          .fds = {{.source = criu.nothing->get(), .target = STDOUT_FILENO},
                  {.source = criu.nothing->get(), .target = STDERR_FILENO}},
          .workdir = criu.folder};
}

std::string with_log(std::string what, std::string_view log) {
  std::deque<std::string> lines;
  std::deque<std::string> errors;
  while (!log.empty()) {
    std::string line(log.substr(0, log.find('\n')));
    log.remove_prefix(std::min(line.size() + 1, log.size()));
    if (line.empty()) continue;
    for (char& byte : line)
      if (static_cast<unsigned char>(byte) < 0x20 || byte == 0x7F) byte = ' ';
    auto& list = line.contains("Error") ? errors : lines;
    list.push_back(std::move(line));
    if (list.size() > kLogLinesMax) list.pop_front();
  }
  auto const& told = errors.empty() ? lines : errors;
  if (told.empty()) return what;
  return fmt::format("{}; CRIU's log says:\n    {}", what, fmt::join(told, "\n    "));
}

std::string with_log_file(std::string what, std::string const& path) {
  auto const log = os::read_file(path, kLogBytesMax);
  return log ? with_log(std::move(what), *log) : what;
}

Status run_criu(Criu const& criu, std::vector<std::string> words, std::string const& log,
                Spawner const& spawner, Duration patience) {
  std::string const verb = words.empty() ? "" : words.front();
  TRY_ASSIGN(HeldChild held, spawner(criu_spec(criu, std::move(words))));
  TRY_ASSIGN(auto const ended, held.child.reap_within(patience));
  if (!ended) {
    (void)held.child.signal(SIGKILL);
    (void)held.child.reap_within(kReapLimit);
    return fail(
        ErrorCode::Timeout,
        with_log_file(fmt::format("criu {} took longer than {}", verb, humanize(patience)), log));
  }
  if (ended->success()) return {};
  return fail(ErrorCode::ImageFailed,
              with_log_file(fmt::format("criu {} {}", verb, ended->describe()), log));
}

Result<std::string> find_criu() {
  if (char const* const named = std::getenv("AETHER_CRIU"); named != nullptr) {
    if (is_program(named)) return std::string(named);
    return fail(ErrorCode::ImageUnavailable,
                fmt::format("AETHER_CRIU names {}, which is no program", named));
  }
  for (std::string const& place :
       {fmt::format("{}/{}", own_prefix(), kInstalled), fmt::format("/usr/local/{}", kInstalled)})
    if (is_program(place)) return place;
  char const* const path = std::getenv("PATH");
  auto const found =
      os::find_command("criu", {fmt::format("PATH={}", path != nullptr ? path : "")}, "/");
  if (found) return *found;
  return fail(ErrorCode::ImageUnavailable,
              "there is no CRIU on this machine; scripts/install-criu installs one that works");
}

Status make_private_folder(std::string const& path) {
  for (std::size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1))
    TRY(make_one(path.substr(0, at)));
  TRY(make_one(path));
  struct stat folder{};
  if (::lstat(path.c_str(), &folder) != 0) return fail(system_error("stat", path));
  bool const is_ours =
      S_ISDIR(folder.st_mode) && folder.st_uid == ::geteuid() && (folder.st_mode & 022) == 0;
  if (is_ours) return {};
  return fail(ErrorCode::ImageUnavailable,
              fmt::format("{} is not a folder that only Aether's user may write to, and what lies "
                          "in an image is run with its rights; remove it, or name another one as "
                          "orchestrator.snapshot_dir",
                          path));
}

}  // namespace aether::clone
