// SPDX-License-Identifier: Apache-2.0
#include "functions/image_facts.h"

#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <variant>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/checksum.h"
#include "os/file.h"
#include "os/process.h"

namespace aether::functions {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFactMax = std::size_t{256} * 1024;
constexpr std::size_t kInterpreterLineMax = 256;
/// What systemd, a shell and other supervisors set anew at each start.
constexpr std::array<std::string_view, 14> kOfTheStart{"INVOCATION_ID",
                                                       "JOURNAL_STREAM",
                                                       "SYSTEMD_EXEC_PID",
                                                       "MANAGERPID",
                                                       "NOTIFY_SOCKET",
                                                       "SHLVL",
                                                       "PWD",
                                                       "OLDPWD",
                                                       "WATCHDOG_USEC",
                                                       "WATCHDOG_PID",
                                                       "_",
                                                       "WINDOWID",
                                                       "TERM_SESSION_ID",
                                                       "STY"};

std::string fact_of(std::string const& path, std::string_view what) {
  struct stat file{};
  if (::stat(path.c_str(), &file) != 0) return fmt::format("{} {} gone", what, path);
  std::uint32_t checksum = 0;
  bool const is_small =
      S_ISREG(file.st_mode) && static_cast<std::uint64_t>(file.st_size) <= kImageContentMax;
  if (is_small)
    if (auto const content = os::read_file(path, kImageContentMax + 1)) checksum = crc32c(*content);
  return fmt::format("{} {} {} {}.{:09} {:o} {:08x}", what, path, file.st_size, file.st_mtim.tv_sec,
                     file.st_mtim.tv_nsec, file.st_mode, checksum);
}

/// What is written there by running it, and by those who look after it.
bool is_by_product(fs::path const& path) {
  std::string const name = path.filename().string();
  return name == "__pycache__" || name == ".git" || name.ends_with(".pyc") ||
         name.ends_with(".log") || name.ends_with(".pid") || name.ends_with(".sock") ||
         name.ends_with("~") || name.ends_with(".swp");
}

Status add_folder(std::string const& folder, std::string_view what,
                  std::vector<std::string>& facts) {
  std::error_code failed;
  std::vector<std::string> files;
  auto const options = fs::directory_options::skip_permission_denied;
  for (auto at = fs::recursive_directory_iterator(folder, options, failed);
       !failed && at != fs::recursive_directory_iterator(); at.increment(failed)) {
    if (is_by_product(at->path())) {
      at.disable_recursion_pending();
      continue;
    }
    std::error_code unknown;
    if (at->is_regular_file(unknown)) files.push_back(at->path().string());
    if (files.size() > kImageFilesMax)
      return fail(ErrorCode::LimitReached,
                  fmt::format("{} has more than {} files, so that it cannot be told whether an "
                              "image is still of this code; give the handler a folder of its own",
                              folder, kImageFilesMax));
  }
  std::ranges::sort(files);
  for (std::string const& file : files) facts.push_back(fact_of(file, what));
  return {};
}

/// The programs that run it: argv[0], and what its #! line names.
std::vector<std::string> interpreters(ImageSubject const& subject) {
  std::vector<std::string> found;
  auto const add = [&](std::string const& name) {
    auto path = os::find_command(name, subject.own_environment, "/");
    if (!path) return;
    std::error_code failed;
    fs::path const real = fs::canonical(*path, failed);
    found.push_back(failed ? *path : real.string());
  };
  if (!subject.command.empty()) add(subject.command.front());
  auto const script = os::read_file(subject.function.handler_path, kImageContentMax);
  if (!script || !script->starts_with("#!")) return found;
  std::string const line = script->substr(2, std::min(script->find('\n'), kInterpreterLineMax) - 2);
  std::size_t begin = 0;
  while (begin < line.size()) {
    std::size_t const end = std::min(line.find(' ', begin), line.size());
    std::string const word = line.substr(begin, end - begin);
    if (!word.empty() && !word.starts_with('-')) add(word);
    begin = end + 1;
  }
  return found;
}

std::string processor() {
  auto const text = os::read_file("/proc/cpuinfo", std::size_t{4} * 1024 * 1024);
  if (!text) return "unknown";
  std::string facts;
  for (std::string_view const name : {"model name", "flags", "microcode"}) {
    std::size_t const at = text->find(name);
    if (at != std::string::npos) facts += text->substr(at, text->find('\n', at) - at) + "\n";
  }
  return fmt::format("{:08x}", crc32c(facts));
}

std::string environment_of(ImageSubject const& subject) {
  std::vector<std::string> lines;
  for (std::string const& variable : subject.own_environment)
    if (matters_to_images(variable)) lines.push_back(variable);
  std::ranges::sort(lines);
  for (auto const& [name, value] : subject.function.environment)
    lines.push_back(fmt::format("{}={}", name, value));
  // Secrets are not written down.
  std::string const text = fmt::format("{}", fmt::join(lines, "\n"));
  return fmt::format("{} {:08x} {:08x}", lines.size(), crc32c(text), crc32c(text, ~0U));
}

std::string settings_of(config::Function const& function) {
  auto const* http = std::get_if<config::ReadyHttp>(&function.ready);
  return fmt::format("{} {} {} {} {} {}", function.memory_limit_mb, function.processes,
                     function.cpu.value_or(0), static_cast<int>(function.sandbox),
                     http != nullptr ? http->url : "", fmt::join(function.warmup, " "));
}

}  // namespace

bool matters_to_images(std::string_view variable) {
  std::string_view const name = variable.substr(0, variable.find('='));
  return !name.starts_with("AETHER_") && !name.starts_with("LISTEN_") &&
         std::ranges::find(kOfTheStart, name) == kOfTheStart.end();
}

Result<std::vector<std::string>> image_facts(ImageSubject const& subject) {
  config::Function const& function = subject.function;
  TRY_ASSIGN(std::string boot, os::read_file("/proc/sys/kernel/random/boot_id", kFactMax));
  if (boot.ends_with('\n')) boot.pop_back();
  utsname kernel{};
  ::uname(&kernel);
  std::vector<std::string> facts{
      "form 1",
      // Clocks that programs remember go back with a boot.
      fmt::format("boot {}", boot),
      fmt::format("kernel {} {}", kernel.release, kernel.version),
      fmt::format("processor {}", processor()),
      fmt::format("user {} {}", ::geteuid(), ::getegid()),
      fmt::format("command {}", fmt::join(subject.command, " ")),
      fmt::format("environment {}", environment_of(subject)),
      fmt::format("settings {}", settings_of(function)),
  };
  for (std::string const& path : interpreters(subject))
    facts.push_back(fact_of(path, "interpreter"));
  facts.push_back(fact_of(function.handler_path, "handler"));
  std::size_t const slash = function.handler_path.rfind('/');
  if (slash != std::string::npos && slash > 0)
    TRY(add_folder(function.handler_path.substr(0, slash), "code", facts));
  if (!subject.sdk_folder.empty()) TRY(add_folder(subject.sdk_folder, "sdk", facts));
  return facts;
}

}  // namespace aether::functions
