// SPDX-License-Identifier: Apache-2.0
#include "base/address.h"

#include <gtest/gtest.h>

namespace aether {
namespace {

Address good(std::string_view text) {
  auto const address = parse_address(text);
  EXPECT_TRUE(address.has_value()) << text << ": " << address.error().message();
  return address.value_or(Address{});
}

std::string refusal(std::string_view text) {
  auto const address = parse_address(text);
  EXPECT_FALSE(address.has_value()) << text << " gave " << address->text();
  if (address) return {};
  EXPECT_EQ(address.error().code(), ErrorCode::AddressInvalid);
  return address.error().message();
}

TEST(Address, ReadsAPortAloneAsEveryInterfaceOfBothFamilies) {
  Address const all{.transport = Transport::Tcp, .port = 8080};
  EXPECT_EQ(good(":8080"), all);
  EXPECT_EQ(good("8080"), all);
  EXPECT_EQ(good("*:8080"), all);
  EXPECT_EQ(good("tcp://:8080"), all);
  EXPECT_EQ(all.text(), ":8080");
}

TEST(Address, ReadsIpAddressesOfBothFamiliesInTheirCanonicalForm) {
  EXPECT_EQ(good("0.0.0.0:8080").host, "0.0.0.0");
  EXPECT_EQ(good("127.0.0.1:0").port, 0);
  EXPECT_EQ(good("localhost:80").host, "127.0.0.1");
  EXPECT_EQ(good("[0:0::1]:80").host, "::1");
  EXPECT_TRUE(good("[::1]:80").is_ipv6());
  EXPECT_EQ(good("[fe80::1%eth0]:80").host, "fe80::1%eth0");
  EXPECT_EQ(good("udp://127.0.0.1:53").transport, Transport::Udp);
}

TEST(Address, ReadsUnixSocketsOfThreeTypesAndAbstractNames) {
  EXPECT_EQ(good("unix:/run/a.sock"),
            (Address{.transport = Transport::UnixStream, .path = "/run/a.sock"}));
  EXPECT_EQ(good("unix:///run/a.sock"), good("unix:/run/a.sock"));
  EXPECT_EQ(good("/run/a.sock"), good("unix:/run/a.sock"));
  EXPECT_EQ(good("unix:@name"),
            (Address{.transport = Transport::UnixStream, .path = "name", .abstract_name = true}));
  EXPECT_EQ(good("unix-dgram:/run/a").transport, Transport::UnixDatagram);
  EXPECT_EQ(good("unix-seqpacket:/run/a").transport, Transport::UnixSeqpacket);
  EXPECT_FALSE(good("unix-dgram:/run/a").has_connections());
  EXPECT_TRUE(good("unix-seqpacket:/run/a").has_connections());
}

TEST(Address, WritesWhatItReads) {
  for (auto const* text : {":8080", ":0", "0.0.0.0:1", "[::]:65535", "[::1]:80", "[fe80::1%2]:80",
                           "udp://:53", "udp://[::1]:53", "unix:/a", "unix:@a", "unix:a/b",
                           "unix-dgram:/a", "unix-dgram:@a", "unix-seqpacket:/a"}) {
    EXPECT_EQ(good(text).text(), text);
    EXPECT_EQ(good(good(text).text()), good(text));
  }
}

TEST(Address, RefusesWhatIsNoAddressAndSaysWhatToWrite) {
  EXPECT_NE(refusal("").find("empty"), std::string::npos);
  EXPECT_NE(refusal("localhost").find("port is missing"), std::string::npos);
  EXPECT_NE(refusal("example.com:80").find("not looked up"), std::string::npos);
  EXPECT_NE(refusal("127.0.0.1:70000").find("over 65535"), std::string::npos);
  EXPECT_NE(refusal("127.0.0.1:99999999999999").find("over 65535"), std::string::npos);
  EXPECT_NE(refusal("127.0.0.1:80a").find("not a port"), std::string::npos);
  EXPECT_NE(refusal("127.0.0.1:").find("not a port"), std::string::npos);
  EXPECT_NE(refusal(":-1").find("not a port"), std::string::npos);
  EXPECT_NE(refusal("::1:80").find("brackets"), std::string::npos);
  EXPECT_NE(refusal("[::1]").find("port is missing"), std::string::npos);
  EXPECT_NE(refusal("[::1").find("]"), std::string::npos);
  EXPECT_NE(refusal("[nonsense]:1").find("IPv6"), std::string::npos);
  EXPECT_NE(refusal("http://:80").find("tcp://"), std::string::npos);
  EXPECT_NE(refusal("unix:").find("path is missing"), std::string::npos);
  EXPECT_NE(refusal("unix:@").find("path is missing"), std::string::npos);
  EXPECT_NE(refusal("unix:/tmp/").find("folder"), std::string::npos);
}

TEST(Address, TakesUnixPathsUpToTheKernelsLimitAndNamesTheLengthOfALongerOne) {
  std::string const longest = "/" + std::string(kUnixPathMax - 1, 'x');
  EXPECT_EQ(good("unix:" + longest).path, longest);
  EXPECT_NE(refusal("unix:" + longest + "x").find("108 bytes"), std::string::npos);
}

TEST(Address, TakesSeveralSlashesAtTheBeginningOfAPathForOne) {
  EXPECT_EQ(parse_address("//run/app.sock")->path, "/run/app.sock");
  EXPECT_EQ(parse_address("unix:////run/app.sock")->path, "/run/app.sock");
  EXPECT_EQ(parse_address("unix:///run/app.sock")->path, "/run/app.sock");
  EXPECT_EQ(parse_address(parse_address("////x")->text())->path, "/x");
}

TEST(Address, RefusesAZeroByteInAHost) {
  EXPECT_FALSE(parse_address(std::string_view("[::\0x]:80", 10)));
}

TEST(Address, RefusesAnInterfaceThatCannotBeOne) {
  EXPECT_FALSE(parse_address("[fe80::1%a://b]:80"));
  EXPECT_FALSE(parse_address("[fe80::1%an-interface-with-a-long-name]:80"));
  EXPECT_TRUE(parse_address("[fe80::1%eth0.100]:80"));
}

}  // namespace
}  // namespace aether
