// SPDX-License-Identifier: Apache-2.0
// A question from this machine to a revision that is not steered to.
#include <arpa/inet.h>
#include <netinet/in.h>

#include "steer/testing.h"

namespace aether::steer {
namespace {

using namespace testing;

/// A socket of the address's family that is bound to some port, and that port.
std::pair<os::UniqueFd, std::uint16_t> bound_client(Address const& address) {
  auto const to = to_connect_address(address);
  os::UniqueFd fd(socket(to->family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage name{};
  name.ss_family = static_cast<sa_family_t>(to->family());
  socklen_t size = sizeof(name);
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&name), to->length), 0);
  EXPECT_EQ(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&name), &size), 0);
  return {std::move(fd), ntohs(reinterpret_cast<sockaddr_in const*>(&name)->sin_port)};
}

// Edge: B4
TEST(ListenerGroup, LetsOnePortInToARevisionThatIsNotSteeredTo) {
  for (char const* const text : {"127.0.0.1:0", "[::1]:0", ":0", "127.9.8.7:0"}) {
    auto group = open_group(text);
    int const one = lane(group, 1);
    int const two = lane(group, 2);
    auto const [guest, port] = bound_client(group.bound());
    ASSERT_TRUE(group.admit(revision(2), port)) << text;
    auto const before = connect_to(group.bound());
    auto const to = to_connect_address(group.bound());
    ASSERT_EQ(connect(guest.get(), to->get(), to->length), 0) << text;
    auto const after = connect_to(group.bound());
    EXPECT_EQ(answer_all(two, "two"), 1) << text;
    EXPECT_EQ(answer_all(one, "one"), 2) << text;
    EXPECT_EQ(read_all(guest.get()), "two") << text;
    EXPECT_EQ(group.steered(), revision(1));
    ASSERT_TRUE(group.admit(revision(2), 0));
    ASSERT_TRUE(group.steer_to(revision(2)));
    auto const later = connect_to(group.bound());
    EXPECT_EQ(answer_all(two, "two"), 1) << text;
  }
}

TEST(ListenerGroup, SteersAsBeforeWhenTheGuestsLaneHasEnded) {
  auto group = open_group("127.0.0.1:0");
  int const one = lane(group, 1);
  (void)lane(group, 2);
  auto const [guest, port] = bound_client(group.bound());
  ASSERT_TRUE(group.admit(revision(2), port));
  ASSERT_TRUE(group.retire(revision(2)));
  auto const to = to_connect_address(group.bound());
  ASSERT_EQ(connect(guest.get(), to->get(), to->length), 0);
  EXPECT_EQ(answer_all(one, "one"), 1);
  EXPECT_TRUE(group.admit(revision(9), port)) << "nobody is let in to what is not there";
}

}  // namespace
}  // namespace aether::steer
