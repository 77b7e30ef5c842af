// SPDX-License-Identifier: Apache-2.0
#include "api/inspect_json.h"

#include <chrono>
#include <string>
#include <string_view>
#include <variant>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "api/json_text.h"
#include "os/child.h"

namespace aether::api {
namespace {

namespace json = boost::json;

template <class T>
json::value or_null(std::optional<T> const& value) {
  return value ? json::value(*value) : json::value(nullptr);
}

struct ReadyWords {
  std::string operator()(config::ReadyAuto const&) const {
    return "auto: READY=1, the SDK's hello, or waiting on its listeners, whichever is first";
  }
  std::string operator()(config::ReadyNotify const&) const {
    return "notify: READY=1, or the SDK's hello";
  }
  std::string operator()(config::ReadyListening const&) const {
    return "listening: a process of it waits on each listener";
  }
  std::string operator()(config::ReadyHttp const& http) const {
    return fmt::format("http: {}", http.url);
  }
  std::string operator()(config::ReadyTcp const& tcp) const {
    return fmt::format("tcp: {}", tcp.address);
  }
  std::string operator()(config::ReadyCommand const& command) const {
    return fmt::format("command: {}", fmt::join(command.command, " "));
  }
  std::string operator()(config::ReadyDelay const& delay) const {
    return fmt::format("delay: it still runs after {}", format_duration(delay.delay));
  }
  std::string operator()(config::ReadyFd const& fd) const {
    return fmt::format("fd: a newline on descriptor {}", fd.fd);
  }
  std::string operator()(config::ReadyLog const& log) const {
    return fmt::format("log: a line with {}", log.pattern);
  }
};

std::string_view restart_name(config::RestartPolicy policy) {
  switch (policy) {
    case config::RestartPolicy::Always:
      return "always";
    case config::RestartPolicy::OnFailure:
      return "on-failure";
    case config::RestartPolicy::Never:
      break;
  }
  return "never";
}

std::string_view drain_stop_name(config::DrainStop stop) {
  switch (stop) {
    case config::DrainStop::WhenIdle:
      return "when_idle";
    case config::DrainStop::AtDeadline:
      return "at_deadline";
    case config::DrainStop::AfterQueue:
      break;
  }
  return "after_queue";
}

std::string_view notify_access_name(config::NotifyAccess access) {
  switch (access) {
    case config::NotifyAccess::Main:
      return "main";
    case config::NotifyAccess::None:
      return "none";
    case config::NotifyAccess::All:
      break;
  }
  return "all";
}

}  // namespace

std::string ready_text(config::Ready const& ready) {
  return std::visit(ReadyWords{}, ready);
}

json::object configuration_json(config::Service const& service) {
  json::array environment;
  for (auto const& [name, value] : service.env) environment.emplace_back(name);
  config::Orchestration const& swap = service.orchestration;
  return {{"environment", std::move(environment)},
          {"workdir", or_null(service.workdir)},
          {"user", or_null(service.user)},
          {"ready", ready_text(service.ready)},
          {"ready_timeout_ms", milliseconds_of(service.ready_timeout)},
          {"stop_signal", os::signal_name(service.stop_signal)},
          {"stop_timeout_ms", milliseconds_of(service.stop_timeout)},
          {"restart", restart_name(service.restart.policy)},
          {"notify_access", notify_access_name(service.notify_access)},
          {"fd_store", service.fd_store},
          {"pid_file", or_null(service.pid_file)},
          {"soak_time_ms", milliseconds_of(swap.soak_time)},
          {"drain_timeout_ms", milliseconds_of(swap.drain.timeout)},
          {"drain_stop", drain_stop_name(swap.drain.stop)},
          {"max_revisions", swap.max_revisions},
          {"state_handoff", swap.state_handoff.enabled}};
}

}  // namespace aether::api
