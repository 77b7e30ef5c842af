// SPDX-License-Identifier: Apache-2.0
#include "http/local_peer.h"

#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "base/error.h"
#include "http/listen.h"

namespace aether::http {
namespace {

SocketAddress bound_to(int fd) {
  SocketAddress address;
  address.length = sizeof(address.storage);
  auto* out = reinterpret_cast<sockaddr*>(&address.storage);
  EXPECT_EQ(::getsockname(fd, out, &address.length), 0);
  return address;
}

/// A connection to a listener, of which nothing is accepted yet.
struct Connected {
  TcpListener listener;
  os::UniqueFd client;
  SocketAddress theirs;
  SocketAddress ours;
};

Connected connect_to(std::string const& listen, std::string const& host) {
  TcpListener listener = or_throw(open_tcp_listener(listen, 0));
  SocketAddress const to = ip_address(host, listener.port).value();
  os::UniqueFd client(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::connect(client.get(), to.get(), to.length), 0) << host;
  SocketAddress const theirs = bound_to(client.get());
  return {std::move(listener), std::move(client), theirs, to};
}

TEST(LocalPeer, IsTheUserWhoseProcessConnected) {
  for (auto const& [listen, host] : {std::pair{"127.0.0.1", "127.0.0.1"},
                                     {"127.0.0.1", "::ffff:127.0.0.1"},
                                     {"*", "127.0.0.1"}}) {
    Connected const here = connect_to(listen, host);
    EXPECT_EQ(user_of_connection(here.theirs, here.ours), ::geteuid()) << listen << " " << host;
  }
}

TEST(LocalPeer, ThatHasClosedIsNobodyAndNotRoot) {
  Connected here = connect_to("127.0.0.1", "127.0.0.1");
  here.client.reset();
  EXPECT_EQ(user_of_connection(here.theirs, here.ours), std::nullopt);
}

TEST(LocalPeer, ThatClosedItsSendingSideIsStillKnown) {
  Connected const here = connect_to("127.0.0.1", "127.0.0.1");
  ::shutdown(here.client.get(), SHUT_WR);
  EXPECT_EQ(user_of_connection(here.theirs, here.ours), ::geteuid());
}

TEST(LocalPeer, IsNotTheListenerOnTheSamePort) {
  Connected const here = connect_to("127.0.0.1", "127.0.0.1");
  // Somebody who claims to come from the listener's own address.
  SocketAddress const listener = here.ours;
  EXPECT_EQ(user_of_connection(listener, here.theirs), std::nullopt);  // not accepted: no process
  EXPECT_EQ(user_of_connection(listener, ip_address("127.0.0.1", 9).value()), std::nullopt);
}

TEST(LocalPeer, IsAlsoKnownToTheServer) {
  Connected const here = connect_to("127.0.0.1", "127.0.0.1");
  auto const accepted = or_throw(accept_client(here.listener.fd.get()));
  ASSERT_TRUE(accepted);
  EXPECT_TRUE(accepted->peer.loopback);
  EXPECT_EQ(accepted->peer.uid, ::geteuid());
}

TEST(LocalPeerList, HasTheUserOfAnEstablishedConnectionThatAProcessHolds) {
  SocketAddress const theirs = ip_address("127.0.0.1", 0xC350).value();
  SocketAddress const ours = ip_address("127.0.0.1", 0x2382).value();
  std::string const head = "   1: 0100007F:C350 0100007F:2382 ";
  std::string const tail = " 00000000:00000000 00:00000000 00000000 ";
  EXPECT_EQ(user_in_line(head + "01" + tail + " 1001        0 4711 1 0", theirs, ours), 1001U);
  EXPECT_EQ(user_in_line(head + "05" + tail + " 1001        0 4711 1 0", theirs, ours), 1001U);
  // Closed by its process (no inode), waiting in TIME_WAIT, only asking to connect.
  EXPECT_EQ(user_in_line(head + "05" + tail + "    0        0 0 1 0", theirs, ours), std::nullopt);
  EXPECT_EQ(user_in_line(head + "06" + tail + "    0        0 0 3 0", theirs, ours), std::nullopt);
  EXPECT_EQ(user_in_line(head + "02" + tail + "    0        0 77 1 0", theirs, ours), std::nullopt);
  EXPECT_EQ(user_in_line("", theirs, ours), std::nullopt);
  EXPECT_EQ(user_in_line("  sl  local_address rem_address   st tx_queue", theirs, ours),
            std::nullopt);
  EXPECT_EQ(user_in_line(head + "01" + tail + " 1001        0 4711 1 0", ours, theirs),
            std::nullopt);
}

TEST(LocalPeerList, HasIpv4InIpv6AsTheKernelWritesIt) {
  SocketAddress const theirs = ip_address("127.0.0.1", 0xC350).value();
  SocketAddress const ours = ip_address("::ffff:127.0.0.1", 0x2382).value();
  std::string const line =
      "   1: 0000000000000000FFFF00000100007F:C350 0000000000000000FFFF00000100007F:2382 01 "
      "00000000:00000000 00:00000000 00000000  1001        0 4711 1 0";
  EXPECT_EQ(user_in_line(line, theirs, ours), 1001U);
  SocketAddress const v6 = ip_address("::1", 0xC350).value();
  SocketAddress const v6_ours = ip_address("::1", 0x2382).value();
  std::string const plain =
      "   1: 00000000000000000000000001000000:C350 00000000000000000000000001000000:2382 01 "
      "00000000:00000000 00:00000000 00000000  33        0 4711 1 0";
  EXPECT_EQ(user_in_line(plain, v6, v6_ours), 33U);
}

}  // namespace
}  // namespace aether::http
