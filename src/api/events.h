// SPDX-License-Identifier: Apache-2.0
// EventFeed: what happened to services, kept for a while, for clients that follow /v1/events.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "async/event.h"
#include "async/task.h"

namespace aether::api {

/// Events a late client can still ask for with Last-Event-ID: some hours of ordinary life.
inline constexpr std::size_t kEventsKept = 1024;

struct FeedEvent {
  std::uint64_t id = 0;  ///< From 1, without gaps.
  std::string type;      ///< "state", "swap", "restart".
  std::string json;
};

/// Bounded; adding never waits. Loop thread only.
class EventFeed {
 public:
  void add(std::string_view type, std::string json);
  /// Those after `id`, oldest first.
  [[nodiscard]] std::vector<FeedEvent> after(std::uint64_t id) const;
  /// Called with each event that is added.
  void on_added(std::function<void(FeedEvent const&)> listener) { listener_ = std::move(listener); }
  [[nodiscard]] std::uint64_t last_id() const { return next_ - 1; }
  /// Waits until there is one after `id`.
  [[nodiscard]] async::Task<void> changed(std::uint64_t id);

 private:
  std::deque<FeedEvent> events_;
  std::uint64_t next_ = 1;
  async::Event grown_;
  std::function<void(FeedEvent const&)> listener_;
};

}  // namespace aether::api
