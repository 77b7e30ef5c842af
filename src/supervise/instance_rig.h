// SPDX-License-Identifier: Apache-2.0
// InstanceRig: what the instance tests share. Only *_test.cc files include this.
#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "async/event.h"
#include "async/loop.h"
#include "async/testing.h"
#include "async/timers.h"
#include "os/proc.h"
#include "os/temp_dir.h"
#include "supervise/instance.h"

namespace aether::supervise {

/// For what happens at once on an idle machine: generous, because ours may not be.
inline constexpr Duration kPatience = std::chrono::seconds(30);

class InstanceRig {
 public:
  explicit InstanceRig(async::Loop& loop)
      : loop_(loop), logs("test", loop.clock()), dir_(or_throw(os::TempDir::create("sup"))) {
    spec.service = "test";
    spec.revision = {1};
    spec.instance = {1};
    spec.ready = config::ReadyNotify{};
    spec.runtime_dir = dir_.path();
  }

  Result<std::unique_ptr<Instance>> try_launch(config::Command command) {
    spec.command = std::move(command);
    InstanceWorld world{.executor = loop_.executor(),
                        .clock = loop_.clock(),
                        .logs = logs,
                        .known = &known,
                        .store = store,
                        .own_binds = own_binds,
                        .own_environment = own_environment()};
    return Instance::launch(spec, std::move(world), [this](InstanceId, InstanceEvent const& event) {
      events.push_back(event);
      told_.set();
      told_.reset();
    });
  }
  std::unique_ptr<Instance> launch(config::Command command) {
    return or_throw(try_launch(std::move(command)));
  }
  std::unique_ptr<Instance> shell(std::string script) {
    return launch({"/bin/sh", "-c", std::move(script)});
  }
  std::unique_ptr<Instance> python(std::string script) {
    bool const waits = script.contains("wait_for_usr1");
    std::string const head = waits ? "WAITS = True\n" : "";
    return launch({"/usr/bin/python3", "-c", head + kPythonPrelude + script});
  }

  /// The first event of that type, told already or to come; none if it does not come.
  template <class T>
  async::Task<std::optional<T>> wait() {
    Instant const deadline = loop_.clock().now() + kPatience;
    while (true) {
      if (T const* found = seen<T>()) co_return *found;
      bool const more = co_await told_.wait_until(deadline);
      if (!more) co_return std::nullopt;
    }
  }
  template <class T>
  T const* seen() const {
    for (InstanceEvent const& event : events)
      if (auto const* found = std::get_if<T>(&event)) return found;
    return nullptr;
  }
  /// Waits until the log has this line.
  async::Task<bool> wait_line(std::string text) {
    Instant const deadline = loop_.clock().now() + kPatience;
    std::uint64_t cursor = 1;
    while (loop_.clock().now() < deadline) {
      LogBatch const batch = logs.since(cursor);
      for (LogLine const& line : batch.lines)
        if (line.text == text) co_return true;
      cursor = batch.next;
      if (!batch.lines.empty()) continue;
      async::Task<void> changed = logs.changed(cursor);
      co_await async::with_deadline(deadline - loop_.clock().now(), std::move(changed));
    }
    co_return false;
  }
  [[nodiscard]] std::vector<std::string> lines() const {
    std::vector<std::string> texts;
    for (LogLine const& line : logs.tail(kLogLinesMax)) texts.push_back(line.text);
    return texts;
  }
  /// Waits until the process is gone, or a zombie.
  async::Task<bool> wait_dead(pid_t pid) {
    Instant const deadline = loop_.clock().now() + kPatience;
    while (loop_.clock().now() < deadline) {
      auto const process = os::read_process(pid);
      if (!process || process->ended()) co_return true;
      co_await async::sleep_for(std::chrono::milliseconds(2));
    }
    co_return false;
  }
  /// A listener on a free port of 127.0.0.1, passed as fd 3 (and on).
  std::uint16_t listen() {
    os::UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in name{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(name);
    auto* address = reinterpret_cast<sockaddr*>(&name);
    EXPECT_EQ(::bind(socket.get(), address, size), 0);
    EXPECT_EQ(::listen(socket.get(), 128), 0);
    EXPECT_EQ(::getsockname(socket.get(), address, &size), 0);
    std::uint16_t const port = ntohs(name.sin_port);
    spec.listeners.push_back({.name = fmt::format("l{}", sockets_.size()),
                              .fd = socket.get(),
                              .address = {.host = "127.0.0.1", .port = port}});
    sockets_.push_back(std::move(socket));
    return port;
  }
  [[nodiscard]] std::string file(std::string_view name) const { return dir_.file(name); }
  [[nodiscard]] async::Loop& loop() { return loop_; }

  /// `notify(bytes)` and the modules that the scripts use.
  static inline std::string const kPythonPrelude =
      "import os, socket, sys, time, signal, array\n"
      "def notify(data, fds=()):\n"
      "    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
      "    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)\n"
      "    s.connect(os.environ['NOTIFY_SOCKET'])\n"
      "    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else "
      "[]\n"
      "    s.sendmsg([data], rights)\n"
      "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]) if globals().get('WAITS') else "
      "None\n"
      "def wait_for_usr1():\n"
      "    signal.sigwait([signal.SIGUSR1])\n"
      "def say(*words):\n"
      "    print(*words, flush=True)\n";

  LaunchSpec spec;
  std::vector<InstanceEvent> events;
  KnownChildren known;
  FdStore* store = nullptr;
  std::optional<OwnBinds> own_binds;

 private:
  async::Loop& loop_;

 public:
  LogBook logs;

 private:
  os::TempDir dir_;
  async::Event told_;
  std::deque<os::UniqueFd> sockets_;
};

}  // namespace aether::supervise
