// SPDX-License-Identifier: Apache-2.0
// Which ports are watched at a network interface.
#include "daemon/packet_watch.h"

#include <gtest/gtest.h>

#include "config/loader.h"

namespace aether::daemon {
namespace {

config::Config read(std::string const& text) {
  return or_throw(config::parse(text, "test.yaml", {}));
}

TEST(WatchedPorts, AreThoseOfFunctionsAndOfServicesOnceEach) {
  config::Config const config = read(R"(
functions: [{id: f, memory_limit_mb: 1, trigger_port: 81, handler_path: /h}]
service:
  name: web
  command: [a]
  listen: ["127.0.0.1:82", "127.0.0.2:82", "udp://:53", "unix:/run/x", ":0"]
)");
  std::vector<WatchedPort> const expected{
      {.owner = "f", .port = 81},
      {.kind = api::PortPackets::Owner::Service, .owner = "web", .port = 82},
      {.kind = api::PortPackets::Owner::Service,
       .owner = "web",
       .transport = Transport::Udp,
       .port = 53}};
  EXPECT_EQ(watched_ports(config.functions, config.services), expected);
}

TEST(PacketWatch, CountsNothingUnlessItIsAsked) {
  PacketWatch watch;
  EXPECT_TRUE(watch.apply({.enabled = false, .interface = "lo"}));
  watch.watch({{.owner = "f", .port = 81}});
  EXPECT_FALSE(watch.is_attached());
  EXPECT_FALSE(watch.counts({}, {}));
}

TEST(PacketWatch, OfAnInterfaceThatIsNotThereSaysSoAndIsTriedAgain) {
  PacketWatch watch;
  config::Ebpf const wish{.enabled = true, .interface = "nothere0"};
  EXPECT_FALSE(watch.apply(wish));
  EXPECT_FALSE(watch.apply(wish)) << "the same wish is not taken for one that was granted";
  EXPECT_FALSE(watch.is_attached());
}

}  // namespace
}  // namespace aether::daemon
