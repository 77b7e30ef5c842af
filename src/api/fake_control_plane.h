// SPDX-License-Identifier: Apache-2.0
// FakeControlPlane: an Aether made of values, for tests of the API. Only *_test.cc files include
// it.
#pragma once
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
    if (service != "web") return fail(ErrorCode::ServiceUnknown, "there is no such service");
    return &book;
  }
  void request_stop() override { stopped = true; }

  std::vector<relay::ServiceStatus> all{serving("web")};
  std::optional<Error> refusal;  ///< Of every reload and rollback.
  std::vector<ReloadCall> reloads;
  supervise::LogBook book;
  bool stopped = false;
};

}  // namespace aether::api::testing
