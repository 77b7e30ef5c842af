// SPDX-License-Identifier: Apache-2.0
// Functions: their start, deploys and rollbacks, and what a reload means to them.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "config/loader.h"
#include "daemon/daemon.h"
#include "daemon/release.h"
#include "supervise/printable.h"

namespace aether::daemon {
namespace {

/// For requests in flight when functions end; a handler is asked for no state.
constexpr Duration kFunctionEnd = std::chrono::seconds(10);

Failure unknown(std::string_view id) {
  return fail(ErrorCode::FunctionUnknown, fmt::format("there is no function {}", id));
}

}  // namespace

functions::RegistryDeps Daemon::function_deps() {
  return {.executor = loop_.executor(),
          .clock = clock_,
          .known = known_,
          .runtime_dir = names_.folder,
          .next_instance = [this] { return InstanceId{++instances_}; },
          // As it was written: a handler names itself where it wants to.
          .echo =
              [this](std::string_view, RevisionId, std::string_view line) {
                if (echo_) echo_->text(fmt::format("{}\n", line));
              },
          .router = [this] { return lookup_router(); }};
}

async::Task<void> Daemon::start_function(functions::FunctionSpec spec) {
  std::string const id = spec.function.id;
  if (!stopping_) {
    async::Task<Result<functions::Deployed>> starting = functions_.deploy(std::move(spec));
    auto const started = co_await std::move(starting);
    if (!started && !stopping_) {
      std::string const told = started.error().describe();
      log::error("{}: {}", id, echo_ ? supervise::without_quotes(told) : told);
    }
  }
  if (--functions_starting_ == 0) functions_settled_.set();
}

async::Task<void> Daemon::stop_functions() {
  async::Task<void> stopping = functions_.stop(kFunctionEnd);
  co_await std::move(stopping);
  functions_settled_.set();
}

void Daemon::watch_packets() {
  std::vector<config::Function> functions;
  for (std::string const& id : functions_.ids())
    if (auto const* const spec = functions_.spec(id)) functions.push_back(spec->function);
  std::vector<config::Service> services;
  for (auto const& entry : entries_)
    if (!entry->removed) services.push_back(entry->spec);
  packets_.watch(watched_ports(functions, services));
}

// ---- Reload -------------------------------------------------------------------------------------

void Daemon::apply_functions(config::Config const& next) {
  for (std::string const& id : functions_.ids()) {
    bool const stays = std::ranges::any_of(
        next.functions, [&](config::Function const& function) { return function.id == id; });
    if (stays) continue;
    log::info("{} is no longer in the configuration", id);
    tasks_.spawn("remove function", functions_.remove(id, kFunctionEnd));
  }
  for (config::Function const& function : next.functions) {
    functions::FunctionSpec spec{.function = function, .settings = next.orchestrator};
    if (functions_.has(function.id)) {
      tasks_.spawn(fmt::format("deploy {}", function.id), redeploy(std::move(spec)));
      continue;
    }
    if (auto added = functions_.add(spec); !added)
      log::error("new function {}: {}", function.id, added.error().describe());
    else
      tasks_.spawn(fmt::format("deploy {}", function.id), redeploy(std::move(spec)));
  }
  if (Status const told = packets_.apply(next.orchestrator.ebpf); !told)
    log::error("orchestrator.ebpf: {}", told.error().describe());
  // What is no longer there is still on its way out.
  packets_.watch(watched_ports(next.functions, next.services));
}

async::Task<void> Daemon::redeploy(functions::FunctionSpec spec) {
  std::string const id = spec.function.id;
  async::Task<Result<functions::Deployed>> deploying = functions_.deploy(std::move(spec));
  auto const deployed = co_await std::move(deploying);
  if (!deployed) log::error("{}: {}", id, deployed.error().describe());
  tell_jobs("deploy", id, deployed ? "" : deployed.error().message());
}

// ---- ControlPlane -------------------------------------------------------------------------------

std::vector<functions::FunctionStatus> Daemon::functions() const {
  return functions_.status();
}

Result<config::Function> Daemon::function_specification(std::string_view id) const {
  functions::FunctionSpec const* const spec = functions_.spec(id);
  if (spec == nullptr) return unknown(id);
  return spec->function;
}

Result<std::vector<functions::FunctionSpec>> Daemon::specs_of(api::DeployCall const& call) const {
  std::vector<functions::FunctionSpec> specs;
  if (call.file.empty()) {
    std::string const id = call.function.value_or("");
    functions::FunctionSpec const* const known = functions_.spec(id);
    if (known == nullptr) return unknown(id);
    return std::vector{*known};
  }
  TRY_ASSIGN(config::Config const config,
             call.yaml ? config::parse(*call.yaml, call.file, config::process_environment())
                       : config::load(call.file));
  TRY(check_release(config));
  TRY(check_kernel(config));
  for (config::Service const& service : config.services)
    log::warn("{}: its service {} is left alone; deploy is for functions", call.file, service.name);
  for (config::Function const& function : config.functions) {
    if (!call.function || *call.function == function.id)
      specs.push_back({.function = function, .settings = config.orchestrator});
  }
  if (!specs.empty()) return specs;
  if (call.function) return unknown(*call.function);
  return fail(ErrorCode::ConfigInvalid, fmt::format("{} has no functions:", call.file));
}

async::Task<api::DeployReport> Daemon::deploy_one(functions::FunctionSpec spec) {
  std::string const id = spec.function.id;
  api::DeployReport report{.function = id};
  bool const is_new = !functions_.has(id);
  if (is_new) {
    if (auto added = functions_.add(spec); !added) {
      report.failed = std::move(added).error();
      co_return report;
    }
    watch_packets();
  }
  async::Task<Result<functions::Deployed>> deploying = functions_.deploy(std::move(spec));
  auto deployed = co_await std::move(deploying);
  if (deployed) {
    report.from = deployed->from;
    report.revision = deployed->revision;
    report.took = deployed->took;
    co_return report;
  }
  report.failed = std::move(deployed).error();
  // Nothing has changed then: neither is its port taken from others.
  if (is_new) {
    async::Task<void> removing = functions_.remove(id, kFunctionEnd);
    co_await std::move(removing);
    watch_packets();
  }
  for (functions::FunctionStatus const& status : functions_.status()) {
    if (status.id == id) report.from = report.revision = status.revision;
  }
  co_return report;
}

async::Task<std::vector<api::DeployReport>> Daemon::deploy(api::DeployCall call) {
  if (stop_asked_.is_set()) throw Error(ErrorCode::NotRunning, "Aether is stopping");
  std::vector<functions::FunctionSpec> specs = or_throw(specs_of(call));
  std::vector<api::DeployReport> reports;
  for (functions::FunctionSpec& spec : specs) {
    async::Task<api::DeployReport> deploying = deploy_one(std::move(spec));
    api::DeployReport report = co_await std::move(deploying);
    tell_jobs("deploy", report.function, report.failed ? report.failed->message() : "");
    reports.push_back(std::move(report));
  }
  co_return reports;
}

async::Task<api::DeployReport> Daemon::rollback_function(std::string id) {
  functions::Deployed const back = or_throw(functions_.rollback(id));
  tell_jobs("rollback", id, "");
  co_return api::DeployReport{.function = id, .from = back.from, .revision = back.revision};
}

async::Task<void> Daemon::remove_function(std::string id) {
  if (!functions_.has(id)) throw Error(ErrorCode::FunctionUnknown, "there is no function " + id);
  async::Task<void> removing = functions_.remove(id, kFunctionEnd);
  co_await std::move(removing);
  watch_packets();
  tell_jobs("remove", id, "");
}

void Daemon::tell_jobs(std::string_view action, std::string const& function,
                       std::string const& failed) {
  if (!jobs_) return;
  std::vector<config::Function> known;
  for (std::string const& id : functions_.ids()) {
    if (auto const* const spec = functions_.spec(id)) known.push_back(spec->function);
  }
  jobs_->set_functions(known);
  jobs_->note({}, {.action = std::string(action),
                   .target = function,
                   .decision = failed.empty() ? "done" : "failed",
                   .detail = failed});
}

}  // namespace aether::daemon
