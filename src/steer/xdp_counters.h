// SPDX-License-Identifier: Apache-2.0
// XdpCounters: what arrives on a network interface for watched ports, counted before the stack does
// any work (XDP), and a limit for each source address. XDP sees frames, not processes: who gets a
// connection is LookupRouter's.
//
// Counted are TCP and UDP over IPv4 and IPv6, also behind up to two VLAN tags, IPv4 options and up
// to six IPv6 extension headers. Of a fragmented packet only the first fragment names a port; later
// ones are not counted, pass, and are not limited. What cannot be parsed passes. Packets of this
// machine to itself arrive on `lo`; what it sends is not seen.
//
// The limit is a token bucket for each source address (IPv6: its /64, of which one host has all)
// over all watched ports. A source that has none gets a full one; the table holds 65536 sources and
// the one that was silent longest gives way. Nothing else of Aether depends on it.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "base/result.h"

namespace aether::steer {

enum class XdpMode : std::uint8_t {
  Auto,     ///< Native, else generic.
  Generic,  ///< In the stack, after the buffer was made: every interface, lo too.
  Native,   ///< In the driver.
  Offload,  ///< On the card. Few can; maps of ours seldom fit.
};

/// "auto", "generic", "native", "offload".
[[nodiscard]] std::string_view xdp_mode_name(XdpMode mode);

struct XdpLimit {
  std::uint64_t packets_per_second = 0;
  std::uint64_t burst = 0;  ///< Packets that may come at once; at least 1.
  bool operator==(XdpLimit const&) const = default;
};

/// What came for one watched port since watch().
struct XdpCount {
  Transport transport = Transport::Tcp;
  std::uint16_t port = 0;
  std::string name;           ///< As given to watch().
  std::uint64_t packets = 0;  ///< Passed and dropped.
  std::uint64_t bytes = 0;    ///< Whole frames, as XDP sees them.
  std::uint64_t dropped = 0;
};

class XdpCounters {
 public:
  /// Refused with Conflict if the interface has an XDP program already: never replaced. NotFound
  /// without such an interface, BpfUnavailable without the right or the mode.
  [[nodiscard]] static Result<XdpCounters> attach(std::string const& interface,
                                                  XdpMode mode = XdpMode::Auto);
  XdpCounters(XdpCounters&&) noexcept;
  XdpCounters& operator=(XdpCounters&&) noexcept;
  /// Detaches.
  ~XdpCounters();

  [[nodiscard]] std::string const& interface() const;
  /// Never Auto: what was possible.
  [[nodiscard]] XdpMode mode() const;
  /// From now on this port is counted under this name (a function's or a service's). A port that is
  /// watched already keeps its counts and gets the new name. LimitReached over 1024.
  Status watch(Transport transport, std::uint16_t port, std::string name);
  Status unwatch(Transport transport, std::uint16_t port);
  /// None: nothing is dropped. Takes effect at once; buckets keep their tokens.
  Status set_limit(std::optional<XdpLimit> limit);
  /// By port, TCP before UDP.
  [[nodiscard]] Result<std::vector<XdpCount>> read() const;

  struct State;

 private:
  explicit XdpCounters(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace aether::steer
