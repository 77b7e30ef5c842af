// SPDX-License-Identifier: Apache-2.0
// state_handoff.check: before anything moves, a throwaway process of the new revision is given a
// copy of the real memory. What it cannot read is known while the old revision serves on.
#include <limits>
#include <random>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "relay/service_impl.h"
#include "relay/swap_policy.h"
#include "supervise/hook.h"

namespace aether::relay {
namespace {

/// The throwaway process is nobody's instance; real ones are counted from 1.
constexpr InstanceId kCheckInstance{std::numeric_limits<std::uint64_t>::max()};
constexpr std::string_view kCheckName = "state check";

/// Only the process that was given it may ask for the copy: the socket's mode does not tell one
/// service from another of the same user.
std::string make_pass() {
  std::random_device random;
  return fmt::format("check-{:08x}{:08x}{:08x}", random(), random(), random());
}

}  // namespace

Duration state_check_limit(config::Service const& spec) {
  // One export, one start of the program, one delivery.
  return spec.ready_timeout + 2 * spec.handoff.timeout;
}

std::optional<InstanceId> Service::Impl::identify_check(PeerIdentity const& peer) const {
  bool const known = current_ && current_->check && peer.instance == current_->check->pass;
  return known ? std::optional(kCheckInstance) : std::nullopt;
}

bool Service::Impl::is_check(InstanceId id) {
  return id == kCheckInstance;
}

HelloAnswer Service::Impl::describe_check() const {
  if (!current_) return {.service = name_};
  RevisionId const next = current_->report.next;
  return {.service = name_,
          .revision = next,
          .handoff = true,
          .mechanism = specs_.at(next).handoff.mechanism == config::Mechanism::Shm
                           ? Mechanism::Shm
                           : Mechanism::Pipe,
          .memory_waits = true};
}

void Service::Impl::on_check_load() {
  if (!current_ || !current_->check || current_->check->asked) return;
  current_->check->asked = true;
  spawn_for_swap("deliver a copy", deliver_copy(current_->report.id));
}

async::Task<void> Service::Impl::deliver_copy(SwapId swap) {
  auto const reader = srp_->session(kCheckInstance);
  if (!reader || !current_ || !current_->check) co_return;
  std::optional<State> const copy = current_->check->copy;
  Mechanism const mechanism = describe_check().mechanism;
  Status delivered = co_await reader->deliver(copy, mechanism, policy_.handoff_limit);
  if (!current_ || current_->report.id != swap || !current_->check) co_return;
  current_->check->read = delivered;
}

/// The old revision's memory as it is now; it goes on working.
async::Task<Result<std::optional<State>>> Service::Impl::copy_memory(RevisionId from) {
  auto const old = session(from);
  Mechanism const mechanism = specs_.at(from).handoff.mechanism == config::Mechanism::Shm
                                  ? Mechanism::Shm
                                  : Mechanism::Pipe;
  Result<Exported> exported =
      co_await old->export_state(mechanism, policy_.handoff_limit, Trial::Yes);
  if (!old->closed()) {
    Status const resumed =
        co_await old->resume(std::nullopt, Mechanism::Pipe, policy_.handoff_limit);
    if (!resumed) co_return fail(resumed.error());
  }
  if (exported) co_return std::move(exported->state);
  if (exported.error().code() == ErrorCode::Unreachable) (void)co_await has_died(from);
  co_return fail(std::move(exported).error());
}

async::Task<Status> Service::Impl::check_state(SwapId swap) {
  RevisionId const next = current_->report.next;
  config::Service const spec = specs_.at(next);
  config::StateHandoff const& handoff = spec.orchestration.state_handoff;
  if (!handoff.enabled || !handoff.check || !holds_memory(current_->report.old)) co_return Status();
  auto copy = co_await copy_memory(current_->report.old);
  if (!current_ || current_->report.id != swap) co_return Status();
  if (!copy && !alive(current_->report.old)) co_return Status();  // There is nothing left to check.
  if (!copy) {
    co_return fail(ErrorCode::HandoffFailed,
                   fmt::format("{}: the old revision could not give a copy of its memory: {}",
                               kCheckName, copy.error().message()));
  }
  if (!*copy) co_return Status();
  std::string const pass = make_pass();
  current_->check = Check{.pass = pass, .copy = std::move(*copy), .read = {}};
  std::vector<std::string> environment = hook_environment(next);
  environment.push_back("AETERNA_CHECK_STATE=1");
  environment.push_back("AETERNA_STATE_SOCK=" + state_socket_);
  environment.push_back("AETHER_INSTANCE_ID=" + pass);
  config::Hook const hook{.name = std::string(kCheckName),
                          .command = spec.command,
                          .timeout = spec.ready_timeout + spec.handoff.timeout};
  supervise::HookSpec run = hook_run(hook, spec, next, std::move(environment));
  supervise::HookResult const result = co_await supervise::run_hook(deps_.clock, std::move(run));
  if (!current_ || current_->report.id != swap) co_return Status();
  Check const check = std::move(*std::exchange(current_->check, std::nullopt));
  co_return check_verdict(check, supervise::hook_status(std::string(kCheckName), result));
}

Status Service::Impl::check_verdict(Check const& check, Status const& ended) const {
  if (check.read && !*check.read) {
    return fail(ErrorCode::HandoffFailed,
                fmt::format("{}: the new revision cannot work with the memory of the old one: {}",
                            kCheckName, check.read->error().message()));
  }
  if (!ended) return ended;
  if (!check.asked) {
    return fail(ErrorCode::HandoffFailed,
                fmt::format("{}: the program ended without asking for its memory; it has to call "
                            "load_context() of an SDK that knows AETERNA_CHECK_STATE",
                            kCheckName));
  }
  log::info("{}: the new revision can read the memory ({} bytes)", name_, check.copy->size());
  return {};
}

}  // namespace aether::relay
