// SPDX-License-Identifier: Apache-2.0
// Metrics: observes services and functions, and writes the Prometheus page. The seeds' names and
// ours; the list is metric_table.h, and docs/metrics.md is made of it. Loop thread only.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/control_plane.h"
#include "api/events.h"
#include "api/job_counts.h"
#include "functions/function_status.h"
#include "relay/observer.h"
#include "relay/service.h"

namespace aether::api {

class Metrics final : public relay::Observer {
 public:
  explicit Metrics(EventFeed& feed);
  ~Metrics() override;

  void phase_ended(std::string_view service, std::string_view phase, Duration took) override;
  void swap_ended(std::string_view service, relay::SwapReport const& report) override;
  void part_given(std::string_view service, RevisionId revision, int percent) override;
  void restarted(std::string_view service, std::string_view reason) override;
  void state_changed(std::string_view service, std::string_view state) override;
  /// A request of the route (its path as docs/openapi.yaml has it; "none" for others).
  void answered(std::string_view route, int status);
  /// A request was refused for want of a right; the error's code.
  void refused(std::string_view code);
  /// The configuration was read for a reload, or could not be.
  void config_read(bool successful);
  /// For aether_reaped_total.
  void reaped(std::size_t count);

  /// The page, in the text exposition format 0.0.4. Gauges are taken from what is given now.
  /// @param jobs Null: this Aether runs none.
  [[nodiscard]] std::string page(AetherInfo const& info,
                                 std::vector<relay::ServiceStatus> const& services,
                                 std::vector<functions::FunctionStatus> const& all = {},
                                 JobCounts const* jobs = nullptr);

 private:
  struct Families;
  std::unique_ptr<Families> families_;
  EventFeed& feed_;
};

/// aeterna_process_state: 0 RUNNING, 1 SOAKING, 2 DRAINING, 3 PRE_CHECKING, 4 STARTING,
/// 5 HANDSHAKING, 6 PENDING, 7 STOPPED, 8 FAILED.
[[nodiscard]] int state_number(std::string_view state);
/// Whether somebody serves: what /health asks of each service.
[[nodiscard]] bool serves(relay::ServiceStatus const& service);
/// The same for a function: it can answer, be it from zero instances.
[[nodiscard]] bool serves(functions::FunctionStatus const& function);
/// docs/metrics.md.
[[nodiscard]] std::string metrics_markdown();

}  // namespace aether::api
