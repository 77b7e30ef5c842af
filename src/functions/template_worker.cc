// SPDX-License-Identifier: Apache-2.0
#include "functions/template_worker.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "clone/template.h"
#include "os/process.h"
#include "supervise/log_pump.h"

namespace aether::functions {

/// Touched on the worker's thread alone.
struct TemplateWorker::State {
  std::optional<clone::Template> original;
  std::vector<clone::Reconnection> reconnections;
};

namespace {

constexpr int kTriesMax = 1000;
constexpr Duration kTryReap = std::chrono::seconds(2);

Result<clone::CopiedListener> listener_of(std::vector<clone::CopiedListener> const& listeners,
                                          std::uint16_t original_port) {
  auto const found = std::ranges::find_if(listeners, [&](clone::CopiedListener const& one) {
    return one.original_port == original_port && !one.only_ipv6;
  });
  if (found != listeners.end()) return *found;
  return fail(ErrorCode::Unsupported,
              fmt::format("the copy does not listen on IPv4 in place of port {}", original_port));
}

Result<FreshCopy> make_copy(clone::Template& original,
                            std::vector<clone::Reconnection> const& reconnections,
                            std::optional<std::uint16_t> port, std::string const& group,
                            Duration patience, std::vector<LentDescriptor> const& lent) {
  std::optional<os::Cgroup> cgroup;
  if (auto created = os::Cgroup::create(group)) cgroup = std::move(*created);
  TRY_ASSIGN(supervise::OutputPipe out, supervise::OutputPipe::open());
  TRY_ASSIGN(supervise::OutputPipe err, supervise::OutputPipe::open());
  clone::CopyWishes wishes;
  wishes.files.replacements = {{.number = STDOUT_FILENO, .source = out.write_end.get()},
                               {.number = STDERR_FILENO, .source = err.write_end.get()}};
  for (LentDescriptor const& one : lent)
    wishes.files.replacements.push_back({.number = one.number, .source = one.fd});
  wishes.files.reconnections = reconnections;
  wishes.files.listeners = port ? clone::TcpListeners::Own : clone::TcpListeners::Shared;
  wishes.cgroup = cgroup ? cgroup->fd() : -1;
  wishes.patience = patience;
  TRY_ASSIGN(clone::Copied copied, original.copy(wishes));
  auto const listens = port ? listener_of(copied.listeners, *port)
                            : Result<clone::CopiedListener>({.descriptor = -1});
  if (!listens) {
    (void)copied.child.signal(SIGKILL);
    return fail(listens.error());
  }
  return FreshCopy{.child = std::move(copied.child),
                   .cgroup = std::move(cgroup),
                   .stdout_pipe = std::move(out.read_end),
                   .stderr_pipe = std::move(err.read_end),
                   .port = listens->port,
                   .listener = listens->descriptor};
}

}  // namespace

Status try_copying() {
  TRY_ASSIGN(os::Child child, os::spawn({.argv = {"/bin/sleep", "60"}}));
  auto const tried = [&]() -> Status {
    auto original = clone::Template::freeze(child.pid());
    // It has to come to its wait first.
    for (int i = 0; i < kTriesMax && !original; ++i) {
      if (original.error().code() != ErrorCode::NotReady) break;
      original = clone::Template::freeze(child.pid());
    }
    if (!original) return fail(original.error());
    TRY_ASSIGN(clone::Copied copied, original->copy());
    (void)copied.child.signal(SIGKILL);
    (void)copied.child.reap_within(kTryReap);
    return {};
  };
  Status result = tried();
  (void)child.signal(SIGKILL);
  (void)child.reap_within(kTryReap);
  return result;
}

TemplateWorker::TemplateWorker() : state_(std::make_shared<State>()), thread_(1) {}

TemplateWorker::~TemplateWorker() {
  (void)thread_.post([state = state_] { state->original.reset(); });
}

async::Task<Status> TemplateWorker::freeze(pid_t pid, std::string ready_socket) {
  auto freezing = async::offload(thread_, [state = state_, pid, ready_socket]() -> Status {
    TRY_ASSIGN(clone::Template original, clone::Template::freeze(pid, {ready_socket}));
    state->original.emplace(std::move(original));
    state->reconnections = {{.path = ready_socket}};
    return {};
  });
  co_return co_await std::move(freezing);
}

async::Task<Result<FreshCopy>> TemplateWorker::copy(std::optional<std::uint16_t> port,
                                                    std::string group, Duration patience,
                                                    std::vector<LentDescriptor> lent) {
  auto copying =
      async::offload(thread_, [state = state_, port, group, patience, lent]() -> Result<FreshCopy> {
        if (!state->original) return fail(ErrorCode::NotRunning, "the template is gone");
        return make_copy(*state->original, state->reconnections, port, group, patience, lent);
      });
  co_return co_await std::move(copying);
}

async::Task<bool> TemplateWorker::lives() {
  auto looking = async::offload(
      thread_, [state = state_] { return state->original && state->original->lives(); });
  co_return co_await std::move(looking);
}

bool TemplateWorker::is_at_rest(pid_t pid) {
  return clone::is_at_rest(pid);
}

async::Task<void> TemplateWorker::drop() {
  auto dropping = async::offload(thread_, [state = state_] { state->original.reset(); });
  co_await std::move(dropping);
}

}  // namespace aether::functions
