// SPDX-License-Identifier: Apache-2.0
// Which frames the program of bpf/xdp_ports.bpf.c counts: each is given to it by hand
// (BPF_PROG_TEST_RUN), so that no interface is needed.
#include <linux/bpf.h>
#include <netinet/in.h>
#include <sys/syscall.h>

#include <cstring>
#include <numeric>

#include "steer/bpf_testing.h"
#include "steer/bpf_xdp_maps.h"

namespace aether::steer {
namespace {

using Bytes = std::vector<unsigned char>;

Bytes operator+(Bytes left, Bytes const& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

constexpr std::uint16_t kPort = 8080;

Bytes ethernet(std::uint16_t type) {
  Bytes bytes(12, 2);
  return bytes + Bytes{static_cast<unsigned char>(type >> 8), static_cast<unsigned char>(type)};
}
Bytes tag(std::uint16_t next) {
  return {0, 5, static_cast<unsigned char>(next >> 8), static_cast<unsigned char>(next)};
}
/// From 10.0.0.1; `fragment` in units of 8 bytes.
Bytes ipv4(unsigned char protocol, std::size_t options = 0, std::uint16_t fragment = 0) {
  Bytes bytes(20 + options, 0);
  bytes[0] = static_cast<unsigned char>(0x40 | (5 + options / 4));
  bytes[6] = static_cast<unsigned char>(fragment >> 8);
  bytes[7] = static_cast<unsigned char>(fragment);
  bytes[9] = protocol;
  bytes[12] = 10;
  bytes[15] = 1;
  return bytes;
}
/// From 2001:db8::`host`.
Bytes ipv6(unsigned char next, unsigned char host = 1) {
  Bytes bytes(40, 0);
  bytes[0] = 0x60;
  bytes[6] = next;
  bytes[8] = 0x20;
  bytes[9] = 0x01;
  bytes[23] = host;
  return bytes;
}
Bytes extension(unsigned char next, std::size_t eights = 1) {
  Bytes bytes(8 * eights, 0);
  bytes[0] = next;
  bytes[1] = static_cast<unsigned char>(eights - 1);
  return bytes;
}
Bytes fragment(unsigned char next, std::uint16_t offset) {
  Bytes bytes(8, 0);
  bytes[0] = next;
  bytes[2] = static_cast<unsigned char>(offset >> 5);
  bytes[3] = static_cast<unsigned char>(offset << 3);
  return bytes;
}
Bytes ports(std::uint16_t to = kPort) {
  Bytes bytes(20, 0);
  bytes[2] = static_cast<unsigned char>(to >> 8);
  bytes[3] = static_cast<unsigned char>(to);
  return bytes;
}

constexpr unsigned char kTcp = IPPROTO_TCP;

class XdpFramesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto loaded = BpfPrograms::load(BpfObject::XdpPorts);
    if (!loaded) GTEST_SKIP() << loaded.error().message();
    programs_.emplace(*std::move(loaded));
    processors_ = bpf_processors().value();
    std::vector<aether_xdp_count> const zeros(processors_);
    ASSERT_TRUE(bpf_write(programs_->map("aether_ports"), &port_, zeros.data()));
  }

  /// What the program says of a frame (enum xdp_action); -1: the kernel did not take it.
  int verdict(Bytes frame) {
    Bytes out(frame.size() + 256);
    bpf_attr attributes{};
    attributes.test.prog_fd = static_cast<__u32>(programs_->program("aether_xdp"));
    attributes.test.data_in = reinterpret_cast<std::uintptr_t>(frame.data());
    attributes.test.data_size_in = static_cast<__u32>(frame.size());
    attributes.test.data_out = reinterpret_cast<std::uintptr_t>(out.data());
    attributes.test.data_size_out = static_cast<__u32>(out.size());
    if (syscall(SYS_bpf, BPF_PROG_TEST_RUN, &attributes, sizeof(attributes)) != 0) return -1;
    return static_cast<int>(attributes.test.retval);
  }
  aether_xdp_count count() {
    std::vector<aether_xdp_count> each(processors_);
    EXPECT_TRUE(bpf_read(programs_->map("aether_ports"), &port_, each.data()));
    aether_xdp_count sum{};
    for (auto const& one : each) {
      sum.packets += one.packets;
      sum.bytes += one.bytes;
      sum.dropped += one.dropped;
    }
    return sum;
  }
  bool is_counted(Bytes const& frame) {
    auto const before = count();
    EXPECT_EQ(verdict(frame), XDP_PASS);
    auto const after = count();
    if (after.packets == before.packets) return false;
    EXPECT_EQ(after.bytes - before.bytes, frame.size());
    return true;
  }
  void limit(std::uint64_t cost_ns, std::uint64_t burst) {
    std::uint32_t const zero = 0;
    aether_xdp_limit const limit{.cost_ns = cost_ns, .ahead_ns = (burst - 1) * cost_ns};
    ASSERT_TRUE(bpf_write(programs_->map("aether_limit"), &zero, &limit));
  }

  std::optional<BpfPrograms> programs_;
  std::size_t processors_ = 1;
  aether_xdp_port port_{.protocol = kTcp, .pad = 0, .port = kPort};
};

TEST_F(XdpFramesTest, CountedAreBothFamiliesWithTagsOptionsAndExtensionHeaders) {
  EXPECT_TRUE(is_counted(ethernet(0x0800) + ipv4(kTcp) + ports()));
  EXPECT_TRUE(is_counted(ethernet(0x86dd) + ipv6(kTcp) + ports()));
  EXPECT_TRUE(is_counted(ethernet(0x8100) + tag(0x0800) + ipv4(kTcp) + ports()));
  EXPECT_TRUE(is_counted(ethernet(0x88a8) + tag(0x8100) + tag(0x86dd) + ipv6(kTcp) + ports()));
  EXPECT_TRUE(is_counted(ethernet(0x0800) + ipv4(kTcp, 40) + ports())) << "all options";
  EXPECT_TRUE(is_counted(ethernet(0x86dd) + ipv6(0) + extension(60, 3) + extension(43, 2) +
                         extension(kTcp, 4) + ports()));
  Bytes authentication = extension(kTcp, 3);
  authentication[1] = 4;  // In units of 4 bytes, less 2.
  EXPECT_TRUE(is_counted(ethernet(0x86dd) + ipv6(51) + authentication + ports()));
  EXPECT_TRUE(is_counted(ethernet(0x86dd) + ipv6(44) + fragment(kTcp, 0) + ports()))
      << "the first fragment has the ports";
  EXPECT_TRUE(is_counted(ethernet(0x0800) + ipv4(kTcp, 0, 0x2000) + ports())) << "more will come";
}

TEST_F(XdpFramesTest, PassedByAreOtherPortsLaterFragmentsAndWhatIsNoIp) {
  EXPECT_FALSE(is_counted(ethernet(0x0800) + ipv4(kTcp) + ports(kPort + 1)));
  EXPECT_FALSE(is_counted(ethernet(0x0800) + ipv4(IPPROTO_UDP) + ports()));
  EXPECT_FALSE(is_counted(ethernet(0x0800) + ipv4(IPPROTO_ICMP) + ports()));
  EXPECT_FALSE(is_counted(ethernet(0x0806) + ipv4(kTcp) + ports())) << "ARP";
  EXPECT_FALSE(is_counted(ethernet(0x0800) + ipv4(kTcp, 0, 1) + ports()))
      << "in the middle of a packet these bytes are no ports";
  EXPECT_FALSE(is_counted(ethernet(0x86dd) + ipv6(44) + fragment(kTcp, 1) + ports()));
  EXPECT_FALSE(
      is_counted(ethernet(0x8100) + tag(0x8100) + tag(0x8100) + tag(0x0800) + ipv4(kTcp) + ports()))
      << "three tags";
  Bytes many = ethernet(0x86dd) + ipv6(60);
  for (int i = 0; i < 6; ++i) many = many + extension(60);
  EXPECT_FALSE(is_counted(many + extension(kTcp) + ports())) << "seven extension headers";
}

TEST_F(XdpFramesTest, PassedByIsWhatEndsTooEarlyAtEveryByte) {
  for (auto const& whole :
       {ethernet(0x88a8) + tag(0x8100) + tag(0x0800) + ipv4(kTcp, 8) + ports(),
        ethernet(0x86dd) + ipv6(0) + extension(44) + fragment(51, 0) + extension(kTcp) + ports()}) {
    // The kernel's own minimum is an Ethernet header.
    for (std::size_t length = 14; length < whole.size() - 16; ++length)
      EXPECT_FALSE(is_counted(Bytes(whole.begin(), whole.begin() + static_cast<long>(length))))
          << length;
  }
  Bytes bad_length = ipv4(kTcp);
  bad_length[0] = 0x44;
  EXPECT_FALSE(is_counted(ethernet(0x0800) + bad_length + ports())) << "a header of 16 bytes";
}

TEST_F(XdpFramesTest, AreDroppedOverTheLimitOfTheirSourceAndAHostOfIpv6IsItsNetwork) {
  constexpr std::uint64_t kHour = 3'600'000'000'000;
  limit(kHour, 3);
  Bytes const four = ethernet(0x0800) + ipv4(kTcp) + ports();
  Bytes const six = ethernet(0x86dd) + ipv6(kTcp, 1) + ports();
  Bytes const same_network = ethernet(0x86dd) + ipv6(kTcp, 2) + ports();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(verdict(four), XDP_PASS);
  EXPECT_EQ(verdict(four), XDP_DROP);
  EXPECT_EQ(verdict(six), XDP_PASS) << "another source";
  EXPECT_EQ(verdict(same_network), XDP_PASS);
  EXPECT_EQ(verdict(same_network), XDP_PASS);
  EXPECT_EQ(verdict(six), XDP_DROP);
  EXPECT_EQ(verdict(ethernet(0x0800) + ipv4(kTcp) + ports(9)), XDP_PASS) << "not watched";
  auto const counted = count();
  EXPECT_EQ(counted.packets, 8U);
  EXPECT_EQ(counted.dropped, 2U);
}

}  // namespace
}  // namespace aether::steer
