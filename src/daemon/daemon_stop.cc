// SPDX-License-Identifier: Apache-2.0
// Stopping: services side by side, but none before those that need it; then all the rest.
#include <algorithm>
#include <chrono>
#include <iterator>

#include <fmt/format.h>

#include "base/log.h"
#include "daemon/daemon.h"

namespace aether::daemon {
namespace {

/// For API requests in flight, and lines not shown yet, when Aether stops.
constexpr Duration kApiEnd = std::chrono::seconds(1);
/// For the daemon's own tasks once they are cancelled; they wait for nothing outside.
constexpr Duration kTasksEnd = std::chrono::seconds(5);

}  // namespace

std::vector<Daemon::Entry*> Daemon::starting_order() {
  std::vector<Entry*> order;
  auto const place = [&](auto const& self, Entry* entry) -> void {
    if (std::ranges::find(order, entry) != order.end()) return;
    for (std::string const& name : entry->spec.after) {
      Entry* const first = find(name);  // config has refused cycles
      if (first != nullptr) self(self, first);
    }
    order.push_back(entry);
  };
  for (auto const& entry : entries_) place(place, entry.get());
  return order;
}

async::Task<void> Daemon::stop_service(Entry* entry, std::vector<Entry*> before) {
  for (Entry* const one : before) co_await one->gone->wait();
  if (entry->removed) {
    co_await entry->gone->wait();
  } else {
    co_await entry->service->stop();
  }
  entry->gone->set();
  entry->settled->set();
}

async::Task<void> Daemon::stop_all() {
  stopping_ = true;
  outer_.tell("STOPPING=1");
  if (jobs_) co_await jobs_->stop();  // What it calls may be one of the functions.
  std::vector<Entry*> const order = starting_order();
  async::TaskGroup ending(loop_.executor(), "stopping services", order.size() + 2);
  for (Entry* const entry : order) {
    // Only those that start later in the order, so that no two can wait for each other: reloads of
    // single services may have left a circle in what `after:` says now.
    std::vector<Entry*> before;
    auto const own = std::ranges::find(order, entry);
    std::copy_if(own + 1, order.end(), std::back_inserter(before), [&](Entry const* later) {
      auto const& named = later->spec.after;
      return !later->removed && std::ranges::find(named, entry->service->name()) != named.end();
    });
    ending.spawn(fmt::format("stop {}", entry->service->name()), stop_service(entry, before));
  }
  ending.spawn("stop functions", stop_functions());
  co_await ending.join();
  co_await control_server_->stop(kApiEnd);
  co_await public_server_->stop(kApiEnd);
  if (echo_) co_await echo_->stop(kApiEnd);
  reap();
  co_await tasks_.stop(kTasksEnd);
  co_await own_log_->stop(kApiEnd);
  log::set_output({});
}

void Daemon::request_stop() {
  if (!stop_asked_.is_set()) log::info("stopping");
  stop_asked_.set();
}

}  // namespace aether::daemon
