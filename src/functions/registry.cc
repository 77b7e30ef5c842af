// SPDX-License-Identifier: Apache-2.0
#include "functions/registry.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "functions/handler_hooks.h"
#include "functions/image_launcher.h"
#include "os/cgroup.h"
#include "steer/bind_rewriter.h"
#include "supervise/environment.h"

namespace aether::functions {
namespace {

/// For what the gateway has in flight still when all functions have ended.
constexpr Duration kGatewayEnd = std::chrono::seconds(1);
constexpr Duration kEndingLimit = std::chrono::seconds(5);

/// Whether binds can be rewritten here: in a control group of its own, where nobody binds.
Status try_binding(steer::LookupRouter const& router) {
  TRY_ASSIGN(os::Cgroup const group, os::Cgroup::create(fmt::format("aether-{}-try", ::getpid())));
  Address const any_port{.transport = Transport::Tcp, .host = {}, .port = 1};
  TRY_ASSIGN(auto const rewriter, steer::BindRewriter::attach(router, group.fd(), {&any_port, 1}));
  return {};
}

}  // namespace

Registry::Registry(RegistryDeps deps)
    : deps_(std::move(deps)),
      own_environment_(supervise::own_environment()),
      sdk_folder_(find_sdk_folder()),
      router_([this] { return tried_router(); }),
      ending_(deps_.executor, "functions that end") {}

Registry::~Registry() = default;

Result<steer::LookupRouter*> Registry::tried_router() {
  if (!deps_.router) return fail(ErrorCode::BpfUnavailable, "this Aether has no BPF programs");
  TRY_ASSIGN(steer::LookupRouter* const router, deps_.router());
  // Once: what a process may do does not change while it runs.
  if (!binding_) binding_ = try_binding(*router);
  if (!*binding_) return fail(binding_->error());
  return router;
}

Function* Registry::find(std::string_view id) const {
  auto const found = functions_.find(id);
  return found == functions_.end() ? nullptr : found->second.get();
}

Status Registry::add(FunctionSpec spec) {
  if (stopped_) return fail(ErrorCode::NotRunning, "Aether is stopping");
  if (!gateway_)
    gateway_ = std::make_unique<Gateway>(deps_.executor, deps_.clock, static_cast<Demand&>(*this));
  FunctionDeps deps{.executor = deps_.executor,
                    .clock = deps_.clock,
                    .gateway = *gateway_,
                    .known = deps_.known,
                    .runtime_dir = deps_.runtime_dir,
                    .next_instance = deps_.next_instance,
                    .echo = deps_.echo,
                    .own_environment = own_environment_,
                    .sdk_folder = sdk_folder_,
                    .router = router_};
  std::string const id = spec.function.id;
  auto function = std::make_shared<Function>(std::move(spec), ++numbers_, std::move(deps));
  Status opened = function->open();
  if (!opened) {
    ending_.spawn("end function", end(std::move(function), kEndingLimit));
    return opened;
  }
  functions_.emplace(id, std::move(function));
  order_.push_back(id);
  return {};
}

async::Task<Result<Deployed>> Registry::deploy(FunctionSpec spec) {
  auto const found = functions_.find(spec.function.id);
  if (found == functions_.end())
    co_return fail(ErrorCode::FunctionUnknown,
                   fmt::format("there is no function {}", spec.function.id));
  std::shared_ptr<Function> const function = found->second;
  async::Task<Result<Deployed>> deploying = function->deploy(std::move(spec));
  co_return co_await std::move(deploying);
}

Result<Deployed> Registry::rollback(std::string_view id) {
  if (Function* const function = find(id)) return function->rollback();
  return fail(ErrorCode::FunctionUnknown, fmt::format("there is no function {}", id));
}

async::Task<void> Registry::remove(std::string id, Duration limit) {
  auto const found = functions_.find(id);
  if (found == functions_.end()) co_return;
  std::shared_ptr<Function> function = std::move(found->second);
  functions_.erase(found);
  std::erase(order_, id);
  std::string const folder = function->spec().settings.snapshot_dir;
  async::Task<void> ending = end(std::move(function), limit);
  co_await std::move(ending);
  keep_images(folder);
}

void Registry::keep_images(std::string const& folder) const {
  std::vector<std::string> kept;
  for (std::string const& id : order_)
    if (find(id)->spec().function.launch == config::Launch::Image) kept.push_back(id);
  keep_images_of(folder, deps_.runtime_dir, kept);
}

async::Task<void> Registry::end(std::shared_ptr<Function> function, Duration limit) {
  async::Task<void> stopping = function->stop(limit);
  co_await std::move(stopping);
}

std::vector<std::string> Registry::ids() const {
  return order_;
}

FunctionSpec const* Registry::spec(std::string_view id) const {
  Function const* const function = find(id);
  return function != nullptr ? &function->spec() : nullptr;
}

supervise::LogBook* Registry::log_book(std::string_view id) const {
  Function* const function = find(id);
  return function != nullptr ? &function->log_book() : nullptr;
}

std::vector<FunctionStatus> Registry::status() const {
  std::vector<FunctionStatus> all;
  for (std::string const& id : order_) all.push_back(find(id)->status());
  return all;
}

async::Task<void> Registry::stop(Duration limit) {
  stopped_ = true;
  for (auto const& [id, function] : functions_)
    ending_.spawn(fmt::format("end {}", id), end(function, limit));
  co_await ending_.join();
  async::Task<std::vector<std::string>> stopping = ending_.stop(kEndingLimit);
  co_await std::move(stopping);
  functions_.clear();
  order_.clear();
  if (!gateway_) co_return;
  async::Task<void> closing = gateway_->stop(kGatewayEnd);
  co_await std::move(closing);
  gateway_.reset();
}

void Registry::hurry() {
  for (auto const& [id, function] : functions_) function->hurry();
}

void Registry::wanted(std::string_view function, std::uint32_t waiting) {
  if (Function* const one = find(function)) one->wanted(waiting);
}

void Registry::busy(std::string_view function, InstanceId instance, std::uint32_t in_flight) {
  if (Function* const one = find(function)) one->busy(instance, in_flight);
}

void Registry::timed_out(std::string_view function, InstanceId instance) {
  if (Function* const one = find(function)) one->timed_out(instance);
}

void Registry::unreachable(std::string_view function, InstanceId instance, std::string why) {
  if (Function* const one = find(function)) one->unreachable(instance, std::move(why));
}

}  // namespace aether::functions
