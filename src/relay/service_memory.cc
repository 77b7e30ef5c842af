// SPDX-License-Identifier: Apache-2.0
// The memory of a service: who may speak for an instance, and the moves of its state between the
// revisions of a swap. What is exported stays in Aether's hands until the new revision has it.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "async/timers.h"
#include "base/fault.h"
#include "base/log.h"
#include "os/process.h"
#include "relay/service_impl.h"

namespace aether::relay {
namespace {

/// With `ready: auto`, a program that has its memory is ready when it waits for connections or says
/// READY=1; one whose waiting cannot be seen from outside is taken for ready after this time.
constexpr Duration kReadyAfterMemory = std::chrono::seconds(3);

/// A process that ends closes its connections first. So long its end is waited for.
constexpr Duration kDeathNoticed = std::chrono::milliseconds(300);
constexpr Duration kDeathLook = std::chrono::milliseconds(2);

Mechanism mechanism_of(config::Service const& spec) {
  return spec.handoff.mechanism == config::Mechanism::Shm ? Mechanism::Shm : Mechanism::Pipe;
}

std::string_view mechanism_name(Mechanism mechanism) {
  return mechanism == Mechanism::Shm ? "shm" : "pipe";
}

}  // namespace

// ---- Who speaks ---------------------------------------------------------------------------------

Status Service::Impl::open_state_socket() {
  SrpHandlers handlers{
      .identify = [this](PeerIdentity const& peer) { return identify(peer); },
      .describe = [this](InstanceId instance) { return describe(instance); },
      .on_hello = [this](InstanceId id) { on_hello(id); },
      .on_load = [this](InstanceId instance) { on_load(instance); },
      .on_listen = [this](InstanceId instance,
                          std::string const& address) { return on_listen(instance, address); },
      .on_closed =
          [this](InstanceId id) {
            log::debug("{}: instance {} closed its state socket", name_, id);
          },
  };
  state_socket_ = specs_.at(serving_).orchestration.state_handoff.socket_path.value_or(
      fmt::format("{}/{}.srp", deps_.runtime_dir, name_));
  srp_ = std::make_unique<SrpServer>(deps_.executor, name_, std::move(handlers));
  TRY(srp_->listen(state_socket_));
  return give_state_socket_to_its_user();
}

/// The socket's mode lets only its owner in, and a service with `user:` runs as somebody else.
Status Service::Impl::give_state_socket_to_its_user() const {
  std::optional<std::string> const& user = specs_.at(serving_).user;
  if (!user) return {};
  TRY_ASSIGN(os::Credentials const owner, os::find_credentials(*user));
  if (::chown(state_socket_.c_str(), owner.uid, owner.gid) == 0) return {};
  return fail(system_error("chown", state_socket_));
}

Result<InstanceId> Service::Impl::identify(PeerIdentity const& peer) const {
  if (auto const check = identify_check(peer)) return *check;
  for (auto const& [id, instance] : instances_) {
    bool const named = peer.instance.empty() || peer.instance == fmt::format("{}", id);
    if (named && instance->owns(peer.pid)) return id;
  }
  return fail(ErrorCode::Forbidden,
              fmt::format("process {} is not of service {}: only its own instances may speak here",
                          peer.pid, name_));
}

HelloAnswer Service::Impl::describe(InstanceId id) const {
  if (is_check(id)) return describe_check();
  auto const found = instances_.find(id);
  RevisionId const revision = found == instances_.end() ? RevisionId{} : found->second->revision();
  auto const spec = specs_.find(revision);
  HelloAnswer answer{.service = name_, .revision = revision};
  if (spec == specs_.end()) return answer;
  answer.handoff = spec->second.orchestration.state_handoff.enabled;
  answer.mechanism = mechanism_of(spec->second);
  answer.memory_waits = current_ && revision == current_->report.next && answer.handoff &&
                        holds_memory(current_->report.old);
  return answer;
}

std::shared_ptr<SrpSession> Service::Impl::session(RevisionId revision) const {
  supervise::Instance const* instance = find(revision);
  return instance == nullptr ? nullptr : srp_->session(instance->id());
}

bool Service::Impl::holds_memory(RevisionId revision) const {
  auto const spec = specs_.find(revision);
  if (spec == specs_.end() || !spec->second.orchestration.state_handoff.enabled) return false;
  if (!alive(revision)) return false;
  auto const open = session(revision);
  return open && open->hello().can_export;
}

void Service::Impl::on_hello(InstanceId id) {
  auto const found = instances_.find(id);
  if (found == instances_.end()) return;
  RevisionId const revision = found->second->revision();
  log::debug("{}: revision {} speaks SRP", name_, revision);
  if (holds_memory(revision)) with_memory_.insert(revision);
}

void Service::Impl::on_load(InstanceId id) {
  if (is_check(id)) return on_check_load();
  auto const found = instances_.find(id);
  if (found == instances_.end()) return;
  RevisionId const revision = found->second->revision();
  bool const is_next = current_ && revision == current_->report.next;
  if (is_next && specs_.at(revision).orchestration.state_handoff.enabled && !current_->next_asked) {
    current_->next_asked = true;
    // What it does from now on is waited for: the old one will stand still for it.
    found->second->compete();
    post(event::NextAskedMemory{});
    return;
  }
  tasks_.spawn("answer outside a swap", answer_outside_swap(id));
}

async::Task<void> Service::Impl::answer_outside_swap(InstanceId id) {
  auto const open = srp_->session(id);
  if (!open) co_return;
  // What is kept is for who serves, not for a revision that is being ended and asks late.
  auto const found = instances_.find(id);
  bool const serves = found != instances_.end() && found->second->revision() == serving_;
  std::optional<State> const orphaned =
      serves ? std::exchange(orphaned_memory_, std::nullopt) : std::nullopt;
  Status const told = co_await open->deliver(orphaned, Mechanism::Pipe, kAnswerLimit);
  if (!told) {
    log::warn("{}: instance {}: {}", name_, id, told.error().describe());
    // Nobody has it: it is for who asks next, unless the program says that it cannot read it.
    bool const unreadable = told.error().code() == ErrorCode::HandoffFailed;
    if (orphaned && !orphaned_memory_ && !unreadable) orphaned_memory_ = orphaned;
  }
  if (told && orphaned) log::info("{}: instance {} has the memory of the failed swap", name_, id);
  if (told) ready_after_memory(id);
}

void Service::Impl::ready_after_memory(InstanceId id) {
  auto const found = instances_.find(id);
  if (found == instances_.end() || found->second->is_ready()) return;
  config::Ready const& ready = specs_.at(found->second->revision()).ready;
  if (!std::holds_alternative<config::ReadyAuto>(ready)) return;
  tasks_.spawn("ready after memory", mark_ready_after_memory(id));
}

async::Task<void> Service::Impl::mark_ready_after_memory(InstanceId id) {
  co_await async::sleep_for(kReadyAfterMemory);
  auto const found = instances_.find(id);
  if (found != instances_.end()) found->second->mark_ready_by_sdk();
}

Result<SrpListener> Service::Impl::on_listen(InstanceId id, std::string const& address) {
  auto const found = instances_.find(id);
  if (found == instances_.end()) return fail(ErrorCode::Forbidden, "the instance is gone");
  RevisionId const revision = found->second->revision();
  if (specs_.at(revision).listen_none()) {
    return fail(
        ErrorCode::Forbidden,
        fmt::format("service {} has listen: none, so Aether opens no listener for it", name_));
  }
  TRY_ASSIGN(supervise::PassedListener lane, listeners_.add(address, revision));
  return SrpListener{.name = lane.name, .address = lane.address.text(), .fd = lane.fd};
}

// ---- Moves --------------------------------------------------------------------------------------

/// The end of a conversation is seen before the end of the process that had it.
async::Task<bool> Service::Impl::has_died(RevisionId revision) const {
  Instant const deadline = deps_.clock.now() + kDeathNoticed;
  while (alive(revision) && deps_.clock.now() < deadline) co_await async::sleep_for(kDeathLook);
  co_return !alive(revision);
}

void Service::Impl::perform(action::ExportMemory action) {
  spawn_for_swap("export memory", export_memory(current_->report.id, action.from));
}

async::Task<void> Service::Impl::export_memory(SwapId swap, RevisionId from) {
  // It may still be taking back what an earlier swap moved.
  std::shared_ptr<async::Event> const resumed = resumed_;
  if (resumed) co_await resumed->wait_for(policy_.handoff_limit);
  auto const old = session(from);
  bool const lost = !old && with_memory_.contains(from) && alive(from);
  if (lost) {
    post_for(swap, event::ExportFailed{
                       "the old revision closed its state socket, so its memory cannot be asked "
                       "for (its SDK connects again by itself; reload once more)"});
    co_return;
  }
  if (!holds_memory(from)) {
    log::info("{}: revision {} holds no memory to hand over (it uses no SDK)", name_, from);
    post_for(swap, event::Exported{});
    co_return;
  }
  if (auto passed = fault::pass(fault::Point::SwapHandoff); !passed) {
    post_for(swap, event::ExportFailed{passed.error().message()});
    co_return;
  }
  Mechanism const mechanism = mechanism_of(specs_.at(from));
  Result<Exported> exported = co_await old->export_state(mechanism, policy_.handoff_limit);
  bool const cut = !exported && exported.error().code() == ErrorCode::Unreachable;
  if (cut) {
    // So that its exit is told before: then nobody has the memory any more.
    async::Task<bool> dying = has_died(from);
    co_await std::move(dying);
  }
  if (!current_ || current_->report.id != swap) co_return;
  if (!exported) {
    post(event::ExportFailed{fmt::format("the old revision could not hand over its memory: {}",
                                         exported.error().message())});
    co_return;
  }
  current_->report.handoff = HandoffReport{
      .bytes = exported->state ? exported->state->size() : 0,
      .mechanism = std::string(mechanism_name(mechanism)),
      .quiesce_took = exported->quiesce,
      .export_took = exported->export_time,
      .state_version = exported->state ? exported->state->version() : 0,
  };
  current_->memory = std::move(exported->state);
  post(event::Exported{});
}

void Service::Impl::perform(action::DeliverMemory action) {
  // Not ended with the swap: a child that asked must be answered, or it waits for ever.
  // An old revision that died before it was asked may have left what an earlier swap kept.
  bool const old_lives = alive(current_->report.old);
  std::optional<State> const& memory =
      current_->memory || old_lives ? current_->memory : orphaned_memory_;
  tasks_.spawn("deliver memory", deliver_memory(current_->report.id, action.to, memory));
}

// The memory comes along: the swap may be over before this begins.
async::Task<void> Service::Impl::deliver_memory(SwapId swap, RevisionId to,
                                                std::optional<State> memory) {
  auto const next = session(to);
  if (!next) {
    post_for(swap, event::DeliveryFailed{"the new revision closed its state socket before it had "
                                         "its memory"});
    co_return;
  }
  if (auto passed = fault::pass(fault::Point::SwapDeliver); !passed) {
    post_for(swap, event::DeliveryFailed{passed.error().message()});
    co_return;
  }
  Mechanism const mechanism = mechanism_of(specs_.at(to));
  Status const delivered =
      co_await next->deliver(std::move(memory), mechanism, policy_.handoff_limit);
  if (!current_ || current_->report.id != swap) co_return;
  if (!delivered) {
    post(event::DeliveryFailed{
        fmt::format("the new revision did not take its memory: {}", delivered.error().message())});
    co_return;
  }
  if (current_->report.handoff) {
    current_->report.handoff->taken_as_version = next->hello().state_version;
  }
  if (current_->blind_since) {
    current_->report.blackout = deps_.clock.now() - *current_->blind_since;
  }
  post(event::Delivered{});
  ready_after_memory(next->instance());
}

void Service::Impl::perform(action::Release action) {
  tasks_.spawn("release", release(action.revision));
}

async::Task<void> Service::Impl::release(RevisionId revision) {
  auto const open = session(revision);
  if (!open) co_return;
  // What the released one passes on must find its owner at work.
  std::shared_ptr<async::Event> const resumed = resumed_;
  if (resumed) co_await resumed->wait_for(policy_.handoff_limit);
  Status const told = co_await open->release(listeners_.has_own_lanes());
  if (!told) log::warn("{}: revision {}: {}", name_, revision, told.error().describe());
}

void Service::Impl::announce_drain(RevisionId revision, Duration deadline) {
  auto const spec = specs_.find(revision);
  if (spec == specs_.end()) return;
  Duration const spread = spec->second.orchestration.drain.spread;
  tasks_.spawn("announce drain",
               tell_drain(revision, std::max(deadline, Duration::zero()),
                          spread > Duration::zero() ? std::optional(spread) : std::nullopt));
}

async::Task<void> Service::Impl::tell_drain(RevisionId revision, Duration deadline,
                                            std::optional<Duration> spread) {
  auto const open = session(revision);
  if (!open) co_return;
  Status const told = co_await open->drain(deadline, spread);
  if (!told) log::warn("{}: revision {}: {}", name_, revision, told.error().describe());
}

void Service::Impl::perform(action::ReclaimMemory action) {
  spawn_for_swap("reclaim memory", reclaim_memory(current_->report.id, action.from));
}

async::Task<void> Service::Impl::reclaim_memory(SwapId swap, RevisionId from) {
  auto const failing = session(from);
  if (!failing || !holds_memory(from)) {
    post_for(swap, event::Reclaimed{.memory = false});
    co_return;
  }
  Mechanism const mechanism = mechanism_of(specs_.at(from));
  Result<Exported> exported = co_await failing->export_state(mechanism, policy_.handoff_limit);
  if (!current_ || current_->report.id != swap) co_return;
  if (exported && exported->state) current_->reclaimed = std::move(exported->state);
  if (!exported) log::warn("{}: reverse handoff: {}", name_, exported.error().describe());
  post(event::Reclaimed{.memory = current_->reclaimed.has_value()});
}

void Service::Impl::keep_memory() {
  std::optional<State> const& newest = current_->reclaimed ? current_->reclaimed : current_->memory;
  if (newest) orphaned_memory_ = newest;
}

void Service::Impl::perform(action::Resume action) {
  std::optional<State> memory;
  if (action.with_reclaimed_memory && current_) memory = current_->reclaimed;
  // Should it die before it works again, what it had handed over is not lost with it.
  if (current_) keep_memory();
  log::info("{}: revision {} resumes with {}", name_, action.revision,
            memory ? "the memory of the revision that failed"
                   : "its own memory, as it was at the handoff");
  resumed_ = std::make_shared<async::Event>();
  tasks_.spawn("resume", resume(action.revision, std::move(memory), resumed_));
}

async::Task<void> Service::Impl::resume(RevisionId revision, std::optional<State> memory,
                                        std::shared_ptr<async::Event> done) {
  if (auto const open = session(revision)) {
    Mechanism const mechanism = mechanism_of(specs_.at(revision));
    Status const resumed =
        co_await open->resume(std::move(memory), mechanism, policy_.handoff_limit);
    bool const unreadable = !resumed && resumed.error().code() == ErrorCode::HandoffFailed;
    if (resumed || unreadable) orphaned_memory_.reset();
    if (unreadable) {
      log::warn("{}: revision {} goes on with its own memory, as it was at the handoff: {}", name_,
                revision, resumed.error().message());
    } else if (!resumed) {
      log::error("{}: revision {}: {}", name_, revision, resumed.error().describe());
    }
  }
  done->set();
}

}  // namespace aether::relay
