// SPDX-License-Identifier: Apache-2.0
// FakeControlPlane: an Aether made of values, for tests of the API. Only *_test.cc files include
// it.
#pragma once
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "api/control_plane.h"
#include "base/error.h"
#include "base/time.h"
#include "supervise/log_book.h"

namespace aether::api::testing {

/// A service that serves with revision 2.
inline relay::ServiceStatus serving(std::string name) {
  relay::ServiceStatus status;
  status.name = std::move(name);
  status.state = "RUNNING";
  status.phase = "idle";
  status.revision = RevisionId{2};
  status.pid = 4711;
  status.command = {"python3", "agent.py"};
  return status;
}

/// A function that answers from a clone, and has done so.
inline functions::FunctionStatus answering(std::string id) {
  using functions::StartTier;
  functions::FunctionStatus status;
  status.id = std::move(id);
  status.state = "RUNNING";
  status.revision = RevisionId{3};
  status.pid = 5001;
  status.trigger_port = 8080;
  status.handler_path = "/opt/handlers/hello.py";
  status.route = "gateway";
  status.launch = "clone";
  status.notes = {"no reseeding hook: clones share random numbers"};
  status.sandbox = "basic";
  status.memory_limit_mb = 128;
  status.max_instances = 10;
  status.instances = {
      {.instance = InstanceId{7}, .revision = RevisionId{3}, .pid = 5001, .state = "template"},
      {.instance = InstanceId{8},
       .revision = RevisionId{3},
       .pid = 5002,
       .state = "warm",
       .tier = StartTier::Clone,
       .port = 40001,
       .memory_bytes = 2000,
       .in_flight = 1},
      {.instance = InstanceId{9},
       .revision = RevisionId{3},
       .pid = 5003,
       .state = "parked",
       .tier = StartTier::Clone,
       .port = 40002,
       .memory_bytes = 500}};
  functions::StartCounts& clones = status.starts[static_cast<std::size_t>(StartTier::Clone)];
  clones.count = 2;
  clones.failed = 1;
  clones.took.add(std::chrono::milliseconds(2));
  clones.took.add(std::chrono::milliseconds(3));
  functions::StartCounts& cold = status.starts[static_cast<std::size_t>(StartTier::Cold)];
  cold.count = 1;
  cold.took.add(std::chrono::milliseconds(90));
  status.requests.requests = 4;
  status.requests.by_status = {{200, 3}, {429, 1}};
  status.requests.refusals = {{"too_many", 1}};
  status.requests.ring_faults = {{"checksum", 1}};
  for (int ms : {1, 1, 4}) status.requests.latency.add(std::chrono::milliseconds(ms));
  status.requests.in_flight = 1;
  status.requests.queued = 5;
  status.out_of_memory = 2;
  status.crashes = 6;
  return status;
}

class FakeControlPlane final : public ControlPlane {
 public:
  explicit FakeControlPlane(Clock const& clock) : book("web", clock) {}

  [[nodiscard]] AetherInfo info() const override {
    return {.version = "1.2.3", .pid = 42, .config_path = "a.yaml", .uptime = Duration{}};
  }
  [[nodiscard]] std::vector<relay::ServiceStatus> services() const override { return all; }
  [[nodiscard]] Result<std::vector<SwapTicket>> reload(ReloadCall call) override {
    if (refusal) return fail(*refusal);
    reloads.push_back(std::move(call));
    return std::vector{SwapTicket{.service = "web", .swap = SwapId{reloads.size()}}};
  }
  [[nodiscard]] Result<SwapTicket> rollback(std::string_view service, std::string) override {
    if (refusal) return fail(*refusal);
    return SwapTicket{.service = std::string(service), .swap = SwapId{1}};
  }
  [[nodiscard]] async::Task<relay::SwapReport> verdict(SwapTicket ticket) override {
    relay::SwapReport report;
    report.id = ticket.swap;
    report.verdict = relay::Verdict::Succeeded;
    co_return report;
  }
  [[nodiscard]] Result<config::Service> specification(std::string_view service) const override {
    if (service != "web") return fail(ErrorCode::ServiceUnknown, "there is no such service");
    return config::Service{
        .name = "web", .command = {"python3"}, .env = {{"API_KEY", "do-not-show"}}};
  }
  [[nodiscard]] Result<supervise::LogBook*> log_book(std::string_view service) override {
    if (service != "web" && service != "hello")
      return fail(ErrorCode::ServiceUnknown, "there is no such service");
    return &book;
  }
  [[nodiscard]] std::vector<functions::FunctionStatus> functions() const override {
    return all_functions;
  }
  [[nodiscard]] Result<config::Function> function_specification(
      std::string_view id) const override {
    if (id != "hello") return fail(ErrorCode::FunctionUnknown, "there is no such function");
    return config::Function{.id = "hello", .environment = {{"API_KEY", "do-not-show"}}};
  }
  [[nodiscard]] async::Task<std::vector<DeployReport>> deploy(DeployCall call) override {
    if (refusal) throw *refusal;
    deploys.push_back(std::move(call));
    std::vector<DeployReport> reports{deployed};
    co_return reports;
  }
  [[nodiscard]] async::Task<DeployReport> rollback_function(std::string id) override {
    if (id != "hello") throw Error(ErrorCode::FunctionUnknown, "there is no such function");
    co_return deployed;
  }
  [[nodiscard]] async::Task<void> remove_function(std::string id) override {
    std::erase_if(all_functions, [&](auto const& one) { return one.id == id; });
    co_return;
  }
  [[nodiscard]] JobsPlane* jobs() override { return plane; }
  void request_stop() override { stopped = true; }

  std::vector<relay::ServiceStatus> all{serving("web")};
  std::vector<functions::FunctionStatus> all_functions{answering("hello")};
  DeployReport deployed{.function = "hello",
                        .from = RevisionId{2},
                        .revision = RevisionId{3},
                        .took = std::chrono::milliseconds(150),
                        .failed = {}};
  std::optional<Error> refusal;  ///< Of every reload, rollback and deploy.
  std::vector<DeployCall> deploys;
  std::vector<ReloadCall> reloads;
  supervise::LogBook book;
  bool stopped = false;
  JobsPlane* plane = nullptr;
};

}  // namespace aether::api::testing
