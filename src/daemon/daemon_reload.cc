// SPDX-License-Identifier: Apache-2.0
// Reloading: what the configuration says now, compared with what runs.
#include <algorithm>
#include <ranges>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/log.h"
#include "config/loader.h"
#include "daemon/daemon.h"
#include "daemon/release.h"

namespace aether::daemon {

Daemon::Entry* Daemon::find(std::string_view service) const {
  auto const found = std::ranges::find_if(entries_, [&](auto const& entry) {
    return !entry->removed && entry->service->name() == service;
  });
  return found == entries_.end() ? nullptr : found->get();
}

Result<config::Config> Daemon::load_again() {
  auto next = read_config();
  metrics_.config_read(next.has_value());
  return next;
}

Result<config::Config> Daemon::read_config() {
  TRY_ASSIGN(config::Config next, config::load(config_.path));
  TRY(check_release(next));
  if (next.kernel_needs != config_.kernel_needs) TRY(check_kernel(next));
  TRY_ASSIGN(std::vector<api::KnownToken> tokens, tokens_.load(next));
  if (jobs_) TRY(jobs_->set_agents(next.agents));
  routes_.set_tokens(std::move(tokens));
  bool const is_all = next.jobs == config_.jobs && next.store == config_.store &&
                      next.tools == config_.tools && next.schedules == config_.schedules;
  if (!is_all) {
    log::warn(
        "store, jobs, tools and schedules stay as they were when Aether started: what "
        "{} says of them now counts after a restart",
        config_.path);
  }
  return next;
}

Result<std::vector<api::SwapTicket>> Daemon::reload(api::ReloadCall call) {
  if (stop_asked_.is_set()) return fail(ErrorCode::NotRunning, "Aether is stopping");
  TRY_ASSIGN(config::Config const next, load_again());
  if (call.service && find(*call.service) == nullptr) {
    return fail(ErrorCode::ServiceUnknown,
                fmt::format("there is no service {}; there is: {}", *call.service,
                            fmt::join(std::views::transform(
                                          entries_,
                                          [](auto const& entry) { return entry->service->name(); }),
                                      ", ")));
  }
  std::vector<api::SwapTicket> tickets;
  std::optional<Error> refused;
  for (config::Service const& spec : next.services) {
    if (call.service && spec.name != *call.service) continue;
    Entry* const entry = find(spec.name);
    if (entry == nullptr) continue;
    config::Service swapped = spec;
    if (call.check_state) swapped.orchestration.state_handoff.check = true;
    auto begun = entry->service->reload(
        {.reason = call.reason, .force = call.force, .spec = std::move(swapped)});
    if (!begun) {
      refused = std::move(begun).error();
      continue;
    }
    entry->spec = spec;
    entry->down = false;
    tickets.push_back({spec.name, *begun});
  }
  if (!call.service) {
    apply_services(next);
    apply_functions(next);
  }
  if (refused && tickets.empty()) return fail(std::move(*refused));
  if (refused) log::error("reload: {}", refused->describe());
  return tickets;
}

void Daemon::reload_by_signal() {
  if (stop_asked_.is_set()) return;  // A service that is added now would be stopped by nobody.
  outer_.tell_reloading();
  auto const next = load_again();
  if (!next) {
    log::error("reload refused, the old configuration stays: {}", next.error().describe());
    outer_.tell("READY=1");
    return;
  }
  for (config::Service const& spec : next->services) {
    Entry* const entry = find(spec.name);
    if (entry == nullptr) continue;
    entry->spec = spec;
    entry->down = false;
    entry->service->reload_later({.reason = "SIGHUP", .spec = spec});
  }
  apply_services(*next);
  apply_functions(*next);
  outer_.tell("READY=1");
}

void Daemon::apply_services(config::Config const& next) {
  for (auto const& entry : entries_) {
    bool const stays = std::ranges::any_of(next.services, [&](config::Service const& spec) {
      return spec.name == entry->service->name();
    });
    if (stays || entry->removed) continue;
    log::info("{} is no longer in the configuration", entry->service->name());
    entry->removed = true;
    tasks_.spawn("remove service", remove_service(entry.get()));
  }
  for (config::Service const& spec : next.services) {
    if (find(spec.name) != nullptr) continue;
    auto added = add_service(spec);
    if (!added) {
      log::error("new service {}: {}", spec.name, added.error().describe());
      continue;
    }
    tasks_.spawn(fmt::format("start {}", spec.name), start_service(*added));
  }
}

async::Task<void> Daemon::remove_service(Entry* entry) {
  co_await entry->service->stop();
  entry->settled->set();
  entry->gone->set();
}

Result<api::SwapTicket> Daemon::rollback(std::string_view service, std::string reason) {
  Entry* const entry = find(service);
  if (entry == nullptr) {
    return fail(ErrorCode::ServiceUnknown, fmt::format("there is no service {}", service));
  }
  TRY_ASSIGN(SwapId const swap, entry->service->rollback(std::move(reason)));
  entry->down = false;
  return api::SwapTicket{std::string(service), swap};
}

async::Task<relay::SwapReport> Daemon::verdict(api::SwapTicket ticket) {
  Entry* const entry = find(ticket.service);
  if (entry == nullptr) {
    throw Error(ErrorCode::ServiceUnknown, fmt::format("there is no service {}", ticket.service));
  }
  co_return co_await entry->service->verdict(ticket.swap);
}

}  // namespace aether::daemon
