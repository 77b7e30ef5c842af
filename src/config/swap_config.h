// SPDX-License-Identifier: Apache-2.0
// What the configuration says of swaps: hooks, canaries, handoff and drain. Part of config.h.
#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/time.h"

namespace aether::config {

using Command = std::vector<std::string>;
using Variables = std::vector<std::pair<std::string, std::string>>;

struct Hook {
  std::string name;
  Command command;
  Duration timeout = std::chrono::seconds(30);
  bool block_on_fail = true;  ///< A failure stops the swap; otherwise it is only told.
  bool operator==(Hook const&) const = default;
};

struct ProbeHttp {
  std::string url;  ///< As ReadyHttp::url. Good is a status from 200 to 399.
  bool operator==(ProbeHttp const&) const = default;
};
struct ProbeTcp {
  std::string address;
  bool operator==(ProbeTcp const&) const = default;
};
struct ProbeCommand {
  Command command;
  bool operator==(ProbeCommand const&) const = default;
};

/// Asked again and again while a revision soaks.
struct HealthCheck {
  std::variant<ProbeHttp, ProbeTcp, ProbeCommand> probe;
  Duration interval = std::chrono::seconds(1);
  Duration timeout = std::chrono::seconds(1);
  int threshold = 3;  ///< This many failures in a row are a bad verdict.
  bool operator==(HealthCheck const&) const = default;
};

/// From then on the new revision gets this much.
struct CanaryStep {
  Duration after{};  ///< Since the step before, or since the cutover; longer than 0.
  int weight = 100;  ///< Percent; above the step's before.
  bool operator==(CanaryStep const&) const = default;
};

/// What decides which revision a connection goes to while both get some.
enum class Stick : std::uint8_t {
  None,    ///< Chance, for each connection.
  Source,  ///< The client's address: it keeps its revision, and may only go over to the new one.
};

struct Canary {
  bool enabled = false;
  int weight = 100;  ///< Percent of new connections for the new revision from the cutover on.
  std::vector<CanaryStep> steps;  ///< All of them within the soak.
  Stick stick = Stick::None;
  std::optional<HealthCheck> health_check;
  bool operator==(Canary const&) const = default;
};

enum class OnHandoffFailure : std::uint8_t {
  Abort,     ///< Roll back: the old revision keeps its memory and serves on.
  Continue,  ///< Go on with a new revision that remembers nothing.
};

struct StateHandoff {
  bool enabled = false;
  std::optional<std::string> socket_path;      ///< Absolute; absent: Aether chooses one.
  Duration timeout = std::chrono::seconds(5);  ///< The same value as Handoff::timeout.
  bool connections = false;                    ///< Move open connections too. `up` refuses true.
  OnHandoffFailure on_handoff_failure = OnHandoffFailure::Abort;
  bool check = false;  ///< Try the round trip of the real state before anything moves.
  bool operator==(StateHandoff const&) const = default;
};

enum class Mode : std::uint8_t {
  HotRelay,   ///< The new revision is made ready beside the old one, then takes over; soak; drain.
  Immediate,  ///< As HotRelay without a soak: no way back after the cutover.
  Canary,     ///< As HotRelay, with canary.enabled.
  Run,        ///< No overlap: the old one stops, the new one starts; connections wait in the queue.
};

/// When an old revision gets its stop signal.
enum class DrainStop : std::uint8_t {
  AfterQueue,  ///< As soon as it has accepted what waited for it.
  WhenIdle,    ///< When none of its connections is open any more, or at the deadline.
  AtDeadline,
};

struct Drain {
  Duration timeout = std::chrono::seconds(30);  ///< From the verdict on.
  DrainStop stop = DrainStop::AfterQueue;
  Duration spread{};  ///< Of the last idle connections, before the deadline. 0: half the timeout.
  bool operator==(Drain const&) const = default;
};

/// How a revision that starts beside a serving one competes for the processor until it is ready.
enum class StartupPriority : std::uint8_t { Low, Normal };

struct Orchestration {
  Mode mode = Mode::HotRelay;
  Duration soak_time{};  ///< 0: no soak. 30s if the file names a mode or a canary and no time.
  std::vector<Hook> pre_flight;
  std::vector<Hook> on_success;
  std::vector<Hook> on_failure;
  Duration warmup_delay{};  ///< From ready to handoff.
  StartupPriority startup_priority = StartupPriority::Low;
  Drain drain;
  int max_revisions = 4;  ///< Living ones; the oldest draining one ends first.
  Canary canary;
  StateHandoff state_handoff;
  bool operator==(Orchestration const&) const = default;
};

enum class Mechanism : std::uint8_t { Pipe, Shm, Vault };

struct Handoff {
  Mechanism mechanism = Mechanism::Pipe;
  Duration timeout = std::chrono::seconds(5);
  bool operator==(Handoff const&) const = default;
};

}  // namespace aether::config
