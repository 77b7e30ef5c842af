// SPDX-License-Identifier: Apache-2.0
// Probes: one question to a running service, with a deadline: does it answer?
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "async/task.h"
#include "base/time.h"
#include "config/config.h"
#include "supervise/known_children.h"

namespace aether::supervise {

using ProbeKind = std::variant<config::ProbeHttp, config::ProbeTcp, config::ProbeCommand>;

struct ProbeSpec {
  ProbeKind what;
  Duration timeout = std::chrono::seconds(1);
  /// For an http probe that is only a "/path": the port of the service's first listener.
  std::uint16_t port = 0;
  /// If set, called before a TCP connection is made with the local port that it will come from, and
  /// with 0 when the question has been answered.
  std::function<void(std::uint16_t source_port)> introduce = {};
  /// If set, asked for the port to connect to instead of the one that is named.
  std::function<std::optional<std::uint16_t>(std::string const& host, std::uint16_t port)>
      own_port = {};
  /// For commands: complete environment, folder and user.
  std::vector<std::string> environment;
  std::optional<std::string> workdir;
  std::optional<std::string> user;
  KnownChildren* known =
      nullptr;  ///< Borrowed, outlives the call. Needed if somebody reaps orphans.
};

struct ProbeResult {
  bool healthy = false;
  std::string reason;  ///< "GET http://... answered 503"; also says what was good.
  Duration took{};
};

/// Asks once. Healthy is: an HTTP status from 200 to 399, an accepted connection, an exit with 0.
/// Never throws for what the service does. `clock` outlives the call.
[[nodiscard]] async::Task<ProbeResult> probe(Clock const& clock, ProbeSpec spec);

}  // namespace aether::supervise
