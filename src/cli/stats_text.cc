// SPDX-License-Identifier: Apache-2.0
#include "cli/stats_text.h"

#include <iterator>

#include <fmt/format.h>

#include "base/bytes.h"

namespace aether::cli {
namespace {

using functions::StartTier;

std::string functions_table(StatsSnapshot const& snapshot) {
  std::string text;
  auto const to = std::back_inserter(text);
  for (StatsRow const& row : snapshot.rows) {
    if (row.kind != StatsRow::Kind::Function) continue;
    fmt::format_to(to, "{:<24} {:<9} {:>5} {:<11} {:>9} {:>7} {:>6} {:>6} {:>8} {:>8} {:>10}\n",
                   row.name, row.state, row.port, instances_text(row.instances), row.requests,
                   row.errors, row.in_flight, row.queued, duration_text(row.latency.quantile(0.50)),
                   duration_text(row.latency.quantile(0.99)), humanize_bytes(row.memory_bytes));
  }
  if (text.empty()) return text;
  return fmt::format("{:<24} {:<9} {:>5} {:<11} {:>9} {:>7} {:>6} {:>6} {:>8} {:>8} {:>10}\n",
                     "FUNCTION", "STATE", "PORT", "INSTANCES", "REQUESTS", "ERRORS", "FLIGHT",
                     "QUEUED", "P50", "P99", "MEMORY") +
         text;
}

std::string starts_table(StatsSnapshot const& snapshot) {
  std::string text;
  auto const to = std::back_inserter(text);
  for (StatsRow const& row : snapshot.rows) {
    for (std::size_t i = 0; i < row.starts.size(); ++i) {
      TierCounts const& tier = row.starts[i];
      if (tier.count == 0 && tier.failed == 0) continue;
      fmt::format_to(to, "{:<24} {:<9} {:>9} {:>7} {:>8} {:>8}\n", row.name,
                     tier_name(static_cast<StartTier>(i)), tier.count, tier.failed,
                     duration_text(tier.took.quantile(0.50)),
                     duration_text(tier.took.quantile(0.99)));
    }
  }
  if (text.empty()) return text;
  return fmt::format("\n{:<24} {:<9} {:>9} {:>7} {:>8} {:>8}\n", "STARTS OF", "TIER", "COUNT",
                     "FAILED", "P50", "P99") +
         text;
}

std::string services_table(StatsSnapshot const& snapshot) {
  std::string text;
  auto const to = std::back_inserter(text);
  for (StatsRow const& row : snapshot.rows) {
    if (row.kind != StatsRow::Kind::Service) continue;
    fmt::format_to(to, "{:<24} {:<12} {:>8} {:<11} {:>10}\n", row.name, row.state, row.revision,
                   instances_text(row.instances), humanize_bytes(row.memory_bytes));
  }
  if (text.empty()) return text;
  return fmt::format("{:<24} {:<12} {:>8} {:<11} {:>10}\n", "SERVICE", "STATE", "REVISION",
                     "INSTANCES", "MEMORY") +
         text;
}

std::string packets_table(StatsSnapshot const& snapshot) {
  if (!snapshot.packets) return {};
  PacketTable const& table = *snapshot.packets;
  std::string const limit = table.rate == 0
                                ? "nothing is dropped"
                                : fmt::format("a source may send {} packets a second, {} at once",
                                              table.rate, table.burst);
  std::string text = fmt::format("XDP at {} ({}): {}\n", table.interface, table.mode, limit);
  auto const to = std::back_inserter(text);
  fmt::format_to(to, "{:<24} {:>9} {:>12} {:>10} {:>12}  {}\n", "PACKETS TO", "PORT", "PACKETS",
                 "BYTES", "DROPPED", "PIDS");
  for (PacketRow const& row : table.rows) {
    fmt::format_to(to, "{:<24} {:>9} {:>12} {:>10} {:>12}  {}\n", row.owner, row.port, row.packets,
                   humanize_bytes(row.bytes), row.dropped, row.pids);
  }
  return text;
}

}  // namespace

std::string stats_text(StatsSnapshot const& snapshot) {
  std::string const of_functions = functions_table(snapshot) + starts_table(snapshot);
  std::string const of_services = services_table(snapshot);
  std::string const between = of_functions.empty() || of_services.empty() ? "" : "\n";
  std::string const text = of_functions + between + of_services;
  std::string const packets = packets_table(snapshot);
  if (packets.empty()) return text.empty() ? "Nothing runs.\n" : text;
  return text + (text.empty() ? "" : "\n") + packets;
}

}  // namespace aether::cli
