// SPDX-License-Identifier: Apache-2.0
// up, start, down, validate.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/json_text.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/control_client.h"
#include "cli/up_text.h"
#include "config/loader.h"
#include "daemon/daemon.h"
#include "daemon/release.h"
#include "os/child.h"
#include "os/signals.h"
#include "os/turned_clock.h"
#include "os/unique_fd.h"

namespace aether::cli {
namespace {

namespace json = boost::json;

/// The first byte on the pipe from a background Aether to the command that started it.
constexpr char kServes = '+';
constexpr char kRefused = '-';  ///< Then one byte, the error's code, and its message.

Result<config::Config> load_for_up(Globals const& globals) {
  TRY_ASSIGN(config::Config config, config::load(globals.config_file()));
  if (!globals.verbose) log::set_level(config.observability.log_level);
  for (config::Warning const& warning : config.warnings) {
    log::warn("{}:{}:{}: {}", config.path, warning.line, warning.column, warning.message);
  }
  return config;
}

/// What is left of a configuration for one who only works on jobs.
Status keep_jobs_alone(config::Config& config) {
  bool const has_services =
      std::ranges::any_of(config.services, [](auto const& one) { return !one.is_worker; });
  if (has_services || !config.functions.empty()) {
    return fail(ErrorCode::UsageInvalid,
                fmt::format("{} also names services or functions, and a worker runs jobs alone: "
                            "start all of it with `aether up`",
                            config.path));
  }
  config.api.port.reset();
  return {};
}

Result<int> run_foreground(config::Config config) {
  std::unique_ptr<Clock> const clock = os::clock_of_environment();
  fmt::print("{}", starting_text(config));
  std::fflush(stdout);
  daemon::DaemonOptions options{.version = std::string(version()), .echo_fd = STDOUT_FILENO};
  options.started = started_text;
  daemon::Daemon daemon(std::move(config), std::move(options), *clock);
  TRY(daemon.prepare());
  return daemon.run();
}

/// The rest of a background Aether's life. `told` is the pipe to whoever started it.
int run_background(config::Config config, os::UniqueFd told) {
  std::unique_ptr<Clock> const clock = os::clock_of_environment();
  auto const tell = [&told](std::string const& text) {
    if (told) (void)!::write(told.get(), text.data(), text.size());
    told.reset();
  };
  daemon::DaemonOptions options{.version = std::string(version())};
  options.started = [&tell](api::ControlPlane const&) {
    tell(std::string(1, kServes));
    return std::string();
  };
  daemon::Daemon daemon(std::move(config), std::move(options), *clock);
  if (auto prepared = daemon.prepare(); !prepared) {
    auto const code = static_cast<char>(prepared.error().code());
    tell(std::string{kRefused, code} + prepared.error().message());
    return kFailed;
  }
  return daemon.run();
}

/// stdin from /dev/null, stdout and stderr to the log file, a session of its own.
Status leave_terminal(std::string const& log_file) {
  ::setsid();
  os::UniqueFd const nothing(::open("/dev/null", O_RDWR | O_CLOEXEC));
  os::UniqueFd const log(::open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!nothing || !log) return fail(system_error("open", log_file));
  if (::dup2(nothing.get(), 0) < 0 || ::dup2(log.get(), 1) < 0 || ::dup2(log.get(), 2) < 0) {
    return fail(system_error("dup2"));
  }
  return {};
}

/// Fails, with the services still being tried, if one of them, or a function, did not start.
Result<int> everything_runs(Globals const& globals) {
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  TRY_ASSIGN(json::value const answer, client.call("GET", "/v1/services"));
  for (json::value const& service : answer.at("services").as_array()) {
    if (!service.at("pid").is_null()) continue;
    return fail(ErrorCode::ExitedEarly,
                fmt::format("{} did not start; Aether runs and goes on trying (aether down stops "
                            "it, aether logs {} shows what it wrote)",
                            service.at("name").as_string().c_str(),
                            service.at("name").as_string().c_str()));
  }
  TRY_ASSIGN(json::value const functions, client.call("GET", "/v1/functions"));
  for (json::value const& function : functions.at("functions").as_array()) {
    if (function.at("state").as_string() == "RUNNING") continue;
    return fail(
        ErrorCode::ExitedEarly,
        fmt::format("{} did not start; Aether runs on without it (aether logs {} shows what "
                    "it wrote, aether deploy FILE tries again)",
                    function.at("id").as_string().c_str(), function.at("id").as_string().c_str()));
  }
  return kDone;
}

Result<int> start_background(Globals const& globals, config::Config config) {
  daemon::RuntimeNames const names = daemon::runtime_names(config.path);
  TRY(daemon::make_private_folder(names.folder));
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail(system_error("pipe2"));
  os::UniqueFd reading(ends[0]);
  os::UniqueFd writing(ends[1]);
  // Nothing runs in this process but this thread, so that a plain fork is safe.
  pid_t const child = ::fork();
  if (child < 0) return fail(system_error("fork"));
  if (child == 0) {
    reading.reset();
    if (auto left = leave_terminal(names.log_file); !left) ::_exit(kFailed);
    std::exit(run_background(std::move(config), std::move(writing)));
  }
  writing.reset();
  TRY(os::unblock_all());
  std::string told;
  std::array<char, 4096> buffer{};
  ssize_t got = 0;
  while ((got = ::read(reading.get(), buffer.data(), buffer.size())) > 0) {
    told.append(buffer.data(), static_cast<std::size_t>(got));
  }
  if (told.starts_with(kServes)) {
    if (globals.output == Output::Text) {
      fmt::print("Aether runs in the background (PID: {}); log: {}\n", child, names.log_file);
    }
    TRY(status(globals, {}));
    return everything_runs(globals);
  }
  if (told.starts_with(kRefused) && told.size() >= 2) {
    return fail(static_cast<ErrorCode>(told[1]), told.substr(2));
  }
  return fail(ErrorCode::ExitedEarly,
              fmt::format("it ended before it served; its log is {}", names.log_file));
}

}  // namespace

Result<int> up(Globals const& globals, UpOptions const& options) {
  if (globals.url) {
    return fail(ErrorCode::UsageInvalid,
                "up starts an Aether on this machine; --url and AETHER_URL are for asking one that "
                "runs elsewhere");
  }
  TRY(os::block_all_early());
  TRY_ASSIGN(config::Config config, load_for_up(globals));
  if (options.jobs_alone) TRY(keep_jobs_alone(config));
  if (options.foreground) return run_foreground(std::move(config));
  return start_background(globals, std::move(config));
}

namespace {

/// Its control socket is closed: what is left to do takes milliseconds.
constexpr Duration kLastSteps = std::chrono::seconds(10);
constexpr Duration kLook = std::chrono::milliseconds(50);

bool has_ended(int pidfd, Duration within) {
  pollfd ended{.fd = pidfd, .events = POLLIN, .revents = 0};
  auto const limit = std::chrono::duration_cast<std::chrono::milliseconds>(within);
  return ::poll(&ended, 1, static_cast<int>(limit.count())) > 0;
}

}  // namespace

Result<int> down(Globals const& globals) {
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  TRY_ASSIGN(json::value const before, client.call("GET", "/v1/status"));
  auto const process =
      client.is_remote()
          ? Result<os::Child>(fail(ErrorCode::Unreachable, "its process is on another machine"))
          : os::Child::adopt(static_cast<pid_t>(before.at("pid").as_int64()));
  TRY_ASSIGN(json::value const stopping, client.call("POST", "/v1/stop"));
  // It ends in its own time: each service has its stop_timeout.
  for (;;) {
    auto const answer = client.call("GET", "/health");
    if (!answer && answer.error().code() == ErrorCode::Unreachable) break;
    // Its successor may answer at the same socket already.
    if (process && has_ended(process->pidfd(), Duration::zero())) break;
    std::this_thread::sleep_for(kLook);
  }
  if (process) (void)has_ended(process->pidfd(), kLastSteps);
  if (globals.output == Output::Json) {
    fmt::print("{}\n", api::json_text(json::object{{"stopped", before.at("pid")}}));
  } else {
    fmt::print("Aether (PID: {}) has stopped\n", before.at("pid").as_int64());
  }
  return kDone;
}

Result<int> validate(Globals const& globals, std::string const& file) {
  TRY_ASSIGN(config::Config const config,
             config::load(file.empty() ? globals.config_file() : file));
  TRY(daemon::check_kernel(config));
  if (globals.output == Output::Json) {
    json::array warnings;
    for (config::Warning const& warning : config.warnings) {
      warnings.push_back(json::object{
          {"line", warning.line}, {"column", warning.column}, {"message", warning.message}});
    }
    fmt::print("{}\n", api::json_text(json::object{{"valid", true},
                                                   {"services", config.services.size()},
                                                   {"functions", config.functions.size()},
                                                   {"jobs", config.jobs.enabled},
                                                   {"warnings", std::move(warnings)}}));
    return kDone;
  }
  fmt::print("{}", config::validation_summary(config));
  for (config::Warning const& warning : config.warnings) {
    fmt::print("warning: {}:{}:{}: {}\n", config.path, warning.line, warning.column,
               warning.message);
  }
  return kDone;
}

}  // namespace aether::cli
