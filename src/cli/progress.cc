// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <poll.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "base/time.h"
#include "cli/terminal.h"
#include "http/url.h"

namespace aether::cli {
namespace {

namespace json = boost::json;

/// Fast enough to look alive, slow enough to cost nothing.
constexpr int kLookMs = 100;
/// What a terminal is asked to do with the line: back to its beginning, and empty.
constexpr std::string_view kStartOver = "\r\x1b[K";

struct Watched {
  std::string service;
  std::uint64_t swap = 0;
};

/// The phase a service's swap is in; empty once its verdict is out.
std::string phase_of(json::value const& service, std::uint64_t swap) {
  json::value const& last = service.at("last_swap");
  bool const known = last.is_object() && last.at("swap").to_number<std::uint64_t>() >= swap;
  if (!known) return "waiting";
  bool const ours = last.at("swap").to_number<std::uint64_t>() == swap;
  if (!ours || last.at("verdict").as_string() != "running") return "";
  return std::string(service.at("phase").as_string());
}

/// Waits for one swap's verdict, and tells the phase whenever it is asked.
Status watch_one(ControlClient const& client, Watched const& one) {
  constexpr std::array<std::string_view, 4> kTurning{"|", "/", "-", "\\"};
  Paint const paint = paint_for(stderr);
  SystemClock const clock;
  Instant since = clock.now();
  std::string phase;
  std::string const target = fmt::format("/v1/services/{}", http::percent_encode(one.service));
  for (std::size_t turn = 0;; ++turn) {
    TRY_ASSIGN(json::value const service, client.call("GET", target));
    std::string now = phase_of(service, one.swap);
    if (now != phase) since = clock.now();
    phase = std::move(now);
    fmt::print(stderr, "{}", kStartOver);
    if (!phase.empty()) {
      fmt::print(stderr, "{}{}{} {}: {} {}{:.1f}s{}", paint.yellow,
                 kTurning[turn % kTurning.size()], paint.reset, one.service, phase, paint.dim,
                 to_seconds(clock.now() - since), paint.reset);
    }
    std::fflush(stderr);
    if (phase.empty()) return {};
    (void)::poll(nullptr, 0, kLookMs);
  }
}

}  // namespace

Result<json::value> watch_swaps(ControlClient const& client, json::value const& begun) {
  json::array verdicts;
  for (json::value const& swap : begun.at("swaps").as_array()) {
    Watched const one{.service = std::string(swap.at("service").as_string()),
                      .swap = swap.at("swap").to_number<std::uint64_t>()};
    TRY(watch_one(client, one));
    TRY_ASSIGN(json::value const answer,
               client.call("GET",
                           fmt::format("/v1/services/{}/swaps/{}",
                                       http::percent_encode(one.service), one.swap),
                           {}, kVerdictLimit));
    for (json::value const& verdict : answer.at("swaps").as_array()) verdicts.push_back(verdict);
  }
  return json::value(json::object{{"swaps", std::move(verdicts)}});
}

}  // namespace aether::cli
