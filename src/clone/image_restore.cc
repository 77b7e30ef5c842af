// SPDX-License-Identifier: Apache-2.0
// How an image becomes a process. CRIU reads inventory.img when it has looked about it and before
// anything else of the image: in the folder that it is given, that is the end of a pipe of ours. So
// it can be started ahead, and goes on when the pipe is written to; and ends if we do.
#include <fcntl.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/fault.h"
#include "clone/image.h"
#include "clone/memory.h"
#include "os/file.h"
#include "os/proc.h"
#include "os/unix_socket.h"

namespace aether::clone {
namespace {

constexpr char const* kInventory = "inventory.img";
constexpr char const* kTree = "pstree.img";
constexpr char const* kFiles = "files.img";
constexpr std::size_t kReadMax = std::size_t{64} * 1024 * 1024;
constexpr std::size_t kStatusBytes = 8192;
/// In the child that CRIU is.
constexpr int kInventoryFd = 10;
constexpr int kReadyFd = 11;
constexpr int kStdoutFd = 12;
constexpr int kStderrFd = 13;
/// The next processes get the numbers after the last one.
constexpr pid_t kNextNumbers = 1000;
constexpr pid_t kFirstNumber = 300;  // The kernel begins anew there (RESERVED_PIDS).
constexpr int kNumberTries = 4096;
/// For SIGKILL to do its work.
constexpr Duration kRestoreReapLimit = std::chrono::seconds(2);

Status link_to(std::string const& target, std::string const& path) {
  if (::symlink(target.c_str(), path.c_str()) == 0) return {};
  return fail(system_error("symlink", path));
}

Status write_plain(std::string const& path, std::string_view content) {
  os::UniqueFd const file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file) return fail(system_error("open", path));
  ssize_t const count = ::write(file.get(), content.data(), content.size());
  if (count == static_cast<ssize_t>(content.size())) return {};
  return fail(system_error("write", path));
}

/// Files whose names have the number of a thread: "core-17.img". 0: it is no such file.
pid_t number_in(std::string_view name) {
  for (std::string_view const kind : {"core-", "fs-", "ids-", "mm-", "pagemap-", "creds-"}) {
    if (!name.starts_with(kind)) continue;
    return static_cast<pid_t>(std::atoi(std::string(name.substr(kind.size())).c_str()));
  }
  return 0;
}

Result<std::pair<os::UniqueFd, os::UniqueFd>> open_pipe() {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail(system_error("pipe2"));
  return std::pair(os::UniqueFd(ends[0]), os::UniqueFd(ends[1]));
}

long read_setting(char const* path) {
  auto const text = os::read_file(path, 64);
  return text ? std::atol(text->c_str()) : 0;
}

void inherit(os::SpawnSpec& spec, int source, int target, std::string const& name) {
  if (source < 0 || name.empty()) return;
  spec.fds.push_back({.source = source, .target = target});
  spec.argv.insert(spec.argv.end(), {"--inherit-fd", fmt::format("fd[{}]:{}", target, name)});
}

/// Whether a thread (PRIO_PROCESS) or a group (PRIO_PGRP) has the number. getpriority() asks that
/// without sending a signal.
bool is_known(int which, pid_t number) {
  errno = 0;
  (void)::getpriority(which, static_cast<id_t>(number));
  return errno != ESRCH;
}

}  // namespace

Result<std::vector<pid_t>> free_numbers(std::size_t count) {
  long const most = std::max<long>(read_setting("/proc/sys/kernel/pid_max"), kFirstNumber + 1);
  long const last = read_setting("/proc/sys/kernel/ns_last_pid");
  auto const range = static_cast<std::uint32_t>(most - kFirstNumber);
  std::vector<pid_t> numbers;
  for (int i = 0; i < kNumberTries && numbers.size() < count; ++i) {
    std::uint32_t chance = 0;
    if (::getrandom(&chance, sizeof(chance), 0) != sizeof(chance))
      return fail(system_error("getrandom"));
    auto const number = static_cast<pid_t>(kFirstNumber + chance % range);
    bool const is_next = number > last && number <= last + kNextNumbers;
    // Also of a group that lives on without its first process.
    bool const is_taken = is_known(PRIO_PROCESS, number) || is_known(PRIO_PGRP, number);
    if (is_next || is_taken || std::ranges::find(numbers, number) != numbers.end()) continue;
    numbers.push_back(number);
  }
  if (numbers.size() == count) return numbers;
  return fail(ErrorCode::LimitReached,
              fmt::format("no {} process numbers are free (kernel.pid_max is {})", count, most));
}

struct Restore::State {
  Image image;
  os::TempDir folder;
  HeldChild criu;
  os::UniqueFd go;  ///< Our end of the pipe that is its inventory.
  os::UniqueFd ready;
  std::string inventory;
  Renumbering numbers;
  PortChanges ports;
  bool begun = false;
  bool given_away = false;

  State(Image of, os::TempDir scratch, HeldChild child)
      : image(std::move(of)), folder(std::move(scratch)), criu(std::move(child)) {}
  State(State const&) = delete;
  State& operator=(State const&) = delete;
  ~State();

  [[nodiscard]] pid_t new_number(pid_t old) const {
    auto const found = numbers.find(old);
    return found == numbers.end() ? old : found->second;
  }
  [[nodiscard]] std::string log() const { return folder.file("restore.log"); }
  Status number_anew(std::vector<pid_t> const& free);
  Status choose_ports(FreePort const& free_port);
  /// It remembers the number of its original.
  void correct_numbers(pid_t pid) const;
  Status check_rights(pid_t pid) const;
};

Restore::State::~State() {
  if (given_away) return;
  (void)criu.child.signal(SIGKILL);
  (void)criu.child.reap_within(kRestoreReapLimit);
  if (!begun) return;
  // What CRIU had made of it by then is a child of ours.
  pid_t const pid = new_number(image.manifest.threads.front());
  auto made = os::Child::adopt(pid);
  auto const parent = os::read_parent(pid);
  if (!made || !parent || *parent != ::getpid()) return;
  (void)made->signal(SIGKILL);
  (void)made->reap_within(kRestoreReapLimit);
}

Status Restore::State::number_anew(std::vector<pid_t> const& free) {
  std::vector<pid_t> const& old = image.manifest.threads;
  for (std::size_t i = 0; i < old.size(); ++i) numbers[old[i]] = free[i];
  TRY_ASSIGN(std::string const tree, os::read_file(image.folder + "/pstree.img", kReadMax));
  TRY_ASSIGN(std::string const changed, renumber(tree, numbers));
  TRY(write_plain(folder.file(kTree), changed));
  for (auto const& [name, sum] : image.manifest.files) {
    pid_t const number = number_in(name);
    if (number == 0) continue;
    std::string const kind = name.substr(0, name.find('-'));
    TRY(link_to(fmt::format("{}/{}", image.folder, name),
                folder.file(fmt::format("{}-{}.img", kind, new_number(number)))));
  }
  return {};
}

Status Restore::State::choose_ports(FreePort const& free_port) {
  for (ImageListener const& listener : image.manifest.listeners) {
    if (ports.contains(listener.port)) continue;
    TRY_ASSIGN(ports[listener.port], free_port());
  }
  TRY_ASSIGN(std::string const files, os::read_file(image.folder + "/files.img", kReadMax));
  TRY_ASSIGN(std::string const changed, change_ports(files, ports));
  return write_plain(folder.file(kFiles), changed);
}

void Restore::State::correct_numbers(pid_t pid) const {
  for (auto const& [old, address] : image.manifest.number_addresses) {
    if (address == 0) continue;
    std::array<std::byte, sizeof(pid_t)> bytes{};
    pid_t found = 0;
    if (!read_memory(pid, address, bytes)) continue;
    std::memcpy(&found, bytes.data(), sizeof(found));
    if (found != old) continue;
    pid_t const now = new_number(old);
    std::memcpy(bytes.data(), &now, sizeof(now));
    (void)write_memory(pid, address, bytes);
  }
}

Status Restore::State::check_rights(pid_t pid) const {
  TRY_ASSIGN(std::string const status,
             os::read_file(fmt::format("/proc/{}/status", pid), kStatusBytes));
  std::string const now = rights_of(status);
  if (now == image.manifest.rights) return {};
  return fail(ErrorCode::ImageFailed,
              fmt::format("it was restored with other rights than it had: {} instead of {}", now,
                          image.manifest.rights));
}

Restore::Restore(std::unique_ptr<State> state) : state_(std::move(state)) {}
Restore::Restore(Restore&&) noexcept = default;
Restore& Restore::operator=(Restore&&) noexcept = default;
Restore::~Restore() = default;

Result<Restore> Restore::prepare(Criu const& criu, Image const& image, Wishes const& wishes,
                                 Spawner const& spawner) {
  TRY(fault::pass(fault::Point::ImagePrepare));
  TRY_ASSIGN(os::TempDir folder, os::TempDir::create("restore", wishes.scratch));
  for (auto const& [name, sum] : image.manifest.files) {
    bool const is_ours = name == kInventory || name == kTree || name == kFiles;
    if (is_ours || number_in(name) != 0) continue;
    TRY(link_to(fmt::format("{}/{}", image.folder, name), folder.file(name)));
  }
  TRY(link_to(fmt::format("/proc/self/fd/{}", kInventoryFd), folder.file(kInventory)));
  TRY_ASSIGN(std::string inventory,
             os::read_file(fmt::format("{}/{}", image.folder, kInventory), kReadMax));
  TRY_ASSIGN(auto pipe, open_pipe());
  std::pair<os::UniqueFd, os::UniqueFd> ready;
  if (!image.manifest.ready_name.empty()) {
    TRY_ASSIGN(ready, os::unix_pair(os::UnixKind::Stream, os::Blocking::Yes));
  }
  os::SpawnSpec spec =
      criu_spec(criu, {"restore", "-D", folder.path(), "-o", folder.file("restore.log"), "-v1",
                       "-d", "--restore-sibling", "--leave-stopped"});
  spec.cgroup = wishes.cgroup;
  spec.fds.push_back({.source = pipe.first.get(), .target = kInventoryFd});
  inherit(spec, ready.second.get(), kReadyFd, image.manifest.ready_name);
  inherit(spec, wishes.stdout_fd, kStdoutFd, image.manifest.stdout_name);
  if (image.manifest.stderr_name != image.manifest.stdout_name)
    inherit(spec, wishes.stderr_fd, kStderrFd, image.manifest.stderr_name);
  TRY_ASSIGN(HeldChild child, spawner(spec));
  auto state = std::make_unique<State>(image, std::move(folder), std::move(child));
  state->go = std::move(pipe.second);
  state->ready = std::move(ready.first);
  state->inventory = std::move(inventory);
  return Restore(std::move(state));
}

bool Restore::waits() const {
  auto const ended = state_->criu.child.try_reap();
  return !state_->begun && ended && !*ended;
}

Status Restore::begin(FreePort const& free_port) {
  TRY(fault::pass(fault::Point::ImageRestore));
  TRY_ASSIGN(auto const numbers, free_numbers(state_->image.manifest.threads.size()));
  TRY(state_->number_anew(numbers));
  TRY(state_->choose_ports(free_port));
  state_->begun = true;
  std::string const& inventory = state_->inventory;
  // Far less than a pipe holds.
  ssize_t const count = ::write(state_->go.get(), inventory.data(), inventory.size());
  state_->go.reset();
  if (count == static_cast<ssize_t>(inventory.size())) return {};
  return fail(ErrorCode::ImageFailed,
              with_log_file("criu restore ended before it was let go", state_->log()));
}

int Restore::pidfd() const {
  return state_->criu.child.pidfd();
}

Result<Restored> Restore::finish() {
  State& state = *state_;
  TRY_ASSIGN(auto const ended, state.criu.child.try_reap());
  if (!ended) return fail(ErrorCode::Timeout, "criu restore has not ended yet");
  if (!ended->success())
    return fail(ErrorCode::ImageFailed,
                with_log_file(fmt::format("criu restore {}", ended->describe()), state.log()));
  TRY(fault::pass(fault::Point::ImageAwaken));
  pid_t const pid = state.new_number(state.image.manifest.threads.front());
  auto child = os::Child::adopt(pid);
  if (!child || os::read_parent(pid) != ::getpid())
    return fail(ErrorCode::ImageFailed,
                with_log_file("criu restore said that it worked, and nothing lives", state.log()));
  state.correct_numbers(pid);
  TRY(state.check_rights(pid));
  Restored restored{.child = std::move(*child), .listeners = {}, .ready = std::move(state.ready)};
  for (ImageListener const& listener : state.image.manifest.listeners)
    restored.listeners.push_back({.original_port = listener.port,
                                  .port = state.ports.at(listener.port),
                                  .only_ipv6 = listener.ipv6 && listener.only_ipv6});
  state.given_away = true;
  return restored;
}

Status Restored::awaken() const {
  return child.signal(SIGCONT);
}

}  // namespace aether::clone
