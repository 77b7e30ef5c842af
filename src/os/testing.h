// SPDX-License-Identifier: Apache-2.0
// For tests that start real programs: run one and have its output, or talk with it line by line.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "os/file.h"
#include "os/process.h"

namespace aether::os::testing {

/// Generous: only a hang is as slow as this, also under a sanitizer on a loaded machine.
inline constexpr Duration kPatience = std::chrono::seconds(30);

/// Asks again and again, for what the kernel has no event for.
inline bool wait_until(std::function<bool()> const& holds, Duration patience = kPatience) {
  Instant const deadline = std::chrono::steady_clock::now() + patience;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

/// A pipe, both ends close-on-exec.
struct Pipe {
  Pipe() {
    int ends[2] = {-1, -1};
    if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
    read_end = UniqueFd(ends[0]);
    write_end = UniqueFd(ends[1]);
  }
  UniqueFd read_end;
  UniqueFd write_end;
};

/// One byte of output, nullopt at the end of it or if none comes in time.
inline std::optional<char> read_byte(int fd) {
  pollfd wait{.fd = fd, .events = POLLIN, .revents = 0};
  if (::poll(&wait, 1, 30'000) <= 0) return std::nullopt;
  char byte = 0;
  return ::read(fd, &byte, 1) == 1 ? std::optional(byte) : std::nullopt;
}

/// The environment of tests: enough for a shell or Python to be found.
inline std::vector<std::string> plain_environment() {
  return {"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"};
}

/// A running program with pipes at 0 and 1. Killed and reaped on destruction.
class Program {
 public:
  explicit Program(SpawnSpec spec) {
    if (spec.environment.empty()) spec.environment = plain_environment();
    Pipe input;
    Pipe output;
    spec.fds.push_back({.source = input.read_end.get(), .target = 0});
    spec.fds.push_back({.source = output.write_end.get(), .target = 1});
    auto child = spawn(spec);
    if (!child) ADD_FAILURE() << child.error().describe();
    if (child) child_.emplace(std::move(*child));
    input_ = std::move(input.write_end);
    output_ = std::move(output.read_end);
  }
  Program(Program&&) = default;
  ~Program() {
    if (!child_) return;
    [[maybe_unused]] auto const sent = child_->signal(SIGKILL);
    [[maybe_unused]] auto const status = child_->reap_within(kPatience);
  }

  [[nodiscard]] Child& child() { return child_.value(); }
  [[nodiscard]] pid_t pid() const { return child_.value().pid(); }
  /// The next line of its output without its end; "" at the end of the output.
  [[nodiscard]] std::string read_line() {
    std::string line;
    while (auto byte = read_byte(output_.get())) {
      if (*byte == '\n') break;
      line.push_back(*byte);
    }
    return line;
  }
  [[nodiscard]] std::string read_all() {
    std::string all;
    while (auto byte = read_byte(output_.get())) all.push_back(*byte);
    return all;
  }
  void write_line(std::string line) {
    line.push_back('\n');
    EXPECT_EQ(::write(input_.get(), line.data(), line.size()), static_cast<ssize_t>(line.size()));
  }
  /// How it ended; waits for it.
  [[nodiscard]] ExitStatus wait() {
    auto const status = child().reap_within(kPatience);
    if (!status || !*status) {
      ADD_FAILURE() << "the program did not end";
      return {.code = -1};
    }
    return **status;
  }

 private:
  std::optional<Child> child_;
  UniqueFd input_;
  UniqueFd output_;
};

struct Output {
  ExitStatus status;
  std::string text;
};
/// Runs a program to its end.
inline Output run(SpawnSpec spec) {
  Program program(std::move(spec));
  std::string text = program.read_all();
  return {.status = program.wait(), .text = std::move(text)};
}

inline SpawnSpec shell(std::string script) {
  return {.argv = {"/bin/sh", "-c", std::move(script)}, .environment = plain_environment()};
}
inline SpawnSpec python(std::string script) {
  // -S -E: start quickly, and without what the machine's owner has installed.
  return {.argv = {"/usr/bin/python3", "-S", "-E", "-u", "-c", std::move(script)},
          .environment = plain_environment()};
}

/// An executable file with this content.
inline bool write_script(std::string const& path, std::string_view content, mode_t mode = 0755) {
  return write_file_atomically(path, content, mode).has_value();
}

/// Runs the body in a process of its own, so that it may change what a process has only one of;
/// true if no expectation failed in it.
inline bool in_own_process(std::function<void()> const& body) {
  pid_t const pid = ::fork();
  if (pid == 0) {
    body();
    std::fflush(nullptr);
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = -1;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

inline constexpr uid_t kOrdinaryUser = 1000;

/// Runs the body as an ordinary user without any privilege, in a process of its own if we are root.
inline bool as_ordinary_user(std::function<void()> const& body) {
  if (::geteuid() != 0) {
    body();
    return !::testing::Test::HasFailure();
  }
  return in_own_process([&] {
    gid_t const group = kOrdinaryUser;
    if (::setgroups(1, &group) != 0 || ::setresgid(group, group, group) != 0 ||
        ::setresuid(kOrdinaryUser, kOrdinaryUser, kOrdinaryUser) != 0)
      ::_exit(2);
    ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);  // as after an exec by that user
    body();
  });
}

}  // namespace aether::os::testing
