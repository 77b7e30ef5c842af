// SPDX-License-Identifier: Apache-2.0
#include "steer/xdp_counters.h"

#include <linux/if_link.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "base/fault.h"
#include "steer/bpf_kernel.h"
#include "steer/bpf_xdp_maps.h"

namespace aether::steer {
namespace {

constexpr std::uint64_t kNanosecondsPerSecond = 1'000'000'000;

using Watched = std::pair<std::uint16_t, Transport>;  ///< In the order of read().

aether_xdp_port key_of(Transport transport, std::uint16_t port) {
  return {.protocol = transport == Transport::Udp ? __u8{IPPROTO_UDP} : __u8{IPPROTO_TCP},
          .pad = 0,
          .port = port};
}

struct Attempt {
  XdpMode mode;
  std::uint32_t flags;
  char const* name;
};
constexpr std::array kAttempts = {
    Attempt{XdpMode::Native, XDP_FLAGS_DRV_MODE, "native"},
    Attempt{XdpMode::Generic, XDP_FLAGS_SKB_MODE, "generic"},
    Attempt{XdpMode::Offload, XDP_FLAGS_HW_MODE, "offload"},
};

bool is_tried(XdpMode asked, XdpMode mode) {
  return asked == mode || (asked == XdpMode::Auto && mode != XdpMode::Offload);
}

Error attach_error(std::string const& interface, Attempt const& attempt, Error const& cause) {
  auto const tried =
      fmt::format("packets on {} could not be counted ({} mode)", interface, attempt.name);
  if (cause.errno_value() == EOPNOTSUPP)
    return {ErrorCode::BpfUnavailable,
            fmt::format("{}: the interface's driver has no such mode; mode: generic works on every "
                        "interface",
                        tried),
            EOPNOTSUPP};
  return bpf_error(tried, cause, BpfObject::XdpPorts);
}

}  // namespace

struct XdpCounters::State {
  std::string interface;
  XdpMode mode = XdpMode::Auto;
  BpfPrograms programs;
  os::UniqueFd link;
  std::size_t processors = 1;
  std::map<Watched, std::string> watched;

  Status attach(int index, XdpMode asked);
  [[nodiscard]] Result<XdpCount> count(Watched const& watched_port, std::string const& name) const;
};

Status XdpCounters::State::attach(int index, XdpMode asked) {
  Status attached;
  for (auto const& attempt : kAttempts) {
    if (!is_tried(asked, attempt.mode)) continue;
    TRY(fault::pass(fault::Point::XdpAttach));
    auto made = bpf_link(programs.program("aether_xdp"), index, BpfAttach::Xdp, attempt.flags);
    if (made) {
      link = *std::move(made);
      mode = attempt.mode;
      return {};
    }
    attached = fail(attach_error(interface, attempt, made.error()));
  }
  return attached;
}

Result<XdpCount> XdpCounters::State::count(Watched const& watched_port,
                                           std::string const& name) const {
  auto const& [port, transport] = watched_port;
  XdpCount sum{.transport = transport, .port = port, .name = name};
  std::vector<aether_xdp_count> each(processors);
  auto const key = key_of(transport, port);
  TRY(bpf_read(programs.map("aether_ports"), &key, each.data()));
  for (auto const& one : each) {
    sum.packets += one.packets;
    sum.bytes += one.bytes;
    sum.dropped += one.dropped;
  }
  return sum;
}

Result<XdpCounters> XdpCounters::attach(std::string const& interface, XdpMode mode) {
  unsigned const index = if_nametoindex(interface.c_str());
  if (index == 0)
    return fail(ErrorCode::NotFound,
                fmt::format("there is no network interface \"{}\" to count packets on (`ip link` "
                            "lists them)",
                            interface));
  TRY_ASSIGN(auto const foreign, xdp_program_on(static_cast<int>(index)));
  if (foreign != 0)
    return fail(ErrorCode::Conflict,
                fmt::format("{} has the XDP program {} of somebody else already, and Aether does "
                            "not replace it: detach it (`bpftool prog show id {}` says whose it "
                            "is), or name another interface",
                            interface, foreign, foreign));
  auto state = std::make_unique<State>();
  state->interface = interface;
  TRY_ASSIGN(state->programs, BpfPrograms::load(BpfObject::XdpPorts));
  TRY_ASSIGN(state->processors, bpf_processors());
  TRY(state->attach(static_cast<int>(index), mode));
  return XdpCounters(std::move(state));
}

std::string_view xdp_mode_name(XdpMode mode) {
  for (auto const& attempt : kAttempts)
    if (attempt.mode == mode) return attempt.name;
  return "auto";
}

XdpCounters::XdpCounters(std::unique_ptr<State> state) : state_(std::move(state)) {}
XdpCounters::XdpCounters(XdpCounters&&) noexcept = default;
XdpCounters& XdpCounters::operator=(XdpCounters&&) noexcept = default;
XdpCounters::~XdpCounters() = default;

std::string const& XdpCounters::interface() const {
  return state_->interface;
}

XdpMode XdpCounters::mode() const {
  return state_->mode;
}

Status XdpCounters::watch(Transport transport, std::uint16_t port, std::string name) {
  bool const counted = transport == Transport::Tcp || transport == Transport::Udp;
  if (!counted || port == 0)
    return fail(ErrorCode::RequestInvalid, "only TCP and UDP ports can be watched");
  TRY(fault::pass(fault::Point::XdpWatch));
  Watched const watched{port, transport};
  if (!state_->watched.contains(watched)) {
    if (state_->watched.size() >= AETHER_XDP_PORTS)
      return fail(ErrorCode::LimitReached, fmt::format("{} ports of {} are watched, and no more",
                                                       AETHER_XDP_PORTS + 0, state_->interface));
    auto const key = key_of(transport, port);
    std::vector<aether_xdp_count> const zeros(state_->processors);
    TRY(bpf_write(state_->programs.map("aether_ports"), &key, zeros.data()));
  }
  state_->watched[watched] = std::move(name);
  return {};
}

Status XdpCounters::unwatch(Transport transport, std::uint16_t port) {
  auto const key = key_of(transport, port);
  TRY(bpf_erase(state_->programs.map("aether_ports"), &key));
  state_->watched.erase({port, transport});
  return {};
}

Status XdpCounters::set_limit(std::optional<XdpLimit> limit) {
  aether_xdp_limit native{};
  if (limit) {
    if (limit->packets_per_second == 0 || limit->burst == 0 ||
        limit->packets_per_second > kNanosecondsPerSecond || limit->burst > kNanosecondsPerSecond)
      return fail(ErrorCode::RequestInvalid,
                  "a limit of packets has a rate and a burst, both from 1 to 10^9");
    native.cost_ns = kNanosecondsPerSecond / limit->packets_per_second;
    native.ahead_ns = (limit->burst - 1) * native.cost_ns;
  }
  std::uint32_t const zero = 0;
  return bpf_write(state_->programs.map("aether_limit"), &zero, &native);
}

Result<std::vector<XdpCount>> XdpCounters::read() const {
  std::vector<XdpCount> counts;
  for (auto const& [watched, name] : state_->watched) {
    TRY_ASSIGN(auto one, state_->count(watched, name));
    counts.push_back(std::move(one));
  }
  return counts;
}

}  // namespace aether::steer
