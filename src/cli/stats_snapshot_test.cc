// SPDX-License-Identifier: Apache-2.0
#include "cli/stats_snapshot.h"

#include <chrono>

#include <boost/json.hpp>
#include <gtest/gtest.h>

#include "cli/stats_text.h"
#include "cli/testing.h"

namespace aether::cli {
namespace {

using functions::StartTier;
using std::chrono::milliseconds;
using testing::answering;
using testing::serving;
using testing::snapshot_of;

TierCounts const& tier_of(StatsRow const& row, StartTier tier) {
  return row.starts[static_cast<std::size_t>(tier)];
}

TEST(StatsSnapshot, ReadsWhatTheApiWritesOfAFunction) {
  functions::FunctionStatus function = answering("hello");
  function.requests.by_status[502] = 2;
  StatsSnapshot const snapshot = snapshot_of({function});
  EXPECT_EQ(snapshot.version, "1.2.3");
  EXPECT_EQ(snapshot.pid, 42);
  ASSERT_EQ(snapshot.rows.size(), 1U);
  StatsRow const& row = snapshot.rows.front();
  EXPECT_EQ(row.kind, StatsRow::Kind::Function);
  EXPECT_EQ(row.name, "hello");
  EXPECT_TRUE(row.serves);
  EXPECT_EQ(row.port, 8080);
  EXPECT_EQ(row.requests, 4U);
  EXPECT_EQ(row.errors, 2U) << "429 is the caller's";
  EXPECT_EQ(row.queued, 5U);
  EXPECT_EQ(row.memory_bytes, 2500U);
  EXPECT_EQ(instances_text(row.instances), "w1 p1 t1");
  EXPECT_EQ(tier_of(row, StartTier::Clone).count, 2U);
  EXPECT_EQ(tier_of(row, StartTier::Clone).failed, 1U);
  EXPECT_EQ(tier_of(row, StartTier::Parked).count, 0U);
}

TEST(StatsSnapshot, CountsWhoIsOnTheWayAsStarting) {
  EXPECT_EQ(instances_text({{"parking", 2}, {"thawing", 1}, {"parked", 3}, {"warm", 1}}),
            "w1 p3 s3");
  EXPECT_EQ(instances_text({{"ready", 1}, {"draining", 2}}), "r1 d2");
  EXPECT_EQ(instances_text({}), "-");
}

TEST(StatsSnapshot, HasTheQuantilesThatTheApiHas) {
  functions::FunctionStatus const function = answering("hello");
  StatsSnapshot const snapshot = snapshot_of({function});
  BucketCounts const& latency = snapshot.rows.front().latency;
  EXPECT_EQ(latency.total(), 3U);
  EXPECT_EQ(latency.quantile(0.50), function.requests.latency.quantile(0.50));
  EXPECT_EQ(latency.quantile(0.99), function.requests.latency.quantile(0.99));
  EXPECT_FALSE(BucketCounts().quantile(0.5));
}

TEST(StatsSnapshot, ReadsServicesToo) {
  relay::ServiceStatus service = serving("web");
  service.instances = {
      {.revision = RevisionId{2}, .pid = 4711, .state = "ready", .memory_bytes = 1000}};
  StatsSnapshot const snapshot = snapshot_of({answering("hello")}, {service});
  ASSERT_EQ(snapshot.rows.size(), 2U);
  StatsRow const& row = snapshot.rows.back();
  EXPECT_EQ(row.kind, StatsRow::Kind::Service);
  EXPECT_EQ(row.name, "web");
  EXPECT_EQ(row.memory_bytes, 1000U);
  EXPECT_EQ(row.instance_lines.size(), 1U);
}

TEST(StatsSnapshot, OfAnAetherWithoutFunctionsHasServicesOnly) {
  boost::json::object status = testing::status_of({}, {serving("web")});
  status.erase("functions");
  EXPECT_EQ(read_snapshot(status).rows.size(), 1U);
}

TEST(BucketCounts, OfACounterThatBeganAnewAreAllNew) {
  BucketCounts before;
  before.counts[3] = 5;
  BucketCounts now;
  now.counts[3] = 7;
  now.counts[4] = 1;
  EXPECT_EQ(now.since(before).total(), 3U);
  EXPECT_EQ(before.since(now).total(), 5U);
}

TEST(StatsText, HasATableForEachThatThereIs) {
  std::string const both = stats_text(snapshot_of({answering("hello")}, {serving("web")}));
  EXPECT_TRUE(both.contains("FUNCTION "));
  EXPECT_TRUE(both.contains("hello "));
  EXPECT_TRUE(both.contains("STARTS OF"));
  EXPECT_TRUE(both.contains("clone "));
  EXPECT_FALSE(both.contains("parked ")) << "only tiers that occurred";
  EXPECT_TRUE(both.contains("SERVICE "));
  std::string const services = stats_text(snapshot_of({}, {serving("web")}));
  EXPECT_FALSE(services.contains("FUNCTION "));
  EXPECT_TRUE(services.starts_with("SERVICE "));
  EXPECT_EQ(stats_text(snapshot_of({})), "Nothing runs.\n");
}

TEST(StatsText, HasThePacketsOfAPortWhereTheyAreCounted) {
  boost::json::object status = testing::status_of({answering("hello")}, {});
  status["packets"] = boost::json::parse(R"({"interface": "eth0", "mode": "native", "rate": 100,
      "burst": 200, "ports": [{"function": "hello", "protocol": "tcp", "port": 8080,
      "pids": [12, 13], "packets": 5000, "bytes": 1024, "dropped": 17}]})");
  StatsSnapshot const snapshot = read_snapshot(status);
  std::string const text = stats_text(snapshot);
  EXPECT_TRUE(
      text.contains("XDP at eth0 (native): a source may send 100 packets a second, "
                    "200 at once\n"))
      << text;
  EXPECT_TRUE(text.contains("8080/tcp         5000")) << text;
  EXPECT_TRUE(text.contains("17  12, 13\n")) << text;
  EXPECT_EQ(snapshot.rows.at(0).facts.back().first, "packets") << "the dashboard shows it too";
}

}  // namespace
}  // namespace aether::cli
