// SPDX-License-Identifier: Apache-2.0
// Address: where a listener listens, as people write it in `listen:`. Pure: nothing is looked up.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace aether {

enum class Transport : std::uint8_t { Tcp, Udp, UnixStream, UnixDatagram, UnixSeqpacket };

/// One address. Forms: ":8080", "8080", "*:8080" (every interface, IPv4 and IPv6 in one socket),
/// "0.0.0.0:8080", "127.0.0.1:0" (any free port), "localhost:80" (127.0.0.1), "[::1]:80",
/// "[fe80::1%eth0]:80", "tcp://…", "udp://…", "unix:/path", "unix:///path", "/path", "unix:@name"
/// (abstract), "unix-dgram:…", "unix-seqpacket:…". A relative path is relative to Aether's own
/// working folder.
struct Address {
  Transport transport = Transport::Tcp;
  std::string host;  ///< Canonical IP without brackets; empty: every interface, both families.
  std::uint16_t port = 0;
  std::string path;  ///< Of a unix socket; an abstract name is without its '@'.
  bool abstract_name = false;

  /// The shortest form that parse_address takes back to an equal Address.
  [[nodiscard]] std::string text() const;
  [[nodiscard]] bool is_unix() const {
    return transport != Transport::Tcp && transport != Transport::Udp;
  }
  /// Whether clients connect (as opposed to sending datagrams).
  [[nodiscard]] bool has_connections() const {
    return transport != Transport::Udp && transport != Transport::UnixDatagram;
  }
  [[nodiscard]] bool is_ipv6() const { return host.find(':') != std::string::npos; }

  bool operator==(Address const&) const = default;
};

/// The longest path of a unix socket in bytes (sun_path is 108 with its end; man 7 unix).
inline constexpr std::size_t kUnixPathMax = 107;

/// Errors: AddressInvalid, with what was understood and an example of what to write.
[[nodiscard]] Result<Address> parse_address(std::string_view text);

}  // namespace aether
