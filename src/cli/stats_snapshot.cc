// SPDX-License-Identifier: Apache-2.0
#include "cli/stats_snapshot.h"

#include <algorithm>
#include <array>
#include <functional>
#include <string_view>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "base/bytes.h"

namespace aether::cli {
namespace {

namespace json = boost::json;
using functions::DurationHistogram;
using functions::StartTier;

std::string text_of(json::object const& object, std::string_view key) {
  json::value const* const value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->as_string()) : "";
}

std::uint64_t number_of(json::object const& object, std::string_view key) {
  json::value const* const value = object.if_contains(key);
  return value != nullptr && value->is_number() ? value->to_number<std::uint64_t>() : 0;
}

/// The list of that name; an older Aether may not have it.
json::array const& list_of(json::object const& object, std::string_view key) {
  static json::array const nothing;
  json::value const* const value = object.if_contains(key);
  return value != nullptr && value->is_array() ? value->as_array() : nothing;
}

BucketCounts counts_of(json::object const& histogram) {
  BucketCounts read;
  json::array const& counts = list_of(histogram, "counts");
  std::size_t const buckets = std::min(counts.size(), read.counts.size());
  for (std::size_t i = 0; i < buckets; ++i) {
    read.counts[i] = counts[i].to_number<std::uint64_t>();
  }
  return read;
}

void read_starts(json::object const& function, StatsRow& row) {
  json::object const& starts = function.at("starts").as_object();
  for (std::size_t i = 0; i < row.starts.size(); ++i) {
    json::value const* const tier = starts.if_contains(tier_name(static_cast<StartTier>(i)));
    if (tier == nullptr) continue;
    json::object const& one = tier->as_object();
    row.starts[i] = {number_of(one, "count"), number_of(one, "failed"), counts_of(one)};
  }
}

void read_requests(json::object const& function, StatsRow& row) {
  constexpr std::string_view kFirstError = "500";
  json::object const& requests = function.at("requests").as_object();
  row.requests = number_of(requests, "count");
  row.in_flight = static_cast<std::uint32_t>(number_of(requests, "in_flight"));
  row.queued = static_cast<std::uint32_t>(number_of(requests, "queued"));
  row.latency = counts_of(requests.at("latency").as_object());
  for (auto const& [status, count] : requests.at("by_status").as_object()) {
    if (std::string_view(status) >= kFirstError) row.errors += count.to_number<std::uint64_t>();
  }
}

std::string time_of_day(json::object const& instance) {
  std::string const since = text_of(instance, "since");  // 2026-11-21T03:14:15.926Z
  return since.size() >= 19 ? since.substr(11, 8) : "-";
}

void add_instance(json::object const& instance, StatsRow& row) {
  ++row.instances[text_of(instance, "state")];
  row.memory_bytes += number_of(instance, "memory_bytes");
  std::string const tier = text_of(instance, "tier");
  row.instance_lines.push_back(fmt::format(
      "{:>4} r{:<3} {:<9} {:<6} {:>8} {:>6} {:>10}  {}", number_of(instance, "instance"),
      number_of(instance, "revision"), text_of(instance, "state"), tier.empty() ? "-" : tier,
      number_of(instance, "pid"), number_of(instance, "port"),
      humanize_bytes(number_of(instance, "memory_bytes")), time_of_day(instance)));
}

std::string joined(json::array const& texts) {
  std::string all;
  for (json::value const& one : texts) {
    all += fmt::format("{}{}", all.empty() ? "" : "; ", one.as_string().c_str());
  }
  return all;
}

StatsRow read_function(json::object const& function) {
  StatsRow row{.kind = StatsRow::Kind::Function,
               .name = text_of(function, "id"),
               .state = text_of(function, "state"),
               .revision = number_of(function, "revision"),
               .port = static_cast<std::uint16_t>(number_of(function, "trigger_port")),
               .problem = text_of(function, "problem")};
  row.serves = row.state == "RUNNING";
  read_starts(function, row);
  read_requests(function, row);
  for (json::value const& one : list_of(function, "instances")) add_instance(one.as_object(), row);
  std::string const why = joined(list_of(function, "not_cloneable"));
  row.facts = {
      {"handler", text_of(function, "handler_path")},
      {"launch", fmt::format("{}{}{}, {}", text_of(function, "launch"),
                             why.empty() ? "" : ", because ", why, text_of(function, "route"))},
      {"limits",
       fmt::format("{} MB, {} to {} instances, sandbox {}", number_of(function, "memory_limit_mb"),
                   number_of(function, "min_instances"), number_of(function, "max_instances"),
                   text_of(function, "sandbox"))},
      {"ended", fmt::format("{} out of memory, {} crashed", number_of(function, "out_of_memory"),
                            number_of(function, "crashes"))}};
  for (json::value const& note : list_of(function, "notes")) {
    row.facts.emplace_back("note", std::string(note.as_string()));
  }
  return row;
}

StatsRow read_service(json::object const& service) {
  StatsRow row{.kind = StatsRow::Kind::Service,
               .name = text_of(service, "name"),
               .state = text_of(service, "state"),
               .revision = number_of(service, "revision"),
               .problem = text_of(service, "problem")};
  row.serves = service.at("pid").is_number();
  for (json::value const& one : list_of(service, "instances")) add_instance(one.as_object(), row);
  std::string command;
  for (json::value const& word : list_of(service, "command")) {
    command += fmt::format("{}{}", command.empty() ? "" : " ", word.as_string().c_str());
  }
  std::string addresses;
  for (json::value const& listener : list_of(service, "listeners")) {
    addresses +=
        fmt::format("{}{}", addresses.empty() ? "" : " ", text_of(listener.as_object(), "address"));
  }
  row.facts = {{"command", command},
               {"listens", addresses.empty() ? "-" : addresses},
               {"phase", text_of(service, "phase")},
               {"restarts", std::to_string(number_of(service, "restarts"))}};
  return row;
}

PacketRow read_packets_of_port(json::object const& port) {
  std::string const function = text_of(port, "function");
  std::string pids;
  for (json::value const& pid : list_of(port, "pids"))
    pids += fmt::format("{}{}", pids.empty() ? "" : ", ", pid.to_number<std::int64_t>());
  return {.owner = function.empty() ? text_of(port, "service") : function,
          .port = fmt::format("{}/{}", number_of(port, "port"), text_of(port, "protocol")),
          .pids = pids.empty() ? "-" : pids,
          .packets = number_of(port, "packets"),
          .bytes = number_of(port, "bytes"),
          .dropped = number_of(port, "dropped")};
}

PacketTable read_packets(json::object const& packets) {
  PacketTable table{.interface = text_of(packets, "interface"),
                    .mode = text_of(packets, "mode"),
                    .rate = number_of(packets, "rate"),
                    .burst = number_of(packets, "burst"),
                    .rows = {}};
  for (json::value const& port : list_of(packets, "ports"))
    table.rows.push_back(read_packets_of_port(port.as_object()));
  return table;
}

/// For whoever looks closer: what came to each of its ports at the interface.
void add_packet_facts(PacketTable const& table, StatsRow& row) {
  for (PacketRow const& one : table.rows) {
    if (one.owner != row.name) continue;
    row.facts.emplace_back("packets", fmt::format("{} ({}) to {} at {}, {} dropped; pids {}",
                                                  one.packets, humanize_bytes(one.bytes), one.port,
                                                  table.interface, one.dropped, one.pids));
  }
}

}  // namespace

std::uint64_t BucketCounts::total() const {
  std::uint64_t sum = 0;
  for (std::uint64_t const count : counts) sum += count;
  return sum;
}

std::optional<Duration> BucketCounts::quantile(double share) const {
  std::uint64_t const all = total();
  if (all == 0) return std::nullopt;
  auto const wanted =
      std::min(all - 1, static_cast<std::uint64_t>(share * static_cast<double>(all)));
  std::uint64_t seen = 0;
  std::size_t bucket = 0;
  for (; bucket + 1 < counts.size(); ++bucket) {
    seen += counts[bucket];
    if (seen > wanted) break;
  }
  return DurationHistogram::bound(bucket);
}

BucketCounts BucketCounts::since(BucketCounts const& before) const {
  if (!std::ranges::equal(before.counts, counts, std::ranges::less_equal())) return *this;
  BucketCounts more;
  std::ranges::transform(counts, before.counts, more.counts.begin(), std::minus());
  return more;
}

BucketCounts& BucketCounts::operator+=(BucketCounts const& other) {
  std::ranges::transform(counts, other.counts, counts.begin(), std::plus());
  return *this;
}

StatsSnapshot read_snapshot(json::value const& status) {
  json::object const& all = status.as_object();
  StatsSnapshot snapshot{.version = text_of(all, "version"),
                         .pid = static_cast<pid_t>(number_of(all, "pid")),
                         .uptime = text_of(all, "uptime"),
                         .rows = {}};
  for (json::value const& one : list_of(all, "functions")) {
    snapshot.rows.push_back(read_function(one.as_object()));
  }
  for (json::value const& one : list_of(all, "services")) {
    snapshot.rows.push_back(read_service(one.as_object()));
  }
  json::value const* const packets = all.if_contains("packets");
  if (packets == nullptr || !packets->is_object()) return snapshot;
  snapshot.packets = read_packets(packets->as_object());
  for (StatsRow& row : snapshot.rows) add_packet_facts(*snapshot.packets, row);
  return snapshot;
}

std::string instances_text(std::map<std::string, std::uint32_t> const& instances) {
  // Those that answer first; who is on the way to a state is starting.
  constexpr std::string_view kOrder = "wrptsde";
  std::array<std::uint32_t, kOrder.size()> counts{};
  for (auto const& [state, count] : instances) {
    bool const on_its_way = state == "parking" || state == "thawing";
    std::size_t const letter = kOrder.find(on_its_way || state.empty() ? 's' : state.front());
    if (letter != std::string_view::npos) counts[letter] += count;
  }
  std::string text;
  for (std::size_t i = 0; i < kOrder.size(); ++i) {
    if (counts[i] == 0) continue;
    text += fmt::format("{}{}{}", text.empty() ? "" : " ", kOrder[i], counts[i]);
  }
  return text.empty() ? "-" : text;
}

std::string duration_text(std::optional<Duration> const& duration) {
  return duration ? humanize(*duration) : "-";
}

}  // namespace aether::cli
