// SPDX-License-Identifier: Apache-2.0
// Where the server listens, and whom it sees.
#include "http/listen.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <string>
#include <utility>

#include "async/testing.h"
#include "http/server.h"
#include "http/test_server.h"
#include "os/temp_dir.h"
#include "os/unix_socket.h"

namespace aether::http {
namespace {

using namespace testing;
using std::chrono::seconds;

Handler handler_of(Site& site) {
  return [&site](Request request) { return route(site, std::move(request)); };
}

ErrorCode code_of(Status const& status) {
  return status ? ErrorCode::Internal : status.error().code();
}

CORO_TEST(ListenUnix, AnswersItsOwnerAndKnowsWhoItIs) {
  os::TempDir const dir = os::TempDir::create("http").value();
  std::string const path = dir.path() + "/control.sock";
  Site site;
  Server server(loop.executor(), {}, handler_of(site));
  Status const listening = server.listen_unix(path);
  CO_ASSERT_TRUE(listening) << listening.error().describe();
  struct stat status{};
  CO_ASSERT_EQ(::lstat(path.c_str(), &status), 0);
  EXPECT_TRUE(S_ISSOCK(status.st_mode));
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
  Endpoint const endpoint = Endpoint::unix_socket(path);
  Response const response = co_await fetch(endpoint, {.target = "/hello"}, kPatience);
  EXPECT_EQ(response.body, "hello");
  CO_ASSERT_TRUE(site.last.has_value());
  Peer const peer = site.last->peer;
  EXPECT_TRUE(peer.unix_socket);
  EXPECT_EQ(peer.pid, ::getpid());
  EXPECT_EQ(peer.uid, ::getuid());
  EXPECT_EQ(peer.gid, ::getgid());
  EXPECT_EQ(peer.address, "unix");
  EXPECT_FALSE(peer.loopback);
  EXPECT_EQ(site.last->headers.get("Host"), "localhost");
  EXPECT_EQ(server.port(), 0);
  co_await server.stop(kPatience);
  EXPECT_NE(::lstat(path.c_str(), &status), 0) << "the file was left behind";
}

CORO_TEST(ListenUnix, TakesTheModeThatItIsGiven) {
  os::TempDir const dir = os::TempDir::create("http").value();
  std::string const path = dir.path() + "/open.sock";
  Site site;
  Server server(loop.executor(), {}, handler_of(site));
  Status const listening = server.listen_unix(path, 0666);
  CO_ASSERT_TRUE(listening);
  struct stat status{};
  CO_ASSERT_EQ(::lstat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0666U);
  co_await server.stop(kPatience);
}

CORO_TEST(ListenUnix, ReplacesADeadSocketButNeitherALivingOneNorAFile) {
  os::TempDir const dir = os::TempDir::create("http").value();
  std::string const path = dir.path() + "/s";
  {
    auto const dead = os::listen_unix(path);  // closed here; its file stays
    CO_ASSERT_TRUE(dead.has_value());
  }
  Site site;
  Server first(loop.executor(), {}, handler_of(site));
  Status const replaced = first.listen_unix(path);
  EXPECT_TRUE(replaced);
  Server second(loop.executor(), {}, handler_of(site));
  EXPECT_EQ(code_of(second.listen_unix(path)), ErrorCode::AddressInUse);
  std::string const file = dir.path() + "/precious";
  std::ofstream(file) << "data";
  EXPECT_EQ(code_of(second.listen_unix(file)), ErrorCode::AddressInUse);
  EXPECT_EQ(::access(file.c_str(), F_OK), 0);
  EXPECT_EQ(code_of(second.listen_unix(dir.path() + "/" + std::string(120, 'x'))),
            ErrorCode::AddressInvalid);
  Response const alive =
      co_await fetch(Endpoint::unix_socket(path), {.target = "/hello"}, kPatience);
  EXPECT_EQ(alive.status, 200);
  co_await first.stop(kPatience);
}

CORO_TEST(ListenUnix, LeavesTheFileOfAnotherAloneWhenItStops) {
  os::TempDir const dir = os::TempDir::create("http").value();
  std::string const path = dir.path() + "/s";
  Site site;
  Server old(loop.executor(), {}, handler_of(site));
  CO_ASSERT_TRUE(old.listen_unix(path));
  CO_ASSERT_EQ(::unlink(path.c_str()), 0);
  Server next(loop.executor(), {}, handler_of(site));
  CO_ASSERT_TRUE(next.listen_unix(path));
  co_await old.stop(kPatience);
  Response const alive =
      co_await fetch(Endpoint::unix_socket(path), {.target = "/hello"}, kPatience);
  EXPECT_EQ(alive.status, 200);
  co_await next.stop(kPatience);
}

CORO_TEST(ListenTcp, HearsBothFamiliesOnAllAddresses) {
  Site site;
  Server server(loop.executor(), {}, handler_of(site));
  Status const listening = server.listen_tcp("", 0);
  CO_ASSERT_TRUE(listening) << listening.error().describe();
  Endpoint const v4 = Endpoint::tcp("127.0.0.1", server.port());
  Response const by_v4 = co_await fetch(v4, {.target = "/hello"}, kPatience);
  EXPECT_EQ(by_v4.status, 200);
  EXPECT_TRUE(site.last->peer.loopback);
  EXPECT_TRUE(site.last->peer.address.starts_with("127.0.0.1:")) << site.last->peer.address;
  if (os::UniqueFd const v6_socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)); v6_socket) {
    auto const loopback = open_tcp_listener("::1", 0);
    if (loopback) {
      Endpoint const v6 = Endpoint::tcp("::1", server.port());
      Response const by_v6 = co_await fetch(v6, {.target = "/hello"}, kPatience);
      EXPECT_EQ(by_v6.status, 200);
      EXPECT_TRUE(site.last->peer.loopback);
      EXPECT_TRUE(site.last->peer.address.starts_with("[::1]:")) << site.last->peer.address;
    }
  }
  co_await server.stop(kPatience);
}

CORO_TEST(ListenTcp, SaysWhyItCannot) {
  Site site;
  Server first(loop.executor(), {}, handler_of(site));
  CO_ASSERT_TRUE(first.listen_tcp("localhost", 0));
  Server second(loop.executor(), {}, handler_of(site));
  Status const taken = second.listen_tcp("127.0.0.1", first.port());
  EXPECT_EQ(code_of(taken), ErrorCode::AddressInUse);
  EXPECT_NE(taken.error().message().find("127.0.0.1:" + std::to_string(first.port())),
            std::string::npos);
  EXPECT_EQ(code_of(second.listen_tcp("example.org", 0)), ErrorCode::AddressInvalid);
  EXPECT_EQ(code_of(second.listen_tcp("192.0.2.1", 0)), ErrorCode::ListenFailed);
  EXPECT_EQ(second.port(), 0);
  co_await first.stop(kPatience);
}

TEST(SocketAddress, KnowsLoopbackHoweverItIsWritten) {
  EXPECT_TRUE(ip_address("127.255.0.1", 1)->is_loopback());
  EXPECT_TRUE(ip_address("[::1]", 1)->is_loopback());
  EXPECT_TRUE(ip_address("::ffff:127.0.0.1", 1)->is_loopback());
  EXPECT_FALSE(ip_address("::ffff:10.0.0.1", 1)->is_loopback());
  EXPECT_FALSE(ip_address("128.0.0.1", 1)->is_loopback());
  EXPECT_FALSE(ip_address("0.0.0.0", 1)->is_loopback());
  EXPECT_EQ(ip_address("::ffff:10.0.0.1", 80)->text(), "10.0.0.1:80");
  EXPECT_EQ(ip_address("2001:db8::1", 80)->text(), "[2001:db8::1]:80");
  EXPECT_EQ(ip_address("localhost", 80), std::nullopt);
  EXPECT_EQ(ip_address("1.2.3", 80), std::nullopt);
  EXPECT_EQ(ip_address("fe80::1%nosuchinterface", 80), std::nullopt);
  EXPECT_EQ(ip_address(std::string_view("127.0.0.1\0x", 11), 80), std::nullopt);
}

}  // namespace
}  // namespace aether::http
