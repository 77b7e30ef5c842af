// SPDX-License-Identifier: Apache-2.0
#include "api/events.h"

#include <utility>

namespace aether::api {

void EventFeed::add(std::string_view type, std::string json) {
  events_.push_back({next_++, std::string(type), std::move(json)});
  if (listener_) listener_(events_.back());
  if (events_.size() > kEventsKept) events_.pop_front();
  grown_.set();
  grown_.reset();
}

std::vector<FeedEvent> EventFeed::after(std::uint64_t id) const {
  std::vector<FeedEvent> wanted;
  for (FeedEvent const& event : events_) {
    if (event.id > id) wanted.push_back(event);
  }
  return wanted;
}

async::Task<void> EventFeed::changed(std::uint64_t id) {
  while (last_id() <= id) co_await grown_.wait();
}

}  // namespace aether::api
