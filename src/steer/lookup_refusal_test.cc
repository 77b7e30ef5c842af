// SPDX-License-Identifier: Apache-2.0
// What LookupRouter refuses, what it leaves behind, and how it ends.
#include <linux/capability.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <thread>

#include "steer/bind_rewriter.h"
#include "steer/bpf_testing.h"
#include "steer/xdp_counters.h"

namespace aether::steer {
namespace {

using testing::address_of;
using testing::connect_to;
using testing::lands_in;
using testing::OwnNetwork;
using testing::serve_on;

class LookupRefusalTest : public testing::BpfTest {};

ErrorCode code_of(Status const& status) {
  return status ? ErrorCode::Internal : status.error().code();
}

TEST_F(LookupRefusalTest, OfSocketsThatCannotServeAndChangesNothingThen) {
  auto route = claim("127.0.0.1:8080");
  auto const serving = serve_on("127.0.0.1:0");
  ASSERT_TRUE(route.direct(std::array{Share{.fd = serving.get()}}));
  os::UniqueFd const silent(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  auto const datagrams = serve_on("udp://127.0.0.1:0");
  std::array const pair{Share{.fd = serving.get()}, Share{.fd = serving.get()}};
  EXPECT_EQ(code_of(route.direct(std::array{Share{.fd = silent.get()}})),
            ErrorCode::RequestInvalid);
  EXPECT_EQ(code_of(route.direct(std::array{Share{.fd = datagrams.get()}})),
            ErrorCode::RequestInvalid);
  EXPECT_EQ(code_of(route.direct(pair)), ErrorCode::RequestInvalid);
  std::vector<Share> many;
  std::vector<os::UniqueFd> fds;
  for (std::size_t i = 0; i <= kRouteSharesMax; ++i) {
    fds.push_back(serve_on("127.0.0.1:0"));
    many.push_back({.fd = fds.back().get()});
  }
  EXPECT_EQ(code_of(route.direct(many)), ErrorCode::LimitReached);
  EXPECT_EQ(lands_in(route.bound(), {serving.get()}), 0U);
  many.pop_back();
  EXPECT_TRUE(route.direct(many));
}

TEST_F(LookupRefusalTest, OfASocketOfAnotherNetworkNamespace) {
  auto route = claim("127.0.0.1:8080");
  OwnNetwork const elsewhere;
  auto const stranger = serve_on("127.0.0.1:0");
  Status const refused = route.direct(std::array{Share{.fd = stranger.get()}});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("network namespace"), std::string::npos);
}

TEST_F(LookupRefusalTest, OfMultipathTcpSaysHowToTurnItOff) {
  os::UniqueFd const multipath(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP));
  if (!multipath) GTEST_SKIP() << "this kernel has no multipath TCP";
  ASSERT_EQ(listen(multipath.get(), 1), 0);
  auto route = claim("127.0.0.1:8080");
  Status const refused = route.direct(std::array{Share{.fd = multipath.get()}});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("multipath"), std::string::npos);
}

TEST_F(LookupRefusalTest, OfAUnixAddress) {
  auto const route = router_->claim({.name = "web", .address = address_of("unix:/tmp/x")});
  ASSERT_FALSE(route);
  EXPECT_EQ(route.error().code(), ErrorCode::AddressInvalid);
}

TEST_F(LookupRefusalTest, OfMoreRoutesThanThereAreAndGivesThemBack) {
  std::vector<Route> routes;
  for (std::size_t i = 0; i < kRoutesMax; ++i)
    routes.push_back(claim(fmt::format(":{}", 10'000 + i)));
  auto const one_more = router_->claim({.name = "x", .address = address_of(":9999")});
  ASSERT_FALSE(one_more);
  EXPECT_EQ(one_more.error().code(), ErrorCode::LimitReached);
  EXPECT_FALSE(connect_to(address_of("127.0.0.1:9999"))) << "its listener is gone";
  routes.clear();
  EXPECT_TRUE(router_->claim({.name = "x", .address = address_of(":9999")}));
}

TEST_F(LookupRefusalTest, AtEachStepLeavesNothingBehind) {
  auto const serving = serve_on("127.0.0.1:0");
  auto const before = os::count_own_fds();
  for (auto const* point : {"steer.bpf-load", "steer.lookup-attach"}) {
    ASSERT_TRUE(fault::configure(fmt::format("{}:1:eio", point)));
    EXPECT_FALSE(LookupRouter::open()) << point;
    EXPECT_EQ(os::count_own_fds(), before) << point;
  }
  EXPECT_EQ(router_->foreign_programs(), 0U);
  for (auto const* point : {"steer.lookup-claim:1", "steer.lookup-socket:1", "steer.lookup-flip:1",
                            "steer.lookup-key:1", "steer.lookup-key:2"}) {
    ASSERT_TRUE(fault::configure(fmt::format("{}:eio", point)));
    EXPECT_FALSE(router_->claim({.name = "web", .address = address_of(":8080")})) << point;
    EXPECT_EQ(os::count_own_fds(), before) << point;
    ASSERT_TRUE(fault::configure(""));
    EXPECT_TRUE(router_->claim({.name = "web", .address = address_of(":8080")})) << point;
  }
  auto route = claim("127.0.0.1:8080");
  for (auto const* point : {"steer.lookup-socket:1", "steer.lookup-flip:1"}) {
    ASSERT_TRUE(fault::configure(fmt::format("{}:eio", point)));
    EXPECT_FALSE(route.direct(std::array{Share{.fd = serving.get()}}));
    EXPECT_TRUE(route.counts().empty()) << "no share of it is left";
    EXPECT_EQ(lands_in(route.bound(), {route.waiting_fd()}), 0U) << point;
  }
}

TEST_F(LookupRefusalTest, LeaksNeitherDescriptorsNorPlacesOverManySwaps) {
  auto route = claim("127.0.0.1:8080");
  std::array const revisions{serve_on("127.0.0.1:0"), serve_on("127.0.0.1:0")};
  ASSERT_TRUE(route.direct(std::array{Share{.fd = revisions[0].get()}}));
  auto const before = os::count_own_fds();
  for (std::size_t i = 0; i < 10'000; ++i)
    ASSERT_TRUE(route.direct(std::array{Share{.fd = revisions[i % 2].get(), .tag = i % 2}}));
  EXPECT_EQ(os::count_own_fds(), before);
  EXPECT_EQ(lands_in(route.bound(), {revisions[1].get()}), 0U);
}

TEST_F(LookupRefusalTest, GoesOnWhenAnAetherIsReplacedThatKeptTheWaitingListener) {
  os::UniqueFd kept;
  auto const serving = serve_on("127.0.0.1:0");
  {
    auto route = claim("127.0.0.1:8080");
    kept = *os::duplicate(route.waiting_fd());
    router_.reset();
  }
  auto const between = connect_to(address_of("127.0.0.1:8080"));
  EXPECT_TRUE(between) << "waits, though no program routes it";
  router_.emplace(*LookupRouter::open());
  auto route =
      router_->adopt({.name = "web", .address = address_of("127.0.0.1:8080")}, std::move(kept));
  ASSERT_TRUE(route);
  ASSERT_TRUE(route->direct(std::array{Share{.fd = serving.get()}}));
  EXPECT_EQ(lands_in(route->bound(), {serving.get()}), 0U);
  EXPECT_TRUE(testing::accept_now(route->waiting_fd())) << "what came between is still there";
}

/// The ids of sk_lookup programs of our namespace, and what bpftool says of one.
std::vector<std::uint32_t> attached_here(int network) {
  auto const ids = bpf_attached(network, BpfAttach::SkLookup);
  return ids ? *ids : std::vector<std::uint32_t>();
}

std::string bpftool(std::string const& arguments) {
  return testing::run_tool("bpftool " + arguments);
}

TEST_F(LookupRefusalTest, ToOutliveItsProcess) {
  router_.reset();
  os::testing::Pipe ready;
  pid_t const child = fork();
  if (child == 0) {
    auto router = LookupRouter::open();
    auto route = router->claim({.name = "web", .address = address_of("127.0.0.1:8080")});
    auto const serving = serve_on("127.0.0.1:0");
    bool const works = route && route->direct(std::array{Share{.fd = serving.get()}});
    (void)!write(ready.write_end.get(), works ? "1" : "0", 1);
    pause();
    _exit(0);
  }
  ASSERT_EQ(os::testing::read_byte(ready.read_end.get()), '1');
  auto const ids = attached_here(network_.fd());
  ASSERT_EQ(ids.size(), 1U);
  std::string const show = fmt::format("prog show id {}", ids[0]);
  bool const has_bpftool = bpftool("version").starts_with("bpftool");
  if (has_bpftool) EXPECT_NE(bpftool(show).find("aether_lookup"), std::string::npos);
  if (has_bpftool) EXPECT_NE(bpftool("link show").find("sk_lookup"), std::string::npos);
  kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(attached_here(network_.fd()).empty());
  // The kernel frees programs and maps after a while (RCU).
  if (has_bpftool)
    EXPECT_TRUE(os::testing::wait_until(
        [&] { return bpftool(show).find("aether_lookup") == std::string::npos; }));
  EXPECT_FALSE(connect_to(address_of("127.0.0.1:8080"))) << "the address is free";
}

TEST(LookupWithoutRights, SaysWhichCapabilityIsMissing) {
  if (geteuid() != 0) GTEST_SKIP() << "only root has capabilities to lose";
  EXPECT_TRUE(os::testing::as_ordinary_user([] {
    auto const router = LookupRouter::open();
    ASSERT_FALSE(router);
    EXPECT_EQ(router.error().code(), ErrorCode::BpfUnavailable);
    EXPECT_NE(router.error().message().find("CAP_BPF and CAP_NET_ADMIN"), std::string::npos)
        << router.error().message();
  }));
}

/// Takes everything but CAP_BPF and CAP_NET_ADMIN from this process.
bool keep_two_capabilities() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, 2> sets{};
  sets[0].effective = sets[0].permitted = 1U << CAP_NET_ADMIN;
  sets[1].effective = sets[1].permitted = 1U << (CAP_BPF - 32);
  return syscall(SYS_capset, &header, sets.data()) == 0;
}

TEST_F(LookupRefusalTest, IsNotForWantOfMoreThanTwoCapabilities) {
  auto const cgroup = os::Cgroup::create(fmt::format("aether-bpf-caps-{}", getpid()));
  ASSERT_TRUE(cgroup);
  EXPECT_TRUE(os::testing::in_own_process([&] {
    ASSERT_TRUE(keep_two_capabilities());
    auto router = LookupRouter::open();
    ASSERT_TRUE(router) << router.error().message();
    std::array const claims{address_of(":8080")};
    auto const rewriter = BindRewriter::attach(*router, cgroup->fd(), claims);
    ASSERT_TRUE(rewriter) << rewriter.error().message();
    auto route = router->claim({.name = "web", .address = address_of("127.0.0.1:8080")});
    ASSERT_TRUE(route) << route.error().message();
    auto const serving = serve_on("127.0.0.1:0");
    ASSERT_TRUE(route->direct(std::array{Share{.fd = serving.get()}}));
    EXPECT_EQ(lands_in(route->bound(), {serving.get()}), 0U);
    auto const counters = XdpCounters::attach("lo");
    ASSERT_FALSE(counters) << "counting of packets needs a third one";
    EXPECT_NE(counters.error().message().find("lacks CAP_PERFMON"), std::string::npos)
        << counters.error().message();
  }));
}

}  // namespace
}  // namespace aether::steer
