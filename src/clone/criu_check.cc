// SPDX-License-Identifier: Apache-2.0
// Whether a CRIU works on this kernel: it dumps a program that listens on TCP, and restores it.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <utility>

#include <fmt/format.h>

#include "clone/criu.h"
#include "os/file.h"
#include "os/temp_dir.h"

namespace aether::clone {
namespace {

constexpr Duration kTestLimit = std::chrono::seconds(30);
constexpr std::size_t kTextMax = 4096;

struct Listener {
  os::UniqueFd fd;
  sockaddr_in address{};
};

Result<Listener> listen_somewhere() {
  Listener made{.fd = os::UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))};
  made.address.sin_family = AF_INET;
  made.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(made.address);
  auto* const name = reinterpret_cast<sockaddr*>(&made.address);
  if (!made.fd || ::bind(made.fd.get(), name, size) != 0 || ::listen(made.fd.get(), 1) != 0 ||
      ::getsockname(made.fd.get(), name, &size) != 0)
    return fail(system_error("listen", "127.0.0.1"));
  return made;
}

bool is_listening(sockaddr_in const& address) {
  os::UniqueFd const fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  auto const* const name = reinterpret_cast<sockaddr const*>(&address);
  return fd && ::connect(fd.get(), name, sizeof(address)) == 0;
}

/// The dumped one is ended by CRIU; the restored one is our child too, and is ended here.
Status dump_then_restore(Criu const& criu, std::string const& folder, Spawner const& spawner) {
  TRY_ASSIGN(Listener listener, listen_somewhere());
  // Whoever has a listener open is a server, as far as the kernel is concerned.
  TRY_ASSIGN(HeldChild server, spawner({.argv = {"/bin/sleep", "60"},
                                        .fds = {{.source = criu.nothing->get(), .target = 1},
                                                {.source = criu.nothing->get(), .target = 2},
                                                {.source = listener.fd.get(), .target = 3}},
                                        .workdir = "/"}));
  listener.fd.reset();
  std::string const number = fmt::format("{}", server.child.pid());
  std::string const dump_log = folder + "/dump.log";
  Status const dumped =
      run_criu(criu, {"dump", "-t", number, "-D", folder, "--network-lock", "skip", "-o", dump_log},
               dump_log, spawner, kTestLimit);
  (void)server.child.signal(SIGKILL);
  (void)server.child.reap_within(kTestLimit);
  TRY(dumped);
  std::string const log = folder + "/restore.log";
  TRY(run_criu(criu, {"restore", "-D", folder, "-d", "--restore-sibling", "-o", log}, log, spawner,
               kTestLimit));
  auto restored = os::Child::adopt(server.child.pid());
  if (!restored)
    return fail(ErrorCode::ImageFailed, "criu restore said that it worked, and nothing lives");
  bool const listens = is_listening(listener.address);
  (void)restored->signal(SIGKILL);
  (void)restored->reap_within(kTestLimit);
  if (listens) return {};
  return fail(ErrorCode::ImageFailed, "what was restored does not listen any more");
}

/// All that the result of the test depends on.
Result<std::string> circumstances(std::string const& program) {
  TRY_ASSIGN(std::string const boot, os::read_file("/proc/sys/kernel/random/boot_id", kTextMax));
  utsname kernel{};
  ::uname(&kernel);
  struct stat file{};
  if (::stat(program.c_str(), &file) != 0) return fail(system_error("stat", program));
  return fmt::format("{}{} {}\n{} {} {}.{} {}\n", boot, kernel.release, kernel.version, program,
                     file.st_size, file.st_mtim.tv_sec, file.st_mtim.tv_nsec, ::geteuid());
}

/// "Version: 4.2.1" of `criu --version`.
Result<std::string> version_of(std::string const& program, std::string const& folder,
                               Spawner const& spawner) {
  std::string const path = folder + "/version";
  os::UniqueFd const file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file) return fail(system_error("open", path));
  TRY_ASSIGN(
      HeldChild held,
      spawner({.argv = {program, "--version"},
               .environment = {"PATH=/usr/bin:/bin"},
               .fds = {{.source = file.get(), .target = 1}, {.source = file.get(), .target = 2}},
               .workdir = "/"}));
  TRY_ASSIGN(auto const ended, held.child.reap_within(kTestLimit));
  if (!ended) (void)held.child.signal(SIGKILL);
  TRY_ASSIGN(std::string const text, os::read_file(path, kTextMax));
  std::size_t const at = text.find("Version: ");
  if (at == std::string::npos)
    return fail(ErrorCode::ImageUnavailable,
                with_log(fmt::format("{} --version tells no version", program), text));
  std::size_t const begin = at + std::string_view("Version: ").size();
  return text.substr(begin, text.find('\n', begin) - begin);
}

}  // namespace

Result<Criu> check_criu(std::string const& folder, Spawner const& spawner) {
  TRY_ASSIGN(std::string const program, find_criu());
  TRY(make_private_folder(folder));
  TRY_ASSIGN(std::string const here, circumstances(program));
  auto const nothing =
      std::make_shared<os::UniqueFd const>(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!*nothing) return fail(system_error("open", "/dev/null"));
  std::string const note = folder + "/works";
  auto const noted = os::read_file(note, kTextMax);
  if (noted && noted->starts_with(here))
    return Criu{.program = program,
                .version = noted->substr(here.size()),
                .folder = folder,
                .nothing = nothing};
  TRY_ASSIGN(os::TempDir const scratch, os::TempDir::create("test", folder));
  TRY_ASSIGN(std::string version, version_of(program, scratch.path(), spawner));
  Criu criu{
      .program = program, .version = std::move(version), .folder = folder, .nothing = nothing};
  Status const works = dump_then_restore(criu, scratch.path(), spawner);
  if (!works)
    return fail(ErrorCode::ImageUnavailable,
                fmt::format("{} (CRIU {}) does not work here: {}", program, criu.version,
                            works.error().message()));
  TRY(os::write_file_atomically(note, here + criu.version, 0600));
  return criu;
}

}  // namespace aether::clone
