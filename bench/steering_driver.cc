// SPDX-License-Identifier: Apache-2.0
// steering-driver ROUNDS CONNECTIONS CUTOVERS: what the kernel's own routing costs, as JSON for
// bench/steering.py. Network namespaces of its own: nothing else is attached, nothing else is on.
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "steer/lookup_router.h"
#include "steer/socket_address.h"

namespace aether::steer {
namespace {

using Clock = std::chrono::steady_clock;

double microseconds(Clock::duration took) {
  return std::chrono::duration<double, std::micro>(took).count();
}

[[noreturn]] void give_up(std::string_view why) {
  fmt::print(stderr, "steering-driver: {}\n", why);
  std::exit(1);
}

os::UniqueFd this_network() {
  return os::UniqueFd(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
}

void enter(os::UniqueFd const& network) {
  if (setns(network.get(), CLONE_NEWNET) != 0) give_up("setns failed");
}

os::UniqueFd make_network() {
  if (unshare(CLONE_NEWNET) != 0) give_up("a network namespace needs CAP_SYS_ADMIN");
  os::UniqueFd const any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::string_view("lo").copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_flags = IFF_UP;
  if (ioctl(any.get(), SIOCSIFFLAGS, &request) != 0) give_up("lo cannot be used");
  return this_network();
}

sockaddr_in local(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

os::UniqueFd listen_on(std::uint16_t port) {
  os::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  auto const address = local(port);
  if (bind(fd.get(), reinterpret_cast<sockaddr const*>(&address), sizeof(address)) != 0 ||
      listen(fd.get(), 4096) != 0)
    give_up("a listener could not be opened");
  return fd;
}

/// One connection: opened, accepted, reset (so that no port is used up by TIME_WAIT).
void connect_once(std::uint16_t port, int listener) {
  auto const address = local(port);
  os::UniqueFd const client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  linger const reset{.l_onoff = 1, .l_linger = 0};
  setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  if (connect(client.get(), reinterpret_cast<sockaddr const*>(&address), sizeof(address)) != 0)
    give_up("a connection failed");
  os::UniqueFd const accepted(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  if (!accepted) give_up("a connection went astray");
}

double connect_many(std::uint16_t port, int listener, int connections) {
  auto const begin = Clock::now();
  for (int i = 0; i < connections; ++i) connect_once(port, listener);
  return microseconds(Clock::now() - begin) / connections;
}

Route claim(LookupRouter& router, std::string_view text) {
  auto route = router.claim({.name = "bench", .address = parse_address(text).value()});
  if (!route) give_up(route.error().message());
  return *std::move(route);
}

void direct(Route& route, std::vector<Share> const& shares) {
  if (Status const done = route.direct(shares); !done) give_up(done.error().message());
}

/// Of each cutover: how long the call took. A connection after each shows that it was one.
std::vector<double> measure_cutovers(Route& route, int count) {
  std::array const revisions{listen_on(0), listen_on(0)};
  std::vector<double> took;
  for (int i = 0; i < count; ++i) {
    auto const serving = static_cast<std::size_t>(i) % 2;
    std::vector<Share> const shares{
        {.fd = revisions[serving].get(), .weight = 1, .tag = serving},
        {.fd = revisions[1 - serving].get(), .weight = 0, .tag = 1 - serving}};
    auto const begin = Clock::now();
    direct(route, shares);
    took.push_back(microseconds(Clock::now() - begin));
    connect_once(route.bound().port, revisions[serving].get());
  }
  return took;
}

/// The same, but each time a socket comes in that the route did not have.
std::vector<double> measure_new_sockets(Route& route, int count) {
  std::vector<double> took;
  os::UniqueFd before;
  for (int i = 0; i < count; ++i) {
    auto fresh = listen_on(0);
    auto const begin = Clock::now();
    direct(route, {{.fd = fresh.get(), .tag = 7}});
    took.push_back(microseconds(Clock::now() - begin));
    connect_once(route.bound().port, fresh.get());
    before = std::move(fresh);
  }
  return took;
}

struct Costs {
  std::vector<double> none;       ///< No sk_lookup program in the namespace.
  std::vector<double> bystander;  ///< One, but the port is not its.
  std::vector<double> routed;     ///< Routed to one socket.
  std::vector<double> shared;     ///< Routed to 64 sockets, of which the last has the weight.
};

int main_of(int rounds, int connections, int cutovers) {
  auto const plain = make_network();
  auto const plain_listener = listen_on(8080);
  auto const routing = make_network();
  auto const own_listener = listen_on(9090);
  auto router = LookupRouter::open();
  if (!router) give_up(router.error().message());
  auto route = claim(*router, "127.0.0.1:8080");
  auto wide = claim(*router, "127.0.0.1:8081");
  auto const server = listen_on(0);
  direct(route, {{.fd = server.get()}});
  std::vector<os::UniqueFd> crowd;
  std::vector<Share> shares;
  for (std::size_t i = 0; i < kRouteSharesMax; ++i) {
    crowd.push_back(listen_on(0));
    bool const last = i + 1 == kRouteSharesMax;
    shares.push_back({.fd = crowd.back().get(), .weight = last ? 1'000'000'000U : 1U});
  }
  // Weights of 1 in a thousand million: the draw looks at all 64, and the last one gets it.
  direct(wide, shares);
  Costs costs;
  for (int round = -1; round < rounds; ++round) {
    enter(plain);
    double const none = connect_many(8080, plain_listener.get(), connections);
    enter(routing);
    double const bystander = connect_many(9090, own_listener.get(), connections);
    double const routed = connect_many(8080, server.get(), connections);
    double const shared = connect_many(8081, crowd.back().get(), connections);
    if (round < 0) continue;  // Caches are warm from here on.
    costs.none.push_back(none);
    costs.bystander.push_back(bystander);
    costs.routed.push_back(routed);
    costs.shared.push_back(shared);
  }
  auto const known = measure_cutovers(route, cutovers);
  auto const fresh = measure_new_sockets(route, cutovers);
  fmt::print(
      "{{\"none_us\":[{:.3f}],\"bystander_us\":[{:.3f}],\"routed_us\":[{:.3f}],"
      "\"shared_us\":[{:.3f}],\"cutover_us\":[{:.3f}],\"new_socket_us\":[{:.3f}]}}\n",
      fmt::join(costs.none, ","), fmt::join(costs.bystander, ","), fmt::join(costs.routed, ","),
      fmt::join(costs.shared, ","), fmt::join(known, ","), fmt::join(fresh, ","));
  return 0;
}

}  // namespace
}  // namespace aether::steer

int main(int count, char** arguments) {
  if (count != 4) aether::steer::give_up("ROUNDS CONNECTIONS CUTOVERS are needed");
  return aether::steer::main_of(std::atoi(arguments[1]), std::atoi(arguments[2]),
                                std::atoi(arguments[3]));
}
