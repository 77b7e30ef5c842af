// SPDX-License-Identifier: Apache-2.0
// Routes: what a request to Aether means. Who may ask it is decided in api/access.h. Knows no
// sockets.
#pragma once
#include <string_view>
#include <vector>

#include "api/access.h"
#include "api/control_plane.h"
#include "api/events.h"
#include "api/metrics.h"
#include "api/refusal_log.h"
#include "api/route_info.h"
#include "async/task.h"
#include "base/time.h"
#include "http/message.h"

namespace aether::api {

/// The reason of a swap that a rollback began; a swap that it takes back keeps its own.
inline constexpr std::string_view kRollbackReason = "rollback asked for";

/// Every route, as docs/openapi.yaml lists them.
[[nodiscard]] std::vector<RouteInfo> const& routes();

/// Answers requests. Everything it is given outlives it. Loop thread only.
class Routes {
 public:
  Routes(ControlPlane& control, Metrics& metrics, EventFeed& feed, Clock const& clock);
  /// Replaces those that were known. An open stream goes on with the right that it began with.
  void set_tokens(std::vector<KnownToken> tokens);
  /// An http::Handler. Faults become problem+json answers.
  [[nodiscard]] async::Task<http::Response> answer(http::Request request);

 private:
  [[nodiscard]] http::Response refuse(http::Request const& request, Decision const& decision);
  [[nodiscard]] async::Task<http::Response> answer_allowed(http::Request request,
                                                           Decision decision);
  [[nodiscard]] async::Task<http::Response> dispatch(http::Request request, Decision decision);
  [[nodiscard]] http::Response health() const;
  [[nodiscard]] http::Response metrics_page();
  [[nodiscard]] http::Response status() const;
  [[nodiscard]] http::Response service(std::string name) const;
  [[nodiscard]] http::Response inspect(std::string name) const;
  [[nodiscard]] http::Response service_list() const;
  [[nodiscard]] async::Task<http::Response> reload(http::Request request,
                                                   std::optional<std::string> service);
  [[nodiscard]] async::Task<http::Response> rollback(http::Request request, std::string service);
  [[nodiscard]] async::Task<http::Response> swap_answer(std::vector<SwapTicket> tickets, bool wait);
  [[nodiscard]] http::Response logs(http::Request const& request, std::string service);
  [[nodiscard]] http::Response events(http::Request const& request);
  [[nodiscard]] http::Response stop();

  ControlPlane& control_;
  Metrics& metrics_;
  EventFeed& feed_;
  Clock const& clock_;
  RefusalLog refusals_;
  std::vector<KnownToken> tokens_;
};

}  // namespace aether::api
