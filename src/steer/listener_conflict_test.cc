// SPDX-License-Identifier: Apache-2.0
// Addresses that cannot be had, and what the refusal says.
#include <signal.h>
#include <sys/wait.h>

#include <fstream>
#include <string>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "os/proc.h"
#include "steer/listener.h"
#include "steer/testing.h"

namespace aether::steer {
namespace {

using namespace testing;
using ::testing::HasSubstr;

std::string refusal_of(Address const& address, ListenMode mode = ListenMode::Steered) {
  auto const group = ListenerGroup::open({.name = "http", .address = address, .mode = mode});
  if (group) return "it was opened";
  EXPECT_EQ(group.error().code(), ErrorCode::AddressInUse);
  return group.error().message();
}

TEST(ListenerConflict, RefusesAnAddressThatAnotherListenerHoldsAndNamesIt) {
  for (auto const* text : {"127.0.0.1:0", "udp://127.0.0.1:0"}) {
    auto const holder = open_group(text, ListenMode::Exclusive);
    EXPECT_THAT(refusal_of(holder.bound()), HasSubstr(fmt::format("pid {}", getpid())));
    EXPECT_THAT(refusal_of(holder.bound(), ListenMode::Shared), HasSubstr("this Aether itself"));
  }
}

TEST(ListenerConflict, RefusesToJoinTheReuseportGroupOfAnotherProgramOfThisUser) {
  for (auto const* text : {"127.0.0.1:0", "udp://127.0.0.1:0"}) {
    auto const other = open_group(text);
    EXPECT_THAT(refusal_of(other.bound()), HasSubstr("is held by"));
  }
}

/// A child process that holds what its parent has open, until it is destroyed.
class HoldingChild {
 public:
  explicit HoldingChild(char const* name) : pid_(fork()) {
    if (pid_ != 0) return;
    std::ofstream("/proc/self/comm") << name;
    for (;;) pause();
  }
  ~HoldingChild() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

TEST(ListenerConflict, NamesTheProcessThatHoldsTheAddress) {
  Address held = address_of("127.0.0.1:0");
  os::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  auto const any = to_socket_address(held);
  ASSERT_EQ(bind(fd.get(), any->get(), any->length), 0);
  ASSERT_EQ(listen(fd.get(), 1), 0);
  held = *local_address(fd.get());
  HoldingChild const child("stubborn");
  fd.reset();
  while (os::read_comm(child.pid()) != "stubborn") std::this_thread::yield();
  EXPECT_THAT(refusal_of(held), HasSubstr(fmt::format("stubborn (pid {})", child.pid())));
}

TEST(ListenerConflict, SaysWhatIsWrongWithAnAddressThatCannotBeBound) {
  auto const elsewhere =
      ListenerGroup::open({.name = "http", .address = address_of("203.0.113.1:0")});
  ASSERT_FALSE(elsewhere);
  EXPECT_EQ(elsewhere.error().code(), ErrorCode::ListenFailed);
  EXPECT_THAT(elsewhere.error().message(), HasSubstr("no network interface"));
  auto const zone =
      ListenerGroup::open({.name = "http", .address = address_of("[fe80::1%no-such]:0")});
  ASSERT_FALSE(zone);
  EXPECT_EQ(zone.error().code(), ErrorCode::AddressInvalid);
}

}  // namespace
}  // namespace aether::steer
