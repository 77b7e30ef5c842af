// SPDX-License-Identifier: Apache-2.0
#include "supervise/probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <fmt/format.h>

#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/address.h"
#include "http/client.h"
#include "os/unique_fd.h"
#include "os/unix_socket.h"
#include "supervise/hook.h"

namespace aether::supervise {
namespace {

struct SocketName {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

Result<SocketName> socket_name(Address const& address) {
  SocketName name;
  std::string const host = address.host.empty() ? "127.0.0.1" : address.host;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&name.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&name.storage);
  if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(address.port);
    name.size = sizeof(sockaddr_in);
  } else if (::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(address.port);
    name.size = sizeof(sockaddr_in6);
  } else {
    return fail(ErrorCode::AddressInvalid, fmt::format("\"{}\" is not an IP address", host));
  }
  return name;
}

ProbeResult verdict(bool healthy, std::string reason) {
  return {.healthy = healthy, .reason = std::move(reason)};
}

using Introduce = std::function<void(std::uint16_t source_port)>;

/// Takes an introduction back at the question's end, however it ends.
struct Farewell {
  Introduce tell;
  explicit Farewell(Introduce introduced) : tell(std::move(introduced)) {}
  Farewell(Farewell const&) = delete;
  Farewell& operator=(Farewell const&) = delete;
  ~Farewell() {
    if (tell) tell(0);
  }
};

/// Binds the socket to a port of the kernel's choice and tells which.
void introduce(Introduce const& tell, int socket) {
  int family = AF_INET;
  socklen_t size = sizeof(family);
  ::getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &family, &size);
  SocketName name{.size = sizeof(sockaddr_storage)};
  name.storage.ss_family = static_cast<sa_family_t>(family);
  auto* const address = reinterpret_cast<sockaddr*>(&name.storage);
  socklen_t const length = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  if (::bind(socket, address, length) != 0 || ::getsockname(socket, address, &name.size) != 0)
    return;
  // Both kinds have their port at the same place.
  tell(ntohs(reinterpret_cast<sockaddr_in*>(address)->sin_port));
}

async::Task<ProbeResult> probe_tcp(config::ProbeTcp what, Duration timeout, Introduce tell) {
  Address const address = or_throw(parse_address(what.address));
  std::string const target = address.text();
  if (address.is_unix()) {
    std::string const path = (address.abstract_name ? "@" : "") + address.path;
    auto const connected = os::connect_unix(path);
    if (connected) co_return verdict(true, fmt::format("{} accepted a connection", target));
    co_return verdict(false, connected.error().describe());
  }
  SocketName const name = or_throw(socket_name(address));
  os::UniqueFd const socket(
      ::socket(name.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) co_return verdict(false, system_error("socket").describe());
  if (tell) introduce(tell, socket.get());
  int reason = 0;
  if (::connect(socket.get(), reinterpret_cast<sockaddr const*>(&name.storage), name.size) != 0)
    reason = errno;
  if (reason == EINPROGRESS) {
    int const fd = socket.get();
    bool const done = co_await async::writable_for(fd, timeout);
    if (!done)
      co_return verdict(
          false, fmt::format("{} took no connection within {}", target, format_duration(timeout)));
    socklen_t size = sizeof(reason);
    ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &reason, &size);
  }
  if (reason == 0) co_return verdict(true, fmt::format("{} accepted a connection", target));
  co_return verdict(false, fmt::format("connecting to {}: {}", target, ::strerror(reason)));
}

/// The address with the port that the program itself listens on.
std::string own_address(std::string const& text, decltype(ProbeSpec::own_port) const& own_port) {
  auto address = parse_address(text);
  if (!address || address->is_unix()) return text;
  address->port = own_port(address->host, address->port).value_or(address->port);
  return address->text();
}

async::Task<ProbeResult> probe_http(config::ProbeHttp what, ProbeSpec spec) {
  std::string const address = config::probe_url(what.url, spec.port);
  http::Url const url = or_throw(http::parse_url(address));
  http::Request request;
  request.target = url.target;
  request.headers.set("User-Agent", "aether-probe");
  http::Endpoint endpoint = http::Endpoint::of(url);
  if (spec.own_port) endpoint.port = spec.own_port(url.host, url.port).value_or(url.port);
  if (spec.introduce)
    endpoint.before_connect = [tell = spec.introduce](int socket) { introduce(tell, socket); };
  http::Response const response =
      co_await http::fetch(std::move(endpoint), std::move(request), spec.timeout);
  bool const good = response.status >= 200 && response.status < 400;
  co_return verdict(good, fmt::format("GET {} answered {}", address, response.status));
}

async::Task<ProbeResult> probe_command(Clock const& clock, config::ProbeCommand what,
                                       ProbeSpec spec) {
  HookSpec hook{.name = "probe",
                .command = what.command,
                .timeout = spec.timeout,
                .environment = std::move(spec.environment),
                .workdir = std::move(spec.workdir),
                .user = std::move(spec.user),
                .known = spec.known};
  HookResult const result = co_await run_hook(clock, std::move(hook));
  if (result.succeeded()) co_return verdict(true, "the command ended with code 0");
  co_return verdict(false, hook_status("probe", result).error().message());
}

async::Task<ProbeResult> ask(Clock const& clock, ProbeSpec spec) {
  if (auto const* http = std::get_if<config::ProbeHttp>(&spec.what)) {
    config::ProbeHttp what = *http;
    co_return co_await probe_http(std::move(what), std::move(spec));
  }
  if (auto const* tcp = std::get_if<config::ProbeTcp>(&spec.what)) {
    config::ProbeTcp what = *tcp;
    if (spec.own_port) what.address = own_address(what.address, spec.own_port);
    co_return co_await probe_tcp(std::move(what), spec.timeout, std::move(spec.introduce));
  }
  config::ProbeCommand what = std::get<config::ProbeCommand>(spec.what);
  co_return co_await probe_command(clock, std::move(what), std::move(spec));
}

}  // namespace

async::Task<ProbeResult> probe(Clock const& clock, ProbeSpec spec) {
  Instant const began = clock.now();
  ProbeResult result;
  Farewell const farewell(spec.introduce);
  try {
    result = co_await ask(clock, std::move(spec));
  } catch (Error const& error) {
    result = verdict(false, error.message());
  }
  result.took = clock.now() - began;
  co_return result;
}

}  // namespace aether::supervise
