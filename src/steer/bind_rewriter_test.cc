// SPDX-License-Identifier: Apache-2.0
#include "steer/bind_rewriter.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <set>

#include "steer/bpf_testing.h"

namespace aether::steer {
namespace {

using testing::address_of;
using testing::connect_to;
using testing::InstanceProgram;
using testing::lands_in;
using testing::OwnNetwork;
using testing::serve_on;
using testing::with_host;

class BindRewriterTest : public testing::BpfTest {
 protected:
  BindRewriter rewrite(os::Cgroup const& cgroup, std::vector<std::string_view> const& texts) {
    std::vector<Address> claims;
    for (auto const text : texts) claims.push_back(address_of(text));
    auto made = BindRewriter::attach(*router_, cgroup.fd(), claims);
    if (!made) throw std::move(made).error();
    return *std::move(made);
  }
};

std::vector<TakenSocket> take(BindRewriter const& rewriter, InstanceProgram const& program) {
  auto const tree = program.tree();
  auto taken = rewriter.take(tree);
  EXPECT_TRUE(taken) << taken.error().describe();
  return taken ? *std::move(taken) : std::vector<TakenSocket>();
}

TEST_F(BindRewriterTest, LetsTwoProgramsBindOnePortThatAetherHolds) {
  auto route = claim("127.0.0.1:8080");
  InstanceProgram one("one");
  InstanceProgram two("two");
  auto const first = rewrite(one.cgroup(), {"127.0.0.1:8080"});
  auto const second = rewrite(two.cgroup(), {"127.0.0.1:8080"});
  for (auto* program : {&one, &two}) {
    program->start();
    EXPECT_EQ(program->ask("bind web tcp 127.0.0.1 8080"), "ok");
    EXPECT_EQ(program->ask("name web"), "127.0.0.1 8080") << "as if it had it";
    EXPECT_EQ(program->ask("listen web"), "ok");
    EXPECT_EQ(program->ask("name web"), "127.0.0.1 8080");
  }
  auto const of_one = take(first, one);
  auto const of_two = take(second, two);
  ASSERT_EQ(of_one.size(), 1U);
  ASSERT_EQ(of_two.size(), 1U);
  EXPECT_EQ(of_one[0].address.text(), "127.0.0.1:8080");
  EXPECT_NE(of_one[0].hidden_port, 8080);
  EXPECT_NE(of_one[0].hidden_port, of_two[0].hidden_port);
  for (auto* turn : {&one, &two, &one}) {
    auto const& socket = turn == &one ? of_one[0] : of_two[0];
    ASSERT_TRUE(route.direct(std::array{Share{.fd = socket.fd.get()}}));
    auto const client = connect_to(route.bound());
    ASSERT_TRUE(client);
    EXPECT_EQ(turn->ask("accept web"), "127.0.0.1 8080") << "the accepted one, too";
  }
}

TEST_F(BindRewriterTest, RewritesIpv6AndBothFamiliesInOneSocket) {
  auto route = claim(":8080");
  InstanceProgram program("six");
  auto const rewriter = rewrite(program.cgroup(), {":8080"});
  program.start();
  EXPECT_EQ(program.ask("bind both tcp6 :: 8080"), "ok");
  EXPECT_EQ(program.ask("name both"), ":: 8080");
  EXPECT_EQ(program.ask("listen both"), "ok");
  EXPECT_EQ(program.ask("bind six tcp6 ::1 8080 v6only"), "ok");
  EXPECT_EQ(program.ask("name six"), "::1 8080");
  EXPECT_EQ(program.ask("bind mapped tcp6 ::ffff:127.0.0.1 8080"), "ok");
  EXPECT_EQ(program.ask("name mapped"), "::ffff:127.0.0.1 8080");
  auto const taken = take(rewriter, program);
  ASSERT_EQ(taken.size(), 1U) << "the others do not listen";
  ASSERT_TRUE(route.direct(std::array{Share{.fd = taken[0].fd.get()}}));
  auto const four = connect_to(with_host(route.bound(), "127.0.0.1"));
  ASSERT_TRUE(four);
  EXPECT_EQ(program.ask("accept both"), "::ffff:127.0.0.1 8080");
  auto const six = connect_to(with_host(route.bound(), "::1"));
  ASSERT_TRUE(six);
  EXPECT_EQ(program.ask("accept both"), "::1 8080");
}

TEST_F(BindRewriterTest, LeavesOtherPortsAddressesAndProtocolsAsTheyAre) {
  InstanceProgram program("other");
  auto const rewriter = rewrite(program.cgroup(), {"127.0.0.1:8080"});
  program.start();
  EXPECT_EQ(program.ask("bind port tcp 127.0.0.1 8081"), "ok");
  EXPECT_EQ(program.ask("bind host tcp 127.0.0.2 8080"), "ok");
  EXPECT_EQ(program.ask("bind udp udp 127.0.0.1 8080"), "ok");
  EXPECT_EQ(program.ask("listen port"), "ok");
  EXPECT_EQ(program.ask("listen host"), "ok");
  EXPECT_TRUE(connect_to(address_of("127.0.0.1:8081"))) << "really there";
  EXPECT_TRUE(connect_to(address_of("127.0.0.2:8080")));
  EXPECT_TRUE(take(rewriter, program).empty());
  EXPECT_EQ(program.ask("bind free tcp 127.0.0.1 0"), "ok");
  EXPECT_NE(program.ask("name free"), "127.0.0.1 8080");
  EXPECT_EQ(program.ask("bind taken tcp 127.0.0.1 8081"), "EADDRINUSE");
}

TEST_F(BindRewriterTest, RefusesMultipathTcpWhichTakesNoPartInRouting) {
  os::UniqueFd const here(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP));
  if (!here) GTEST_SKIP() << "this kernel has no multipath TCP";
  InstanceProgram program("multipath");
  auto const rewriter = rewrite(program.cgroup(), {":8080"});
  program.start();
  EXPECT_EQ(program.ask("bind many mptcp 0.0.0.0 8080"), "EPERM") << "Go then takes TCP";
  EXPECT_EQ(program.ask("bind one tcp 0.0.0.0 8080"), "ok");
}

TEST_F(BindRewriterTest, TellsTheTruthOfASocketThatWasBoundElsewhereAfterAFailure) {
  InstanceProgram program("again");
  auto const rewriter = rewrite(program.cgroup(), {":8080"});
  program.start();
  EXPECT_EQ(program.ask("bind web tcp 203.0.113.9 8080"), "EADDRNOTAVAIL");
  EXPECT_EQ(program.ask("rebind web 127.0.0.1 8081"), "ok");
  EXPECT_EQ(program.ask("name web"), "127.0.0.1 8081");
}

TEST_F(BindRewriterTest, LetsUdpProgramsShareThePortSoThatAnswersComeFromIt) {
  auto route = claim("udp://127.0.0.1:5300");
  InstanceProgram one("udp1");
  InstanceProgram two("udp2");
  auto const first = rewrite(one.cgroup(), {"udp://127.0.0.1:5300"});
  auto const second = rewrite(two.cgroup(), {"udp://127.0.0.1:5300"});
  for (auto* program : {&one, &two}) {
    program->start();
    EXPECT_EQ(program->ask("bind dns udp 127.0.0.1 5300"), "ok");
    EXPECT_EQ(program->ask("name dns"), "127.0.0.1 5300");
  }
  auto const of_one = take(first, one);
  auto const of_two = take(second, two);
  ASSERT_EQ(of_one.size(), 1U);
  ASSERT_EQ(of_two.size(), 1U);
  EXPECT_EQ(of_one[0].address.text(), "udp://127.0.0.1:5300");
  EXPECT_EQ(of_one[0].hidden_port, 5300);
  auto const client = connect_to(route.bound());
  for (auto* turn : {&one, &two, &one}) {
    auto const& socket = turn == &one ? of_one[0] : of_two[0];
    ASSERT_TRUE(route.direct(std::array{Share{.fd = socket.fd.get()}}));
    send(client.get(), "who?", 4, 0);
    EXPECT_EQ(turn->ask("answer dns"), "ok");
    char text[16];
    EXPECT_EQ(recv(client.get(), text, sizeof(text), 0), 8) << "the client is connected: only "
                                                               "answers from the documented port "
                                                               "reach it";
  }
}

TEST_F(BindRewriterTest, LetsAProgramWithoutRightsBindAPortBelow1024) {
  auto route = claim("127.0.0.1:80");
  InstanceProgram program("low");
  auto const rewriter = rewrite(program.cgroup(), {"127.0.0.1:80", "udp://127.0.0.1:53"});
  auto dns = claim("udp://127.0.0.1:53");
  program.start();
  EXPECT_EQ(program.ask("user 1000"), "ok");
  EXPECT_EQ(program.ask("bind other tcp 127.0.0.1 81"), "EACCES") << "the right is only for these";
  EXPECT_EQ(program.ask("bind web tcp 127.0.0.1 80"), "ok");
  EXPECT_EQ(program.ask("bind dns udp 127.0.0.1 53"), "ok") << "of another user than the claim's";
  EXPECT_EQ(program.ask("listen web"), "ok");
  EXPECT_EQ(take(rewriter, program).size(), 2U);
}

TEST_F(BindRewriterTest, TakesEachSocketOfWorkersOnceAndAllOfThoseThatHaveTheirOwn) {
  InstanceProgram program("workers");
  auto const rewriter = rewrite(program.cgroup(), {":8080"});
  program.start();
  for (auto const* worker : {"a", "b", "c"}) {
    EXPECT_EQ(program.ask(fmt::format("bind {} tcp 0.0.0.0 8080 reuseport", worker)), "ok");
    EXPECT_EQ(program.ask(fmt::format("listen {}", worker)), "ok");
  }
  EXPECT_EQ(program.ask("fork"), "ok") << "a worker that has the same sockets";
  auto const taken = take(rewriter, program);
  ASSERT_EQ(taken.size(), 3U);
  std::set<std::uint16_t> ports;
  for (auto const& socket : taken) ports.insert(socket.hidden_port);
  EXPECT_EQ(ports.size(), 3U);
  auto route = claim(":8080");
  std::vector<Share> shares;
  for (auto const& socket : taken) shares.push_back({.fd = socket.fd.get()});
  ASSERT_TRUE(route.direct(shares));
  std::vector<int> fds;
  for (auto const& socket : taken) fds.push_back(socket.fd.get());
  std::set<std::size_t> landed;
  for (int i = 0; i < 60; ++i)
    landed.insert(lands_in(with_host(route.bound(), "127.0.0.1"), fds).value_or(9));
  EXPECT_EQ(landed, (std::set<std::size_t>{0, 1, 2}))
      << "each of the SO_REUSEPORT group gets what it was drawn for";
}

TEST_F(BindRewriterTest, CountsFoldersBelowTheCgroupAsInIt) {
  InstanceProgram program("below");
  std::string const below = program.cgroup().path() + "/inner";
  ASSERT_EQ(mkdir(below.c_str(), 0755), 0);
  auto const rewriter = rewrite(program.cgroup(), {"127.0.0.1:8080"});
  auto const holder = serve_on("127.0.0.1:8080");
  os::UniqueFd const folder(open(below.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  program.start_in(folder.get());
  EXPECT_EQ(program.ask("bind web tcp 127.0.0.1 8080"), "ok");
  EXPECT_EQ(program.ask("name web"), "127.0.0.1 8080");
}

bool can_connect_from(int network, std::string_view to) {
  testing::InNetwork const in(network);
  return static_cast<bool>(connect_to(address_of(to)));
}

TEST_F(BindRewriterTest, HidesThePortFromOtherMachinesForAsLongAsTheSocketLives) {
  auto const neighbour = testing::make_neighbour();
  auto route = claim("0.0.0.0:8080");
  InstanceProgram program("hidden");
  auto const rewriter = rewrite(program.cgroup(), {":8080"});
  program.start();
  program.ask("bind web tcp 0.0.0.0 8080");
  program.ask("listen web");
  auto taken = take(rewriter, program);
  ASSERT_EQ(taken.size(), 1U);
  auto const hidden = taken[0].hidden_port;
  auto const there = fmt::format("10.77.0.1:{}", hidden);
  EXPECT_FALSE(can_connect_from(neighbour.get(), there)) << "only by the documented port";
  EXPECT_TRUE(connect_to(address_of(there))) << "this machine may: a probe of a new revision";
  EXPECT_TRUE(connect_to(address_of(fmt::format("127.0.0.1:{}", hidden))));
  ASSERT_TRUE(route.direct(std::array{Share{.fd = taken[0].fd.get()}}));
  EXPECT_TRUE(can_connect_from(neighbour.get(), "10.77.0.1:8080"));
  taken.clear();
  EXPECT_EQ(program.ask("close web"), "ok");
  auto const stranger = serve_on(fmt::format("0.0.0.0:{}", hidden));
  EXPECT_TRUE(can_connect_from(neighbour.get(), there)) << "now it is somebody else's";
}

TEST_F(BindRewriterTest, DoesNotHideAPortThatNobodyWatchesAnyMore) {
  auto const neighbour = testing::make_neighbour();
  InstanceProgram program("unhidden");
  std::optional<BindRewriter> rewriter = rewrite(program.cgroup(), {":8080"});
  program.start();
  program.ask("bind web tcp 0.0.0.0 8080");
  program.ask("listen web");
  auto const there = fmt::format("10.77.0.1:{}", take(*rewriter, program).at(0).hidden_port);
  EXPECT_FALSE(can_connect_from(neighbour.get(), there));
  rewriter.reset();
  EXPECT_TRUE(can_connect_from(neighbour.get(), there));
}

TEST_F(BindRewriterTest, LeavesNoTimeWaitThatKeepsAetherFromTheAddress) {
  InstanceProgram program("timewait");
  auto const rewriter = rewrite(program.cgroup(), {"127.0.0.1:8080"});
  program.start();
  program.ask("bind web tcp 127.0.0.1 8080");
  program.ask("listen web");
  {
    auto route = claim("127.0.0.1:8080");
    auto const taken = take(rewriter, program);
    ASSERT_TRUE(route.direct(std::array{Share{.fd = taken.at(0).fd.get()}}));
    auto const client = connect_to(route.bound());
    EXPECT_EQ(program.ask("accept web"), "127.0.0.1 8080");
    EXPECT_EQ(program.ask("close last"), "ok") << "the server closes first, and has TIME_WAIT";
    EXPECT_EQ(testing::read_all(client.get()), "");
  }
  EXPECT_TRUE(router_->claim({.name = "again", .address = address_of("127.0.0.1:8080")}));
}

TEST_F(BindRewriterTest, DoesNothingInAnotherNetworkNamespace) {
  InstanceProgram program("netns");
  auto const rewriter = rewrite(program.cgroup(), {"127.0.0.1:8080"});
  OwnNetwork const elsewhere;
  program.start();
  EXPECT_EQ(program.ask("bind web tcp 127.0.0.1 8080"), "ok");
  EXPECT_EQ(program.ask("listen web"), "ok");
  EXPECT_TRUE(connect_to(address_of("127.0.0.1:8080"))) << "it has the real port there";
}

TEST_F(BindRewriterTest, RewritesWhatIsClaimedNow) {
  auto const holder = serve_on("127.0.0.1:8080");
  InstanceProgram program("claims");
  auto rewriter = rewrite(program.cgroup(), {});
  program.start();
  EXPECT_EQ(program.ask("bind web tcp 127.0.0.1 8080"), "EADDRINUSE");
  ASSERT_TRUE(rewriter.set_claims(std::array{address_of("127.0.0.1:8080")}));
  EXPECT_EQ(program.ask("rebind web 127.0.0.1 8080"), "ok");
  ASSERT_TRUE(rewriter.set_claims({}));
  EXPECT_EQ(program.ask("bind more tcp 127.0.0.1 8080"), "EADDRINUSE");
  EXPECT_EQ(program.ask("name web"), "127.0.0.1 8080") << "as it was bound";
}

TEST_F(BindRewriterTest, IsMadeWholeAfterAetherWasReplaced) {
  InstanceProgram program("reexec");
  os::UniqueFd kept;
  std::uint16_t hidden = 0;
  {
    auto const rewriter = rewrite(program.cgroup(), {"127.0.0.1:8080"});
    program.start();
    program.ask("bind web tcp 127.0.0.1 8080");
    program.ask("listen web");
    auto taken = take(rewriter, program);
    ASSERT_EQ(taken.size(), 1U);
    kept = std::move(taken[0].fd);
    hidden = taken[0].hidden_port;
    router_.reset();
  }
  EXPECT_EQ(program.ask("name web"), fmt::format("127.0.0.1 {}", hidden));
  router_.emplace(*LookupRouter::open());
  auto rewriter = rewrite(program.cgroup(), {"127.0.0.1:8080"});
  ASSERT_TRUE(rewriter.remember(kept.get(), address_of("127.0.0.1:8080")));
  EXPECT_EQ(program.ask("name web"), "127.0.0.1 8080");
  auto const taken = take(rewriter, program);
  ASSERT_EQ(taken.size(), 1U);
  EXPECT_EQ(taken[0].hidden_port, hidden);
}

TEST_F(BindRewriterTest, RefusesWhatIsNoCgroupAndTooManyClaims) {
  os::UniqueFd const folder(open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  auto const none = BindRewriter::attach(*router_, folder.get(), {});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), ErrorCode::Unsupported);
  InstanceProgram program("many");
  std::vector<Address> const many(kBindClaimsMax + 1, address_of(":80"));
  auto const refused = BindRewriter::attach(*router_, program.cgroup().fd(), many);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::LimitReached);
}

std::size_t attached_to(os::Cgroup const& cgroup) {
  std::size_t count = 0;
  for (auto const attach :
       {BpfAttach::Inet4Bind, BpfAttach::Inet6Bind, BpfAttach::Inet4GetSockName,
        BpfAttach::Inet6GetSockName, BpfAttach::Inet4PostBind, BpfAttach::Inet6PostBind,
        BpfAttach::InetSockRelease, BpfAttach::InetSockCreate})
    count += bpf_attached(cgroup.fd(), attach).value().size();
  return count;
}

TEST_F(BindRewriterTest, LeavesNothingBehindAtAnyStep) {
  InstanceProgram program("faults");
  auto const before = os::count_own_fds();
  std::array const claims{address_of(":8080")};
  std::vector<std::string> points{"steer.bind-claims:1"};
  for (int i = 1; i <= 8; ++i) points.push_back(fmt::format("steer.bind-attach:{}", i));
  for (auto const& point : points) {
    ASSERT_TRUE(fault::configure(point + ":eio"));
    EXPECT_FALSE(BindRewriter::attach(*router_, program.cgroup().fd(), claims)) << point;
    EXPECT_EQ(os::count_own_fds(), before) << point;
    EXPECT_EQ(attached_to(program.cgroup()), 0U) << point;
  }
  ASSERT_TRUE(fault::configure(""));
  auto const rewriter = rewrite(program.cgroup(), {":8080"});
  EXPECT_EQ(attached_to(program.cgroup()), 8U);
  program.start();
  program.ask("bind web tcp 0.0.0.0 8080");
  program.ask("listen web");
  auto const with_program = os::count_own_fds();
  ASSERT_TRUE(fault::configure("steer.bind-take:1:eio"));
  EXPECT_FALSE(rewriter.take(program.tree()));
  EXPECT_EQ(os::count_own_fds(), with_program);
  EXPECT_EQ(take(rewriter, program).size(), 1U);
  EXPECT_EQ(os::count_own_fds(), with_program);
}

TEST_F(BindRewriterTest, EndsWithItsProcess) {
  InstanceProgram program("killed");
  router_.reset();
  os::testing::Pipe ready;
  pid_t const child = fork();
  if (child == 0) {
    auto router = LookupRouter::open();
    std::array const claims{address_of(":8080")};
    auto const rewriter = BindRewriter::attach(*router, program.cgroup().fd(), claims);
    (void)!write(ready.write_end.get(), rewriter ? "1" : "0", 1);
    pause();
    _exit(0);
  }
  ASSERT_EQ(os::testing::read_byte(ready.read_end.get()), '1');
  EXPECT_EQ(attached_to(program.cgroup()), 8U);
  kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(attached_to(program.cgroup()), 0U);
  program.start();
  EXPECT_EQ(program.ask("bind web tcp 127.0.0.1 8080"), "ok");
  EXPECT_EQ(program.ask("listen web"), "ok");
  EXPECT_TRUE(connect_to(address_of("127.0.0.1:8080"))) << "the real port";
}

}  // namespace
}  // namespace aether::steer
