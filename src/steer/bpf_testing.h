// SPDX-License-Identifier: Apache-2.0
// For tests with BPF: a network namespace of the test's own, sockets in it, and python programs in
// a cgroup of theirs. Only *_test.cc files include this.
#pragma once
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/fault.h"
#include "os/cgroup.h"
#include "os/proc.h"
#include "os/testing.h"
#include "steer/bpf_kernel.h"
#include "steer/lookup_router.h"
#include "steer/testing.h"

namespace aether::steer::testing {

inline bool bring_up(std::string_view interface) {
  os::UniqueFd const any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  interface.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_flags = IFF_UP;
  return ioctl(any.get(), SIOCSIFFLAGS, &request) == 0;
}

/// A network namespace of this thread's own, with `lo`. The former one again at its end.
class OwnNetwork {
 public:
  OwnNetwork() : before_(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
    entered_ = unshare(CLONE_NEWNET) == 0 && bring_up("lo");
    own_.reset(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  }
  ~OwnNetwork() { (void)setns(before_.get(), CLONE_NEWNET); }
  OwnNetwork(OwnNetwork const&) = delete;
  OwnNetwork& operator=(OwnNetwork const&) = delete;

  [[nodiscard]] bool entered() const { return entered_; }
  [[nodiscard]] int fd() const { return own_.get(); }
  [[nodiscard]] int fd_before() const { return before_.get(); }

 private:
  os::UniqueFd before_;
  os::UniqueFd own_;
  bool entered_ = false;
};

/// This thread is in another network namespace for a while. `network` is borrowed.
class InNetwork {
 public:
  explicit InNetwork(int network)
      : before_(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
    EXPECT_EQ(setns(network, CLONE_NEWNET), 0);
  }
  ~InNetwork() { (void)setns(before_.get(), CLONE_NEWNET); }
  InNetwork(InNetwork const&) = delete;
  InNetwork& operator=(InNetwork const&) = delete;

 private:
  os::UniqueFd before_;
};

inline std::string run_tool(std::string_view command) {
  auto spec = os::testing::shell(fmt::format("{} 2>&1", command));
  spec.environment = {"PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"};
  return os::testing::run(std::move(spec)).text;
}

/// Another machine, as far as the network knows: 10.77.0.2 on "there", at the other end of "here"
/// with 10.77.0.1 in the namespace of the calling thread.
inline os::UniqueFd make_neighbour() {
  os::UniqueFd network;
  {
    OwnNetwork const own;
    network = *os::duplicate(own.fd());
  }
  EXPECT_EQ(run_tool(fmt::format("ip link add here type veth peer name there netns /proc/{}/fd/{} "
                                 "&& ip addr add 10.77.0.1/24 dev here && ip link set here up",
                                 getpid(), network.get())),
            "");
  InNetwork const in(network.get());
  EXPECT_EQ(run_tool("ip addr add 10.77.0.2/24 dev there && ip link set there up"), "");
  return network;
}

class BpfTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!network_.entered()) GTEST_SKIP() << "a network namespace needs CAP_SYS_ADMIN";
    auto made = LookupRouter::open();
    if (!made) GTEST_SKIP() << made.error().message();
    router_.emplace(*std::move(made));
  }
  void TearDown() override { EXPECT_TRUE(fault::configure("")); }

  Route claim(std::string_view address, bool v6_only = false) {
    auto route =
        router_->claim({.name = "web", .address = address_of(address), .v6_only = v6_only});
    if (!route) throw std::move(route).error();
    return *std::move(route);
  }

  OwnNetwork network_;
  std::optional<LookupRouter> router_;
};

/// A listening TCP, or bound UDP, socket.
inline os::UniqueFd serve_on(std::string_view text, bool v6_only = false) {
  auto const address = address_of(text);
  auto const native = to_socket_address(address);
  os::UniqueFd fd(socket(native->family(), socket_type(address.transport) | SOCK_CLOEXEC, 0));
  int const only = v6_only ? 1 : 0;
  if (native->family() == AF_INET6)
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
  EXPECT_EQ(bind(fd.get(), native->get(), native->length), 0) << text;
  if (address.transport == Transport::Tcp) EXPECT_EQ(listen(fd.get(), 4096), 0) << text;
  return fd;
}

inline Address with_host(Address address, std::string host) {
  address.host = std::move(host);
  return address;
}

/// Which of the listeners a new connection to the address waits in; nothing if it was refused.
inline std::optional<std::size_t> lands_in(Address const& address, std::vector<int> const& fds) {
  auto const client = connect_to(address);
  if (!client) return {};
  for (std::size_t i = 0; i < fds.size(); ++i)
    if (accept_now(fds[i])) return i;
  return {};
}

/// A python program that does what it is told, a line at a time, and answers each with a line:
///   bind KEY TYPE HOST PORT [v6only] [reuseport] | listen KEY | name KEY | accept KEY | close KEY
/// TYPE is tcp, tcp6, udp, udp6 or mptcp. The answer of bind is "ok", or the name of the error.
inline std::string const kSocketProgram = R"(
import errno, os, socket, sys
kept = {}
def bind(key, kind, host, port, *flags):
    family = socket.AF_INET6 if kind.endswith('6') else socket.AF_INET
    try:
        made = socket.socket(family, socket.SOCK_STREAM if 'tcp' in kind else socket.SOCK_DGRAM,
                             262 if kind == 'mptcp' else 0)
    except OSError as error:
        return errno.errorcode[error.errno]
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 'v6only' in flags)
    if 'reuseport' in flags:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    kept[key] = made
    return rebind(key, host, port)
def rebind(key, host, port):
    try:
        kept[key].bind((host, int(port)))
    except OSError as error:
        return errno.errorcode[error.errno]
    return 'ok'
def listen(key):
    kept[key].listen(1000)
    return 'ok'
def name(key):
    return '%s %d' % kept[key].getsockname()[:2]
def accept(key):
    made, peer = kept[key].accept()
    kept['last'] = made
    return '%s %d' % made.getsockname()[:2]
def answer(key):
    text, peer = kept[key].recvfrom(100)
    kept[key].sendto(b'from ' + key.encode(), peer)
    return 'ok'
def close(key):
    kept.pop(key).close()
    return 'ok'
def fork():
    if os.fork() == 0:
        sys.stdin.close()
        os.closerange(0, 2)
        import time
        time.sleep(1000)
    return 'ok'
def user(uid):
    os.setgroups([])
    os.setgid(int(uid))
    os.setuid(int(uid))
    return 'ok'
print('ready', flush=True)
for line in sys.stdin:
    call, *arguments = line.split()
    print(globals()[call](*arguments), flush=True)
)";

/// A cgroup of its own for each program of a test, with the program in it.
class InstanceProgram {
 public:
  explicit InstanceProgram(std::string_view name) {
    auto made = os::Cgroup::create(fmt::format("aether-bpf-{}-{}", name, getpid()));
    if (!made) throw std::move(made).error();
    cgroup_.emplace(*std::move(made));
  }
  ~InstanceProgram() {
    (void)cgroup_->kill();
    program_.reset();
    (void)cgroup_->wait_empty(os::testing::kPatience);
  }
  InstanceProgram(InstanceProgram const&) = delete;
  InstanceProgram& operator=(InstanceProgram const&) = delete;

  [[nodiscard]] os::Cgroup const& cgroup() const { return *cgroup_; }
  void start() { start_in(cgroup_->fd()); }
  void start_in(int cgroup) {
    auto spec = os::testing::python(kSocketProgram);
    spec.cgroup = cgroup;
    program_.emplace(std::move(spec));
    EXPECT_EQ(program_->read_line(), "ready");
  }
  std::string ask(std::string_view line) {
    program_->write_line(std::string(line));
    return program_->read_line();
  }
  [[nodiscard]] std::vector<pid_t> tree() const { return cgroup_->members(); }

 private:
  std::optional<os::Cgroup> cgroup_;
  std::optional<os::testing::Program> program_;
};

}  // namespace aether::steer::testing
