// SPDX-License-Identifier: Apache-2.0
#include "supervise/environment.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace aether::supervise {
namespace {

/// What an outer manager (systemd, another supervisor, another Aether) said to us, and to us only.
bool is_ours_alone(std::string_view name) {
  static constexpr std::array<std::string_view, 18> kNames = {"NOTIFY_SOCKET",
                                                              "MAINPID",
                                                              "FDSTORE",
                                                              "INVOCATION_ID",
                                                              "JOURNAL_STREAM",
                                                              "NGINX",
                                                              "GUNICORN_FD",
                                                              "GUNICORN_PID",
                                                              "UNICORN_FD",
                                                              "MANAGERPID",
                                                              "SYSTEMD_EXEC_PID",
                                                              "SERVICE_RESULT",
                                                              "EXIT_CODE",
                                                              "EXIT_STATUS",
                                                              "UPSTART_FDS",
                                                              "HAPROXY_PROCESSES",
                                                              "HAPROXY_MWORKER_REEXEC",
                                                              "TABLEFLIP_HAS_PARENT_7DIU3"};
  static constexpr std::array<std::string_view, 7> kPrefixes = {
      "LISTEN_",       "WATCHDOG_", "EINHORN_", "SERVER_STARTER_",
      "PUMA_INHERIT_", "AETERNA_",  "AETHER_"};
  if (std::ranges::find(kNames, name) != kNames.end()) return true;
  return std::ranges::any_of(kPrefixes, [&](auto prefix) { return name.starts_with(prefix); });
}

/// Variables in order of their first appearance; a later value takes the place of an earlier one.
class Variables {
 public:
  void set(std::string_view name, std::string_view value) {
    std::string entry = fmt::format("{}={}", name, value);
    for (std::string& known : entries_) {
      if (!known.starts_with(name) || known[name.size()] != '=') continue;
      known = std::move(entry);
      return;
    }
    entries_.push_back(std::move(entry));
  }
  void set(config::Variables const& variables) {
    for (auto const& [name, value] : variables) set(name, value);
  }
  [[nodiscard]] std::vector<std::string> take() && { return std::move(entries_); }

 private:
  std::vector<std::string> entries_;
};

/// systemd allows neither ':' nor control characters in a name, and 255 bytes at most.
std::string listen_name(std::string_view name) {
  std::string clean;
  for (char c : name.substr(0, 255)) clean += c > 0x20 && c < 0x7F && c != ':' ? c : '_';
  return clean.empty() ? "unknown" : clean;
}

/// Server::Starter's name of a port: "127.0.0.1:8080", "8080", "/run/x.sock".
std::string starter_name(Address const& address) {
  if (address.is_unix()) return address.abstract_name ? "@" + address.path : address.path;
  if (address.host.empty()) return fmt::format("{}", address.port);
  if (address.is_ipv6()) return fmt::format("[{}]:{}", address.host, address.port);
  return fmt::format("{}:{}", address.host, address.port);
}

template <class Describe>
std::string join_listeners(std::span<PassedListener const> listeners, std::string_view separator,
                           Describe describe) {
  std::vector<std::string> parts;
  int fd = kFirstListenerFd;
  for (PassedListener const& listener : listeners) parts.push_back(describe(listener, fd++));
  return fmt::format("{}", fmt::join(parts, separator));
}

/// systemd's socket activation and descriptor store: listeners first, then what was stored.
void set_passed_fds(Variables& variables, ChildEnvironment const& child) {
  if (child.fd_store_max > 0) variables.set("FDSTORE", fmt::format("{}", child.fd_store_max));
  std::vector<std::string> names;
  for (PassedListener const& listener : child.listeners)
    names.push_back(listen_name(listener.name));
  for (std::string const& name : child.stored_names) names.push_back(name);
  if (names.empty()) return;
  variables.set("LISTEN_FDS", fmt::format("{}", names.size()));
  variables.set("LISTEN_FDNAMES", fmt::format("{}", fmt::join(names, ":")));
}

/// The same listeners, told as other socket masters tell them.
void set_other_conventions(Variables& variables, ChildEnvironment const& child) {
  if (child.listeners.empty()) return;
  variables.set("SERVER_STARTER_PORT",
                join_listeners(child.listeners, ";", [](auto const& listener, int fd) {
                  return fmt::format("{}={}", starter_name(listener.address), fd);
                }));
  variables.set("SERVER_STARTER_GENERATION", fmt::format("{}", child.revision));
  variables.set("EINHORN_FD_COUNT", fmt::format("{}", child.listeners.size()));
  for (std::size_t i = 0; i < child.listeners.size(); ++i) {
    variables.set(fmt::format("EINHORN_FD_{}", i), fmt::format("{}", kFirstListenerFd + i));
  }
  if (std::ranges::find(child.compat, config::Compat::Nginx) == child.compat.end()) return;
  variables.set("NGINX", join_listeners(child.listeners, "", [](auto const&, int fd) {
                  return fmt::format("{};", fd);
                }));
}

Variables basic_environment(std::span<std::string const> own, ChildEnvironment const& child) {
  Variables variables;
  for (std::string const& entry : own) {
    std::size_t const equals = entry.find('=');
    if (equals == std::string::npos || equals == 0) continue;
    std::string_view const name = std::string_view(entry).substr(0, equals);
    if (!is_ours_alone(name)) variables.set(name, std::string_view(entry).substr(equals + 1));
  }
  variables.set(child.user_defaults);
  variables.set(child.configured);
  variables.set("AETERNA_MANAGED", "1");
  variables.set("AETHER_SERVICE", child.service);
  variables.set("AETHER_REVISION", fmt::format("{}", child.revision));
  return variables;
}

}  // namespace

std::vector<std::string> build_environment(std::span<std::string const> own,
                                           ChildEnvironment const& child) {
  Variables variables = basic_environment(own, child);
  variables.set("AETHER_INSTANCE_ID", fmt::format("{}", child.instance));
  if (!child.invocation_id.empty()) variables.set("INVOCATION_ID", child.invocation_id);
  variables.set("AETERNA_INHERITED_FDS", fmt::format("{}", child.listeners.size()));
  set_passed_fds(variables, child);
  if (!child.state_socket.empty()) variables.set("AETERNA_STATE_SOCK", child.state_socket);
  if (!child.notify_socket.empty()) variables.set("NOTIFY_SOCKET", child.notify_socket);
  if (child.work_fd >= 0) variables.set("AETHER_WORK_FD", fmt::format("{}", child.work_fd));
  if (child.watchdog) {
    auto const interval = std::chrono::duration_cast<std::chrono::microseconds>(*child.watchdog);
    variables.set("WATCHDOG_USEC", fmt::format("{}", interval.count()));
  }
  set_other_conventions(variables, child);
  return std::move(variables).take();
}

std::vector<std::string> build_hook_environment(std::span<std::string const> own,
                                                ChildEnvironment const& child) {
  Variables variables = basic_environment(own, child);
  return std::move(variables).take();
}

std::vector<std::string> hook_facts(pid_t main_pid, std::optional<EndFacts> const& end) {
  std::vector<std::string> facts;
  if (main_pid > 0) facts.push_back(fmt::format("MAINPID={}", main_pid));
  if (!end) return facts;
  facts.push_back(fmt::format("SERVICE_RESULT={}", end->result));
  if (!end->status) return facts;
  os::ExitStatus const& status = *end->status;
  bool const exited = status.signal == 0;
  std::string_view const how = exited ? "exited" : status.core_dumped ? "dumped" : "killed";
  facts.push_back(fmt::format("EXIT_CODE={}", how));
  // systemd writes signals without their SIG.
  std::string const signal = exited ? std::string() : os::signal_name(status.signal);
  facts.push_back(exited ? fmt::format("EXIT_STATUS={}", status.code)
                         : fmt::format("EXIT_STATUS={}",
                                       signal.starts_with("SIG") ? signal.substr(3) : signal));
  return facts;
}

namespace {

/// Replaces each OPEN NAME CLOSE in an argument by the number of the listener NAME.
Status substitute(std::string& argument, std::span<PassedListener const> listeners,
                  std::string_view open, char close) {
  std::string const original = argument;
  for (std::size_t at = argument.find(open); at != std::string::npos;
       at = argument.find(open, at)) {
    std::size_t const end = argument.find(close, at);
    if (end == std::string::npos) break;
    std::string const name = argument.substr(at + open.size(), end - at - open.size());
    auto const found = std::ranges::find(listeners, name, &PassedListener::name);
    if (found == listeners.end()) {
      std::string const known =
          join_listeners(listeners, ", ", [](auto const& listener, int) { return listener.name; });
      return fail(ErrorCode::ConfigInvalid,
                  fmt::format("the argument \"{}\" asks for a listener named \"{}\", which this "
                              "service does not have; its listeners are: {}",
                              original, name, known.empty() ? "none" : known));
    }
    std::string const number =
        fmt::format("{}", kFirstListenerFd + std::distance(listeners.begin(), found));
    argument.replace(at, end - at + 1, number);
  }
  return {};
}

}  // namespace

Result<std::vector<std::string>> substitute_fds(std::span<std::string const> command,
                                                std::span<PassedListener const> listeners) {
  std::vector<std::string> arguments(command.begin(), command.end());
  for (std::string& argument : arguments) {
    TRY(substitute(argument, listeners, "{fd:", '}'));
    TRY(substitute(argument, listeners, "$(circus.sockets.", ')'));
  }
  return arguments;
}

std::vector<std::string> own_environment() {
  std::vector<std::string> entries;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry)
    entries.emplace_back(*entry);
  return entries;
}

}  // namespace aether::supervise
