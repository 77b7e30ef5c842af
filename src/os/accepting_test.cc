// SPDX-License-Identifier: Apache-2.0
// Ordinary servers that inherit a listener: when do they wait for connections on it?
#include "os/accepting.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

#include <fmt/format.h>

#include "os/process_tree.h"
#include "os/temp_dir.h"
#include "os/testing.h"
#include "os/unix_socket.h"

namespace aether::os {
namespace {

using testing::kPatience;
using testing::Program;
using testing::wait_until;

/// A socket on a port of the kernel's choice, close-on-exec.
struct Inet {
  explicit Inet(int type = SOCK_STREAM, int family = AF_INET)
      : fd(::socket(family, type | SOCK_CLOEXEC, 0)) {
    sockaddr_in6 v6{.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    sockaddr_in v4{.sin_family = AF_INET};
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bool const is_v6 = family == AF_INET6;
    auto* address = is_v6 ? reinterpret_cast<sockaddr*>(&v6) : reinterpret_cast<sockaddr*>(&v4);
    socklen_t size = is_v6 ? sizeof(v6) : sizeof(v4);
    ok = ::bind(fd.get(), address, size) == 0;
    if (type == SOCK_STREAM) ok = ok && ::listen(fd.get(), 16) == 0;
    ::getsockname(fd.get(), address, &size);
    port = ntohs(is_v6 ? v6.sin6_port : v4.sin_port);
  }
  UniqueFd fd;
  bool ok = false;
  int port = 0;
};

constexpr char const* kBegin = "import sys, socket\nprint('up')\nsys.stdin.readline()\n";

constexpr char const* kBlockingAccept = "socket.socket(fileno=3).accept()\n";
constexpr char const* kAcceptInThread =
    "import threading, time\n"
    "threading.Thread(target=lambda: socket.socket(fileno=3).accept()).start()\n"
    "time.sleep(1000)\n";
constexpr char const* kAsyncio =
    "import asyncio\n"
    "async def main():\n"
    "    server = await asyncio.start_server(lambda r, w: None, sock=socket.socket(fileno=3))\n"
    "    await server.serve_forever()\n"
    "asyncio.run(main())\n";
constexpr char const* kThreadingHttpServer =
    "from http.server import *\n"
    "server = ThreadingHTTPServer(('', 0), BaseHTTPRequestHandler, bind_and_activate=False)\n"
    "server.socket = socket.socket(fileno=3)\n"
    "server.serve_forever(1000)\n";
constexpr char const* kSelect =
    "import select\n"
    "select.select([0, 3], [], [])\n";
constexpr char const* kForkedWorker =
    "import os\n"
    "if os.fork() == 0: socket.socket(fileno=3).accept()\n"
    "os.wait()\n";
constexpr char const* kHoldsItOnly =
    "import time\n"
    "time.sleep(1000)\n";
constexpr char const* kPollsForOutputOnly =
    "import select\n"
    "p = select.poll(); p.register(3, select.POLLPRI); p.poll()\n";

Program start_server(char const* body, int listener) {
  SpawnSpec spec = testing::python(std::string(kBegin) + body);
  spec.fds = {{.source = listener, .target = 3}};
  return Program(std::move(spec));
}

std::vector<pid_t> tree_of(pid_t root) {
  std::vector<pid_t> tree = descendants(root).value();
  tree.insert(tree.begin(), root);
  return tree;
}

bool accepts(Program const& program, std::uint64_t inode) {
  auto const accepting = is_accepting(tree_of(program.pid()), inode);
  EXPECT_TRUE(accepting) << accepting.error().describe();
  return accepting.value_or(false);
}

struct Server {
  char const* name;
  char const* body;
};

class Accepting : public ::testing::TestWithParam<Server> {};

TEST_P(Accepting, IsSeenWhenTheServerWaitsForConnectionsAndNotBefore) {
  EXPECT_TRUE(testing::as_ordinary_user([] {
    Inet const listener;
    ASSERT_TRUE(listener.ok);
    auto const inode = socket_inode(listener.fd.get()).value();
    Program program = start_server(GetParam().body, listener.fd.get());
    ASSERT_EQ(program.read_line(), "up");
    EXPECT_FALSE(accepts(program, inode)) << "it only holds the listener yet";
    program.write_line("go");
    EXPECT_TRUE(wait_until([&] { return accepts(program, inode); }));
    EXPECT_FALSE(accepts(program, inode + 1)) << "another socket";
    EXPECT_TRUE(kill_tree({.root = program.pid(), .session = program.pid()}, kPatience));
  }));
}

INSTANTIATE_TEST_SUITE_P(OrdinaryServers, Accepting,
                         ::testing::Values(Server{"BlockingAccept", kBlockingAccept},
                                           Server{"AcceptInAThread", kAcceptInThread},
                                           Server{"Asyncio", kAsyncio},
                                           Server{"ThreadingHttpServer", kThreadingHttpServer},
                                           Server{"Select", kSelect},
                                           Server{"ForkedWorker", kForkedWorker}),
                         [](auto const& info) { return std::string(info.param.name); });

TEST(AcceptingNot, IsAServerThatDoesSomethingElseWithItsListener) {
  for (char const* body : {kHoldsItOnly, kPollsForOutputOnly}) {
    Inet const listener;
    auto const inode = socket_inode(listener.fd.get()).value();
    Program program = start_server(body, listener.fd.get());
    ASSERT_EQ(program.read_line(), "up");
    program.write_line("go");
    ASSERT_TRUE(wait_until([&] {  // until it is in its last call, which never returns
      auto const call = read_file(fmt::format("/proc/{}/syscall", program.pid()), 512);
      return call && !call->starts_with("running") && !call->starts_with("0 ");
    }));
    EXPECT_FALSE(accepts(program, inode)) << body;
  }
}

TEST(AcceptingNot, IsAnEpollSetThatWaitsForOutput) {
  Inet const listener;
  auto const inode = socket_inode(listener.fd.get()).value();
  UniqueFd const set(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{.events = EPOLLOUT, .data = {}};
  ASSERT_EQ(::epoll_ctl(set.get(), EPOLL_CTL_ADD, listener.fd.get(), &event), 0);
  std::vector const us{::getpid()};
  EXPECT_EQ(is_accepting(us, inode), false);
  event.events = EPOLLIN | EPOLLET;
  ASSERT_EQ(::epoll_ctl(set.get(), EPOLL_CTL_MOD, listener.fd.get(), &event), 0);
  EXPECT_EQ(is_accepting(us, inode), true);
}

TEST(AcceptingUdp, IsAThreadBlockedInReceive) {
  Inet const socket(SOCK_DGRAM);
  auto const inode = socket_inode(socket.fd.get()).value();
  Program program = start_server("socket.socket(fileno=3).recvfrom(100)\n", socket.fd.get());
  ASSERT_EQ(program.read_line(), "up");
  EXPECT_FALSE(accepts(program, inode));
  program.write_line("go");
  EXPECT_TRUE(wait_until([&] { return accepts(program, inode); }));
}

TEST(AcceptingProcesses, ThatAreGoneArePassedOver) {
  auto child = spawn({.argv = {"/bin/true"}});
  ASSERT_TRUE(child);
  ASSERT_TRUE(child->reap_within(kPatience).value());
  std::vector const gone{child->pid()};
  EXPECT_EQ(is_accepting(gone, 1), false);
  EXPECT_EQ(is_accepting({}, 1), false);
  EXPECT_EQ(listens(gone), false);
}

TEST(AcceptingProcesses, OfAnotherUserCannotBeLookedAt) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to have a process of another user";
  Inet const listener;
  Program program = start_server(kBlockingAccept, listener.fd.get());
  ASSERT_EQ(program.read_line(), "up");
  EXPECT_TRUE(testing::as_ordinary_user([&] {
    std::vector const tree{program.pid()};
    auto const accepting = is_accepting(tree, 1);
    ASSERT_FALSE(accepting);
    EXPECT_EQ(accepting.error().code(), ErrorCode::Unsupported);
  }));
}

TEST(Listening, ListsTheSocketsThatATreeHoldsWithTheirAddresses) {
  TempDir const folder = std::move(*TempDir::create());
  Inet const v4;
  Inet const v6(SOCK_STREAM, AF_INET6);
  auto const path = listen_unix(folder.file("with space"));
  std::string const name = fmt::format("@aether-test-listening-{}", ::getpid());
  auto const abstract = listen_unix(name);
  ASSERT_TRUE(v4.ok && path && abstract);
  std::vector const us{::getpid()};
  std::vector<std::string> addresses;
  for (ListeningSocket const& socket : listening_sockets(us).value()) {
    EXPECT_EQ(socket.pid, ::getpid());
    addresses.push_back(socket.address);
  }
  std::vector<std::string> expected{fmt::format("127.0.0.1:{}", v4.port),
                                    "unix:" + folder.file("with space"), "unix:" + name};
  if (v6.ok) expected.push_back(fmt::format("[::1]:{}", v6.port));
  for (std::string const& address : expected)
    EXPECT_NE(std::ranges::find(addresses, address), addresses.end()) << address;
}

TEST(Listening, NoticesAServerThatBindsItsOwnPort) {
  Program program(
      testing::python("import socket, sys\n"
                      "s = socket.socket(); s.bind(('127.0.0.1', 0)); print('bound')\n"
                      "sys.stdin.readline()\n"
                      "s.listen(); print('listening'); sys.stdin.readline()\n"));
  ASSERT_EQ(program.read_line(), "bound");
  std::vector const tree{program.pid()};
  EXPECT_EQ(listens(tree), false);
  program.write_line("go");
  ASSERT_EQ(program.read_line(), "listening");
  EXPECT_EQ(listens(tree), true);
}

}  // namespace
}  // namespace aether::os
