// SPDX-License-Identifier: Apache-2.0
// How a function stands.
#include <algorithm>

#include <fmt/format.h>

#include "functions/function_impl.h"
#include "os/file.h"
#include "os/proc.h"

namespace aether::functions {
namespace {

constexpr std::size_t kRollupMax = 4096;
/// Beyond it only resident bytes are told, which cost a tenth.
constexpr std::size_t kExactMax = 32;

/// Its own, and its share of what it shares with others (man 5 proc_pid_smaps); 0: not known.
std::uint64_t proportional_bytes(pid_t pid) {
  auto const text = os::read_file(fmt::format("/proc/{}/smaps_rollup", pid), kRollupMax);
  std::size_t const at = text ? text->find("\nPss:") : std::string::npos;
  if (at == std::string::npos) return 0;
  return std::strtoull(text->c_str() + at + 5, nullptr, 10) * 1024;
}

std::string_view sandbox_text(config::Sandbox sandbox) {
  switch (sandbox) {
    case config::Sandbox::None:
      return "none";
    case config::Sandbox::Basic:
      return "basic";
    case config::Sandbox::Strict:
      return "strict";
  }
  return "";
}

}  // namespace

FunctionInstanceStatus Function::Impl::status_of(InstanceId instance, Live const& live) const {
  FunctionInstanceStatus status{.instance = instance,
                                .revision = live.revision->id,
                                .pid = live.instance->pid(),
                                .state = "starting",
                                .tier = live.made,
                                .port = live.port,
                                .since = live.since,
                                .in_flight = live.in_flight};
  auto const member = pool_.members().find(instance);
  if (live.ending || live.exited)
    status.state = "ending";
  else if (member != pool_.members().end())
    status.state = member_state_name(member->second.state);
  else if (live.revision->worker && live.revision->making == Making::Copy)
    status.state = "template";
  if (!live.exited)
    status.memory_bytes = lives_.size() <= kExactMax ? proportional_bytes(status.pid)
                                                     : os::read_rss_bytes(status.pid);
  return status;
}

FunctionStatus Function::Impl::status() const {
  config::Function const& function = spec_.function;
  RevisionPtr const serving = revision_of(pool_.serving());
  FunctionStatus status{.id = id_,
                        .state = serving                   ? "RUNNING"
                                 : deploying_ || !problem_ ? "STARTING"
                                                           : "FAILED",
                        .revision = pool_.serving(),
                        .trigger_port = function.trigger_port,
                        .handler_path = function.handler_path,
                        .route = is_direct() ? "direct" : "gateway",
                        .sandbox = std::string(sandbox_text(function.sandbox)),
                        .memory_limit_mb = function.memory_limit_mb,
                        .min_instances = static_cast<std::uint32_t>(function.min_instances),
                        .max_instances = static_cast<std::uint32_t>(function.max_instances),
                        .starts = starts_,
                        .requests = request_counts(),
                        .out_of_memory = out_of_memory_,
                        .crashes = crashes_,
                        .problem = problem_};
  // The gateway knows when the request came; the pool only when it heard that somebody waits.
  bool const by_gateway = function.route == config::Route::Gateway;
  for (std::size_t i = 0; by_gateway && i < status.starts.size(); ++i)
    status.starts.at(i).took = status.requests.starts.at(i);
  if (is_direct()) status.given = direct_->given();
  if (stopping_) status.state = "STOPPING";
  if (serving) {
    status.launch = serving->image ? "image" : serving->making == Making::Copy ? "clone" : "spawn";
    status.not_cloneable = serving->not_cloneable;
    status.notes = serving->notes;
    status.bind = serving->binds_documented ? "documented" : is_direct() ? "inherited" : "internal";
  }
  for (auto const& [instance, live] : lives_) {
    status.instances.push_back(status_of(instance, *live));
    bool const is_its_own = live->revision == serving && !live->exited;
    if (is_its_own && (status.pid == 0 || status.instances.back().state == "template"))
      status.pid = live->instance->pid();
  }
  return status;
}

}  // namespace aether::functions
