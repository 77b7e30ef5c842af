// SPDX-License-Identifier: Apache-2.0
#include "steer/bind_rewriter.h"

#include <linux/magic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/fault.h"
#include "os/accepting.h"
#include "os/proc.h"
#include "steer/bind_claims.h"
#include "steer/bpf_steer.h"
#include "steer/sock_diag.h"
#include "steer/socket_address.h"
#include "steer/waiting_listener.h"

namespace aether::steer {
namespace {

struct Hook {
  char const* program;
  BpfAttach attach;
};
constexpr std::array kHooks = {
    Hook{"aether_name4", BpfAttach::Inet4GetSockName},
    Hook{"aether_name6", BpfAttach::Inet6GetSockName},
    Hook{"aether_hide4", BpfAttach::Inet4PostBind},
    Hook{"aether_hide6", BpfAttach::Inet6PostBind},
    Hook{"aether_unhide", BpfAttach::InetSockRelease},
    Hook{"aether_plain", BpfAttach::InetSockCreate},
    Hook{"aether_bind4", BpfAttach::Inet4Bind},
    Hook{"aether_bind6", BpfAttach::Inet6Bind},
};

/// The kernel's number of a cgroup v2 folder is its inode (64-bit kernels; kernfs_id).
Result<std::uint64_t> cgroup_id(int cgroup) {
  struct statfs system{};
  struct stat folder{};
  if (fstatfs(cgroup, &system) != 0 || fstat(cgroup, &folder) != 0)
    return fail(system_error("fstat", "the cgroup of an instance"));
  if (system.f_type != CGROUP2_SUPER_MAGIC)
    return fail(ErrorCode::Unsupported,
                "binds can be rewritten in a cgroup v2 folder only, and this is none");
  return folder.st_ino;
}

/// Sockets of a tree: inode to a process that has it, and its number there.
struct Held {
  pid_t pid = 0;
  int number = -1;
};

std::uint64_t inode_in_link(std::string_view link) {
  constexpr std::string_view kPrefix = "socket:[";
  if (!link.starts_with(kPrefix)) return 0;
  link.remove_prefix(kPrefix.size());
  std::uint64_t inode = 0;
  std::from_chars(link.data(), link.data() + link.size(), inode);
  return inode;
}

std::map<std::uint64_t, Held> sockets_of(std::span<pid_t const> tree) {
  std::map<std::uint64_t, Held> held;
  for (pid_t const pid : tree) {
    for (int const number : os::list_fds(pid)) {
      auto const inode = inode_in_link(os::read_fd_link(pid, number));
      if (inode != 0) held.try_emplace(inode, Held{.pid = pid, .number = number});
    }
  }
  return held;
}

/// Empty if the process is gone, or has something else under this number by now.
Result<os::UniqueFd> duplicate_of(Held const& held, std::uint64_t inode) {
  TRY(fault::pass(fault::Point::BindTake));
  os::UniqueFd const process(static_cast<int>(syscall(SYS_pidfd_open, held.pid, 0)));
  if (!process && errno == ESRCH) return os::UniqueFd();
  if (!process) return fail(system_error("pidfd_open"));
  os::UniqueFd fd(static_cast<int>(syscall(SYS_pidfd_getfd, process.get(), held.number, 0)));
  if (!fd && errno != EPERM && errno != EMFILE && errno != ENFILE) return os::UniqueFd();
  if (!fd) return fail(system_error("pidfd_getfd", fmt::format("process {}", held.pid)));
  struct stat found{};
  if (fstat(fd.get(), &found) != 0 || found.st_ino != inode) fd.reset();
  return fd;
}

}  // namespace

struct BindRewriter::State {
  std::shared_ptr<LookupRouter::State> router;
  os::UniqueFd cgroup;
  std::uint64_t id = 0;
  std::vector<os::UniqueFd> links;
  std::vector<Address> claims;

  State() = default;
  State(State const&) = delete;
  State& operator=(State const&) = delete;
  ~State() { unhide_all(); }

  Status attach();
  void unhide_all();
  [[nodiscard]] Result<std::set<std::uint64_t>> candidates(std::span<pid_t const> tree) const;
  [[nodiscard]] std::optional<TakenSocket> examine(os::UniqueFd fd) const;
};

Status BindRewriter::State::attach() {
  for (auto const& hook : kHooks) {
    TRY(fault::pass(fault::Point::BindAttach));
    auto link = bpf_link(router->programs.program(hook.program), cgroup.get(), hook.attach);
    if (!link)
      return fail(bpf_error(
          fmt::format("{} could not be attached to the cgroup of an instance", hook.program),
          link.error()));
    links.push_back(*std::move(link));
  }
  return {};
}

/// Nobody tells us any more when these sockets are closed, and their ports may then be others'.
void BindRewriter::State::unhide_all() {
  if (!router) return;
  links.clear();
  int const map = router->programs.map("aether_hidden");
  std::vector<std::uint16_t> ports;
  std::uint16_t port = 0;
  for (bool more = bpf_next_key(map, nullptr, &port); more; more = bpf_next_key(map, &port, &port))
    ports.push_back(port);
  for (auto const each : ports) {
    aether_hidden hidden{};
    if (bpf_read(map, &each, &hidden).value_or(false) && hidden.cgroup == id)
      (void)bpf_erase(map, &each);
  }
}

/// Inodes of what can be one: a tree that serves has thousands of connections that are none.
Result<std::set<std::uint64_t>> BindRewriter::State::candidates(std::span<pid_t const> tree) const {
  std::set<std::uint64_t> inodes;
  TRY_ASSIGN(auto const listeners, os::listening_sockets(tree));
  for (auto const& listener : listeners) inodes.insert(listener.inode);
  for (auto const& claim : claims) {
    if (claim.transport != Transport::Udp) continue;
    TRY_ASSIGN(auto const sockets, sockets_on_port(Transport::Udp, claim.port));
    for (auto const& socket : sockets) inodes.insert(socket.inode);
  }
  return inodes;
}

/// A socket with the mark of the bind hook that can serve.
std::optional<TakenSocket> BindRewriter::State::examine(os::UniqueFd fd) const {
  aether_bound bound{};
  int const key = fd.get();
  bool const marked =
      bpf_read(router->programs.map("aether_bound"), &key, &bound).value_or(false) &&
      bound.port != 0;
  if (!marked) return {};
  auto address = local_address(fd.get());
  if (!address || !check_serving(fd.get(), address->transport, router->network)) return {};
  TakenSocket taken{.fd = std::move(fd), .address = *std::move(address)};
  taken.address.port = bound.port;
  taken.hidden_port = bound.hidden != 0 ? bound.hidden : bound.port;
  return taken;
}

Result<BindRewriter> BindRewriter::attach(LookupRouter const& router, int cgroup,
                                          std::span<Address const> claims) {
  auto state = std::make_unique<State>();
  TRY_ASSIGN(state->id, cgroup_id(cgroup));
  TRY_ASSIGN(state->cgroup, os::duplicate(cgroup));
  state->router = router.state_;
  TRY(state->attach());
  BindRewriter rewriter(std::move(state));
  TRY(rewriter.set_claims(claims));
  return rewriter;
}

BindRewriter::BindRewriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
BindRewriter::BindRewriter(BindRewriter&&) noexcept = default;
BindRewriter& BindRewriter::operator=(BindRewriter&&) noexcept = default;
BindRewriter::~BindRewriter() = default;

Status BindRewriter::set_claims(std::span<Address const> claims) {
  TRY_ASSIGN(auto const all, make_claims(claims, state_->router->network, state_->id));
  TRY(fault::pass(fault::Point::BindClaims));
  TRY(bpf_write(state_->router->programs.map("aether_claims"), &state_->id, &all));
  state_->claims.assign(claims.begin(), claims.end());
  return {};
}

Result<std::vector<TakenSocket>> BindRewriter::take(std::span<pid_t const> tree) const {
  std::vector<TakenSocket> taken;
  TRY_ASSIGN(auto const candidates, state_->candidates(tree));
  for (auto const& [inode, held] : sockets_of(tree)) {
    if (!candidates.contains(inode)) continue;
    TRY_ASSIGN(auto fd, duplicate_of(held, inode));
    if (!fd) continue;
    auto socket = state_->examine(std::move(fd));
    if (!socket) continue;
    socket->pid = held.pid;
    socket->inode = inode;
    taken.push_back(*std::move(socket));
  }
  return taken;
}

Status BindRewriter::remember(int fd, Address const& documented) {
  TRY_ASSIGN(auto const local, local_address(fd));
  auto const& programs = state_->router->programs;
  bool const tcp = documented.transport == Transport::Tcp;
  aether_bound const bound{
      .port = documented.port, .hidden = tcp ? local.port : std::uint16_t{0}, .cgroup = state_->id};
  TRY(bpf_write(programs.map("aether_bound"), &fd, &bound));
  if (!tcp) return {};
  aether_hidden const hidden{.cgroup = state_->id, .sockets = 1};
  return bpf_write(programs.map("aether_hidden"), &local.port, &hidden);
}

}  // namespace aether::steer
