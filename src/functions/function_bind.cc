// SPDX-License-Identifier: Apache-2.0
// Instances that bind the port that is documented, each for itself and beside the others: in its
// control group the kernel makes it another port (steer/bind_rewriter.h), on which the gateway
// reaches it, or which the kernel chooses for a connection (lookup_route.h).
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "functions/function_impl.h"
#include "steer/lookup_router.h"

namespace aether::functions {
namespace {

Address wildcard(std::uint16_t port) {
  return {.transport = Transport::Tcp, .host = {}, .port = port};
}

/// The gateway knows one port of an instance.
void note_others(std::vector<std::string>& notes, std::size_t listeners) {
  std::string const note =
      "its processes bind the port each for itself, and the gateway reaches one of them: say bind: "
      "internal, or route: direct";
  if (listeners > 1 && std::ranges::find(notes, note) == notes.end()) notes.push_back(note);
}

}  // namespace

Result<bool> Function::Impl::choose_bind(config::Function const& function,
                                         std::vector<std::string>& notes) const {
  bool const is_direct = function.route == config::Route::Direct;
  // A restored instance binds nothing: its listener comes with it.
  bool const is_restored = function.launch == config::Launch::Image;
  bool const has_ring = function.ipc == config::Ipc::Ring;
  if (function.bind == config::Bind::Internal || has_ring || is_restored) return false;
  // A handler of a direct route that takes the listener it is given binds nothing: which of both it
  // does cannot be seen before it runs.
  if (function.bind == config::Bind::Auto && is_direct) return false;
  if (is_direct && static_cast<std::size_t>(function.max_instances) > steer::kRouteSharesMax)
    return fail(
        ErrorCode::LimitReached,
        fmt::format("{}: the kernel chooses among {} instances at most; max_instances is {}", id_,
                    steer::kRouteSharesMax, function.max_instances));
  Result<steer::LookupRouter*> const router = deps_.router();
  if (router) return true;
  if (function.bind == config::Bind::Documented) return fail(router.error());
  notes.push_back(fmt::format("it is told a port of its own (bind: internal), because {}",
                              router.error().message()));
  return false;
}

Result<supervise::OwnBinds> Function::Impl::own_binds(
    std::shared_ptr<std::optional<steer::BindRewriter>> binds) const {
  TRY_ASSIGN(steer::LookupRouter* const router, deps_.router());
  Address const address = wildcard(spec_.function.trigger_port);
  auto const prepare = [router, address, binds](os::Cgroup const& group) -> Status {
    TRY_ASSIGN(*binds, steer::BindRewriter::attach(*router, group.fd(), {&address, 1}));
    return {};
  };
  return supervise::OwnBinds{.prepare = prepare,
                             // Functions look themselves: see find_listener().
                             .complete = [](std::span<pid_t const>) { return true; },
                             .own_port = {},
                             .first_port = address.port,
                             .addresses = address.text()};
}

bool Function::Impl::find_listener(Live& live) const {
  std::vector<pid_t> const tree = live.instance->tree();
  auto taken = live.binds->take(tree);
  if (!taken) return false;
  auto const fitting = steer::sockets_for(wildcard(spec_.function.trigger_port), *taken);
  if (fitting.empty()) return false;
  live.port = fitting.front()->hidden_port;
  if (!is_looked_up()) {
    note_others(live.revision->notes, fitting.size());
    return true;
  }
  // Kept: what waits for one that dies is left to us.
  live.listeners.clear();
  for (steer::TakenSocket const* const one : fitting)
    live.listeners.emplace_back(::fcntl(one->fd.get(), F_DUPFD_CLOEXEC, 0));
  return true;
}

Status Function::Impl::take_listener(Live& live, FreshCopy const& copy) const {
  if (!is_looked_up()) return {};
  os::UniqueFd listener(
      static_cast<int>(::syscall(SYS_pidfd_getfd, copy.child.pidfd(), copy.listener, 0)));
  if (listener) {
    live.listeners.push_back(std::move(listener));
    return {};
  }
  return fail(system_error("pidfd_getfd", fmt::format("the listener of a copy of {}", id_)));
}

}  // namespace aether::functions
