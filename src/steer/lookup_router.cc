// SPDX-License-Identifier: Apache-2.0
#include "steer/lookup_router.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/fault.h"
#include "steer/bpf_steer.h"
#include "steer/lookup_table.h"
#include "steer/socket_address.h"
#include "steer/waiting_listener.h"

namespace aether::steer {
namespace {

/// A socket that takes part in a route.
struct Taking {
  std::uint64_t cookie = 0;
  std::uint64_t tag = 0;
  std::uint32_t slot = 0;
  std::uint32_t weight = 0;
  Families families;
};

/// The kernel's route of one family of an address. Sockets differ in what they take, so that each
/// family has shares of its own, and the weights hold for both.
struct FamilyRoute {
  std::uint32_t id = 0;
  aether_key key{};
  bool known = false;  ///< To the kernel.
};

Result<os::UniqueFd> open_network() {
  os::UniqueFd network(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!network) return fail(system_error("open", "/proc/thread-self/ns/net"));
  return network;
}

Result<std::uint64_t> own_network() {
  os::UniqueFd const probe(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!probe) return fail(system_error("socket"));
  return network_of(probe.get());
}

bool is_routable(Address const& address) {
  return address.transport == Transport::Tcp || address.transport == Transport::Udp;
}

}  // namespace

struct Route::State {
  std::shared_ptr<LookupRouter::State> router;
  RouteSpec spec;
  os::UniqueFd waiting;
  std::vector<FamilyRoute> families;
  std::optional<std::uint32_t> waiting_slot;
  std::uint32_t seed = 0;
  std::vector<Taking> taking;
  /// Of sockets that take part no more.
  std::map<std::uint64_t, std::uint64_t> given_before;

  State(std::shared_ptr<LookupRouter::State> router_state, RouteSpec route_spec)
      : router(std::move(router_state)), spec(std::move(route_spec)) {}
  State(State const&) = delete;
  State& operator=(State const&) = delete;
  ~State();

  Status begin();
  Status number_families();
  Status add_keys();
  /// The share's socket, in the kernel's map: the slot it has already, or one that is listed in
  /// `added`.
  Result<Taking> take_in(Share const& share, std::vector<std::uint32_t>& added);
  Status take_in_all(std::span<Share const> shares, std::vector<Taking>& all,
                     std::vector<std::uint32_t>& added);
  Status show(std::vector<Taking> const& all, Stick stick);
  [[nodiscard]] Result<aether_table> table_of(FamilyRoute const& family,
                                              std::vector<Taking> const& all, Stick stick) const;
  void retire(Taking const& old);
};

Route::State::~State() {
  for (auto const& family : families)
    if (family.known) (void)bpf_erase(router->programs.map("aether_keys"), &family.key);
  for (auto const& share : taking) router->remove_socket(share.slot);
  if (waiting_slot) router->remove_socket(*waiting_slot);
  for (auto const& family : families) router->routes.give_back(family.id);
}

Status Route::State::add_keys() {
  for (auto& family : families) {
    TRY(fault::pass(fault::Point::LookupKey));
    auto const written =
        bpf_write(router->programs.map("aether_keys"), &family.key, &family.id, BpfWrite::NewOnly);
    if (!written && written.error().errno_value() == EEXIST)
      return fail(ErrorCode::AddressInUse,
                  fmt::format("\"{}\" on {}: another service or function of this Aether has the "
                              "address",
                              spec.name, spec.address.text()));
    TRY(written);
    family.known = true;
  }
  return {};
}

Status Route::State::number_families() {
  for (auto const& key : keys_of(spec.address, spec.v6_only)) {
    auto const id = router->routes.take();
    if (!id)
      return fail(ErrorCode::LimitReached,
                  fmt::format("one Aether routes {} addresses, and no more", kRoutesMax));
    families.push_back({.id = *id, .key = key});
  }
  return {};
}

/// From a bound listener to a route under which everything waits.
Status Route::State::begin() {
  TRY(fault::pass(fault::Point::LookupClaim));
  TRY(check_serving(waiting.get(), spec.address.transport, router->network));
  TRY_ASSIGN(auto const local, local_address(waiting.get()));
  spec.address.port = local.port;
  TRY(number_families());
  TRY_ASSIGN(waiting_slot, router->add_socket(waiting.get()));
  if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed)) return fail(system_error("getrandom"));
  TRY(show({}, Stick::None));
  return add_keys();
}

Result<Taking> Route::State::take_in(Share const& share, std::vector<std::uint32_t>& added) {
  TRY(check_serving(share.fd, spec.address.transport, router->network));
  Taking now{.tag = share.tag, .weight = share.weight};
  TRY_ASSIGN(now.cookie, cookie_of(share.fd));
  now.families = families_of(share.fd);
  auto const known = std::ranges::find_if(
      taking, [&](Taking const& old) { return old.cookie == now.cookie && old.tag == now.tag; });
  if (known != taking.end()) {
    now.slot = known->slot;
    // Some kernels forget a listener that was shut down, and so one that listens again.
    if (!router->is_open(now.slot)) TRY(router->put_socket(now.slot, share.fd));
    return now;
  }
  TRY_ASSIGN(now.slot, router->add_socket(share.fd));
  added.push_back(now.slot);
  return now;
}

Status Route::State::take_in_all(std::span<Share const> shares, std::vector<Taking>& all,
                                 std::vector<std::uint32_t>& added) {
  for (auto const& share : shares) {
    TRY_ASSIGN(auto const taken, take_in(share, added));
    bool const twice = std::ranges::find(all, taken.cookie, &Taking::cookie) != all.end();
    if (twice)
      return fail(ErrorCode::RequestInvalid,
                  fmt::format("one socket is given twice for {}", spec.address.text()));
    all.push_back(taken);
  }
  return {};
}

Result<aether_table> Route::State::table_of(FamilyRoute const& family,
                                            std::vector<Taking> const& all, Stick stick) const {
  bool const ipv4 = family.key.family == AF_INET;
  std::vector<SlotShare> shares;
  for (auto const& share : all)
    if (ipv4 ? share.families.ipv4 : share.families.ipv6)
      shares.push_back({.slot = share.slot, .weight = share.weight});
  TRY_ASSIGN(auto table, make_table(shares, stick, seed, *waiting_slot));
  table.refuse = shares.empty() && !all.empty() ? 1 : 0;
  return table;
}

/// One store of 64 bits for each family, after all that it names was written: the cutover.
Status Route::State::show(std::vector<Taking> const& all, Stick stick) {
  std::vector<aether_table> tables;
  for (auto const& family : families) {
    TRY_ASSIGN(auto const table, table_of(family, all, stick));
    tables.push_back(table);
  }
  TRY(fault::pass(fault::Point::LookupFlip));
  for (std::size_t i = 0; i < families.size(); ++i) {
    auto& route = router->route(families[i].id);
    auto const next = (route.current + 1) % AETHER_TABLES;
    route.table[next] = tables[i];
    std::atomic_ref(route.current).store(next, std::memory_order_release);
  }
  return {};
}

void Route::State::retire(Taking const& old) {
  given_before[old.tag] += router->given(old.slot);
  router->remove_socket(old.slot);
}

Route::Route(std::unique_ptr<State> state) : state_(std::move(state)) {}
Route::Route(Route&&) noexcept = default;
Route& Route::operator=(Route&&) noexcept = default;
Route::~Route() = default;

Address Route::bound() const {
  return state_->spec.address;
}

int Route::waiting_fd() const {
  return state_->waiting.get();
}

Status Route::direct(std::span<Share const> shares, Stick stick) {
  std::vector<Taking> all;
  std::vector<std::uint32_t> added;
  Status done = state_->take_in_all(shares, all, added);
  if (done) done = state_->show(all, stick);
  if (!done) {
    for (auto const slot : added) state_->router->remove_socket(slot);
    return done;
  }
  std::swap(state_->taking, all);
  for (auto const& old : all) {
    bool const stays =
        std::ranges::find(state_->taking, old.slot, &Taking::slot) != state_->taking.end();
    if (!stays) state_->retire(old);
  }
  return {};
}

std::vector<ShareCount> Route::counts() const {
  std::map<std::uint64_t, ShareCount> by_tag;
  for (auto const& [tag, given] : state_->given_before) by_tag[tag].given = given;
  for (auto const& share : state_->taking) {
    by_tag[share.tag].given += state_->router->given(share.slot);
    by_tag[share.tag].open += state_->router->is_open(share.slot) ? 1 : 0;
  }
  std::vector<ShareCount> counts;
  for (auto& [tag, count] : by_tag) {
    count.tag = tag;
    counts.push_back(count);
  }
  return counts;
}

std::uint64_t Route::waited() const {
  return state_->router->given(*state_->waiting_slot);
}

bool Route::whole() const {
  return std::ranges::all_of(state_->taking, [&](Taking const& share) {
    return share.weight == 0 || state_->router->is_open(share.slot);
  });
}

Result<LookupRouter> LookupRouter::open() {
  TRY_ASSIGN(auto programs, BpfPrograms::load(BpfObject::Steer));
  TRY_ASSIGN(auto memory,
             BpfMemory::map(programs.map("aether_routes"), sizeof(aether_route) * AETHER_ROUTES));
  TRY_ASSIGN(auto const network, own_network());
  TRY_ASSIGN(auto const processors, bpf_processors());
  TRY_ASSIGN(auto const space, open_network());
  TRY(fault::pass(fault::Point::LookupAttach));
  auto link = bpf_link(programs.program("aether_lookup"), space.get(), BpfAttach::SkLookup);
  if (!link)
    return fail(
        bpf_error("the routing of connections could not be attached to the network "
                  "namespace",
                  link.error()));
  return LookupRouter(std::make_shared<State>(State{.programs = std::move(programs),
                                                    .memory = std::move(memory),
                                                    .link = *std::move(link),
                                                    .network = network,
                                                    .processors = processors}));
}

LookupRouter::LookupRouter(std::shared_ptr<State> state) : state_(std::move(state)) {}
LookupRouter::LookupRouter(LookupRouter&&) noexcept = default;
LookupRouter& LookupRouter::operator=(LookupRouter&&) noexcept = default;
LookupRouter::~LookupRouter() = default;

Result<Route> LookupRouter::claim(RouteSpec spec) {
  if (!is_routable(spec.address))
    return fail(
        ErrorCode::AddressInvalid,
        fmt::format("{} cannot be routed: only TCP and UDP addresses can", spec.address.text()));
  TRY_ASSIGN(auto waiting, open_waiting_listener(spec));
  return adopt(std::move(spec), std::move(waiting));
}

Result<Route> LookupRouter::adopt(RouteSpec spec, os::UniqueFd waiting) {
  auto state = std::make_unique<Route::State>(state_, std::move(spec));
  state->waiting = std::move(waiting);
  TRY(state->begin());
  return Route(std::move(state));
}

Result<std::size_t> LookupRouter::foreign_programs() const {
  TRY_ASSIGN(auto const space, open_network());
  TRY_ASSIGN(auto const ids, bpf_attached(space.get(), BpfAttach::SkLookup));
  return ids.size() - std::min<std::size_t>(ids.size(), 1);
}

}  // namespace aether::steer
