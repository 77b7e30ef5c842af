// SPDX-License-Identifier: Apache-2.0
// A service from its first start to its stop, and its public face.
#include "relay/service.h"

#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/log.h"
#include "os/process.h"
#include "relay/service_impl.h"
#include "relay/swap_policy.h"

namespace aether::relay {
namespace {

/// For this service's own tasks to end once they are cancelled; they wait for nothing outside.
constexpr Duration kTasksEnd = std::chrono::seconds(5);
/// For processes to be gone after SIGKILL, on a busy machine.
constexpr Duration kKilledEnd = std::chrono::seconds(3);

}  // namespace

Service::Impl::Impl(config::Service spec, ServiceDeps deps)
    : name_(spec.name),
      deps_(std::move(deps)),
      tasks_(deps_.executor, fmt::format("service {}", spec.name)),
      fd_store_(tasks_, spec.name, static_cast<std::size_t>(spec.fd_store)),
      logs_(spec.name, deps_.clock),
      restart_policy_(spec.restart,
                      static_cast<std::uint64_t>(deps_.clock.now().time_since_epoch().count())),
      rescue_(deps_.executor),
      health_(deps_.clock),
      policy_(swap_policy(spec)) {
  serving_ = RevisionId{++revisions_};
  swap_ = Idle{serving_};
  specs_.emplace(serving_, std::move(spec));
  if (deps_.echo) {
    logs_.set_tap([this](std::string_view service, supervise::LogLine const& line) {
      deps_.echo(service, line.revision, line.text);
    });
  }
}

Service::Impl::~Impl() {
  AETHER_CHECK(life_ == Life::Stopped || life_ == Life::Pending,
               "service {} was not stopped before it was destroyed", name_);
}

Status Service::Impl::check_command(RevisionId revision) const {
  config::Service const& spec = specs_.at(revision);
  auto const found =
      os::find_command(spec.command.front(), hook_environment(revision), spec.workdir.value_or(""));
  if (!found) return fail(Error(found.error()).while_doing(fmt::format("service {}", name_)));
  return {};
}

Status Service::Impl::open_listeners() {
  TRY(check_command(serving_));
  config::Service const& spec = specs_.at(serving_);
  TRY_ASSIGN(listeners_, Listeners::open(config::effective_listeners(spec), deps_.router));
  return open_state_socket();
}

async::Task<Status> Service::Impl::start() {
  if (stopping_) co_return fail(ErrorCode::NotRunning, fmt::format("{} is stopping", name_));
  tasks_.spawn("swap deadlines", tick());
  tasks_.spawn("what programs have bound", watch_bound());
  launch_serving(serving_, "start");
  while (life_ == Life::Starting) {
    life_changed_.reset();
    co_await life_changed_.wait();
  }
  if (life_ == Life::Running) co_return Status{};
  co_return fail(problem_code_, fmt::format("{}: {}", name_, problem_.value_or("stopped")));
}

std::vector<std::string> Service::Impl::hook_environment(RevisionId revision) const {
  config::Service const& spec = specs_.at(revision);
  std::vector<std::string> const own = supervise::own_environment();
  std::vector<std::string> environment = supervise::build_hook_environment(
      own,
      supervise::ChildEnvironment{.service = name_, .revision = revision, .configured = spec.env});
  supervise::Instance const* const main = alive(serving_) ? find(serving_) : nullptr;
  bool const has_main = main != nullptr;
  for (std::string& fact : supervise::hook_facts(has_main ? main->pid() : 0, {}))
    environment.push_back(std::move(fact));
  return environment;
}

Status Service::Impl::signal(int number) {
  supervise::Instance* const instance = find(serving_);
  if (instance == nullptr) {
    return fail(ErrorCode::NotRunning, fmt::format("service {} does not run", name_));
  }
  return instance->signal_handled(number);
}

async::Task<void> Service::Impl::stop() {
  co_await async::ignore_cancellation();
  stopping_ = true;
  tell_state();
  health_.stop();
  if (current_) {
    conclude(Verdict::RolledBack, "Aether is stopping");
    current_->over->set();
  }
  drop_waiting("Aether is stopping");
  for (auto const& [revision, retiree] : retirees_) retiree.over->set();
  deadline_changed_.set();
  for (auto const& [id, instance] : instances_) instance->begin_stop();
  co_await all_buried();
  if (srp_) co_await srp_->stop();
  co_await rescue_.stop(kTasksEnd);
  co_await tasks_.stop(kTasksEnd);
  fd_store_.clear();
  logs_.close();
  listeners_ = Listeners();
  set_life(Life::Stopped);
}

/// Until no process of the service lives. One that not even SIGKILL ends (it sleeps in a system
/// call that cannot be interrupted) is left behind, and told of, when its time is long over.
async::Task<void> Service::Impl::all_buried() {
  Duration longest{};
  for (auto const& [revision, spec] : specs_) longest = std::max(longest, spec.stop_timeout);
  stop_by_ = std::min(stop_by_, deps_.clock.now() + longest + kKilledEnd);
  while (!instances_.empty() && deps_.clock.now() < stop_by_) {
    buried_.reset();
    co_await buried_.wait_until(stop_by_);
  }
  for (auto const& [id, instance] : instances_) {
    bool const is_ending = instance->phase() == supervise::InstanceMachine::Phase::Gone;
    if (!is_ending) tasks_.spawn("leave behind", bury(id));
  }
  while (!instances_.empty()) {
    buried_.reset();
    co_await buried_.wait();
  }
}

void Service::Impl::hurry() {
  stop_by_ = std::min(stop_by_, deps_.clock.now() + kKilledEnd);
  buried_.set();
  stopping_ =
      true;  // Its turn to be stopped may be still to come: until then nothing is restarted.
  for (auto const& [id, instance] : instances_) instance->kill_tree();
}

// ---- Service: the public face -------------------------------------------------------------------

Service::Service(config::Service spec, ServiceDeps deps)
    : impl_(std::make_unique<Impl>(std::move(spec), std::move(deps))) {}
Service::~Service() = default;

std::string const& Service::name() const {
  return impl_->name();
}

Status Service::open_listeners() {
  return impl_->open_listeners();
}

async::Task<Status> Service::start() {
  return impl_->start();
}

Result<SwapId> Service::reload(ReloadRequest request) {
  return impl_->reload(std::move(request));
}

void Service::reload_later(ReloadRequest request) {
  impl_->reload_later(std::move(request));
}

Result<SwapId> Service::rollback(std::string reason) {
  return impl_->rollback(std::move(reason));
}

async::Task<SwapReport> Service::verdict(SwapId swap) {
  return impl_->verdict(swap);
}

Status Service::signal(int number) {
  return impl_->signal(number);
}

async::Task<void> Service::stop() {
  return impl_->stop();
}

void Service::hurry() {
  impl_->hurry();
}

ServiceStatus Service::status() const {
  return impl_->status();
}

supervise::LogBook& Service::log_book() {
  return impl_->log_book();
}

std::optional<int> Service::exit_code() const {
  return impl_->exit_code();
}

void Service::on_ended(std::function<void()> callback) {
  impl_->on_ended(std::move(callback));
}

}  // namespace aether::relay
