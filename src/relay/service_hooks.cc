// SPDX-License-Identifier: Apache-2.0
// Before a swap and after it: what is checked, and the hooks of the configuration.
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "os/process.h"
#include "relay/service_impl.h"

namespace aether::relay {

async::Task<void> Service::Impl::preflight(SwapId swap, RevisionId next) {
  auto const found = specs_.find(next);
  if (found == specs_.end()) co_return;  // The swap was over before this began.
  config::Service const spec = found->second;
  std::vector<std::string> const environment = hook_environment(next);
  if (auto passed = fault::pass(fault::Point::SwapPreflight); !passed) {
    post_for(swap, event::PreflightFailed{passed.error().message()});
    co_return;
  }
  // A command that does not exist is known before anything is touched.
  auto const command =
      os::find_command(spec.command.front(), environment, spec.workdir.value_or(""));
  if (!command) {
    post_for(swap, event::PreflightFailed{command.error().message()});
    co_return;
  }
  // New ones are bound now; if the swap fails they are closed again.
  if (auto opened = listeners_.prepare(config::effective_listeners(spec)); !opened) {
    post_for(swap, event::PreflightFailed{opened.error().message()});
    co_return;
  }
  for (config::Hook const& hook : spec.orchestration.pre_flight) {
    supervise::HookSpec run = hook_run(hook, spec, next, environment);
    supervise::HookResult const result = co_await supervise::run_hook(deps_.clock, std::move(run));
    Status const status = supervise::hook_status(hook.name, result);
    if (status) continue;
    if (hook.block_on_fail) {
      post_for(swap, event::PreflightFailed{status.error().message()});
      co_return;
    }
    log::warn("{}: {} (block_on_fail is off: the swap goes on)", name_, status.error().message());
  }
  Status const checked = co_await check_state(swap);
  if (!checked) {
    post_for(swap, event::PreflightFailed{checked.error().message()});
    co_return;
  }
  co_await until_there_is_room(spec.orchestration.max_revisions);
  post_for(swap, event::PreflightPassed{});
}

supervise::HookSpec Service::Impl::hook_run(config::Hook const& hook,
                                            config::Service const& service, RevisionId revision,
                                            std::vector<std::string> environment) {
  supervise::HookSpec run = supervise::hook_spec(hook);
  run.environment = std::move(environment);
  run.workdir = service.workdir;
  run.user = service.user;
  run.revision = revision;
  run.logs = &logs_;
  run.known = &deps_.known;
  return run;
}

async::Task<void> Service::Impl::run_hooks(std::vector<config::Hook> hooks, config::Service service,
                                           RevisionId revision,
                                           std::vector<std::string> environment) {
  for (config::Hook const& hook : hooks) {
    supervise::HookSpec run = hook_run(hook, service, revision, environment);
    supervise::HookResult const result = co_await supervise::run_hook(deps_.clock, std::move(run));
    if (auto status = supervise::hook_status(hook.name, result); !status) {
      log::warn("{}: {}", name_, status.error().message());
    }
  }
}

}  // namespace aether::relay
