// SPDX-License-Identifier: Apache-2.0
#include "base/address.h"

#include <arpa/inet.h>
#include <net/if.h>

#include <array>
#include <charconv>
#include <optional>
#include <utility>

#include <fmt/format.h>

namespace aether {
namespace {

struct AddressScheme {
  std::string_view prefix;
  Transport transport;
};
// The longer prefix of two that begin alike comes first.
constexpr std::array kAddressSchemes{
    AddressScheme{"tcp://", Transport::Tcp},
    AddressScheme{"udp://", Transport::Udp},
    AddressScheme{"unix-dgram:", Transport::UnixDatagram},
    AddressScheme{"unix-seqpacket:", Transport::UnixSeqpacket},
    AddressScheme{"unix:", Transport::UnixStream},
};

Failure address_invalid(std::string_view text, std::string_view why) {
  return fail(ErrorCode::AddressInvalid, fmt::format("listen address \"{}\": {}", text, why));
}

Result<std::uint16_t> parse_port(std::string_view text, std::string_view whole) {
  unsigned value = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool const number = error == std::errc() && end == text.data() + text.size() && !text.empty();
  if (!number && error != std::errc::result_out_of_range)
    return address_invalid(whole, fmt::format("\"{}\" is not a port number", text));
  if (!number || value > 65535)
    return address_invalid(whole, fmt::format("port {} is over 65535", text));
  return static_cast<std::uint16_t>(value);
}

/// The one way of writing an IP address ("::1", not "0::1"), or nothing if it is none.
std::optional<std::string> canonical_ip(std::string const& host, int family) {
  std::array<unsigned char, sizeof(in6_addr)> binary{};
  if (inet_pton(family, host.c_str(), binary.data()) != 1) return std::nullopt;
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (inet_ntop(family, binary.data(), text.data(), text.size()) == nullptr) return std::nullopt;
  return std::string(text.data());
}

Result<std::string> parse_ipv6(std::string_view host, std::string_view whole) {
  auto const percent = host.find('%');
  auto const ip = canonical_ip(std::string(host.substr(0, percent)), AF_INET6);
  if (!ip) return address_invalid(whole, fmt::format("\"{}\" is not an IPv6 address", host));
  if (percent == std::string_view::npos) return *ip;
  if (percent + 1 == host.size())
    return address_invalid(whole, "after % the name of an interface is missing");
  // dev_valid_name() of the kernel: at most 15 bytes, no slash, colon or space.
  std::string_view const interface = host.substr(percent + 1);
  bool const possible =
      interface.size() < IF_NAMESIZE && interface.find_first_of("/: \t\r\n\v\f") == interface.npos;
  if (!possible)
    return address_invalid(whole, fmt::format("\"{}\" is no name of an interface", interface));
  return *ip + std::string(host.substr(percent));
}

Result<std::string> parse_ipv4(std::string_view host, std::string_view whole) {
  if (host.empty() || host == "*") return std::string();
  if (host == "localhost") return std::string("127.0.0.1");
  if (host.find(':') != std::string_view::npos)
    return address_invalid(whole, "an IPv6 address needs brackets: [::1]:8080");
  if (auto ip = canonical_ip(std::string(host), AF_INET)) return *std::move(ip);
  return address_invalid(whole, fmt::format("\"{}\" is not an IP address; names are not looked up, "
                                            "write 127.0.0.1:8080, [::1]:8080 or :8080",
                                            host));
}

Result<Address> parse_inet(Transport transport, std::string_view rest, std::string_view whole) {
  // What the system's functions read ends at a zero byte: the rest would be taken without a look.
  if (whole.find('\0') != std::string_view::npos)
    return address_invalid(whole, "it has a zero byte in it");
  Address address{.transport = transport};
  if (rest.starts_with('[')) {
    auto const close = rest.find(']');
    if (close == std::string_view::npos) return address_invalid(whole, "a ] is missing");
    TRY_ASSIGN(address.host, parse_ipv6(rest.substr(1, close - 1), whole));
    if (!rest.substr(close + 1).starts_with(':'))
      return address_invalid(whole, "a port is missing: write [::1]:8080");
    TRY_ASSIGN(address.port, parse_port(rest.substr(close + 2), whole));
    return address;
  }
  auto const colon = rest.rfind(':');
  if (colon != std::string_view::npos) {
    TRY_ASSIGN(address.host, parse_ipv4(rest.substr(0, colon), whole));
    TRY_ASSIGN(address.port, parse_port(rest.substr(colon + 1), whole));
    return address;
  }
  if (rest.find_first_not_of("0123456789") != std::string_view::npos)
    return address_invalid(whole, "a port is missing: write 127.0.0.1:8080 or :8080");
  TRY_ASSIGN(address.port, parse_port(rest, whole));
  return address;
}

Result<Address> parse_unix(Transport transport, std::string_view rest, std::string_view whole) {
  bool const has_scheme = rest.size() != whole.size();
  if (has_scheme && rest.starts_with("//")) rest.remove_prefix(2);
  // The kernel takes several slashes for one; what is left must not look like a scheme's "//".
  while (rest.starts_with("//")) rest.remove_prefix(1);
  Address address{.transport = transport};
  address.abstract_name = rest.starts_with('@');
  if (address.abstract_name) rest.remove_prefix(1);
  if (rest.empty())
    return address_invalid(whole, "the socket's path is missing: unix:/run/app.sock");
  if (rest.find('\0') != std::string_view::npos)
    return address_invalid(whole, "the path has a zero byte in it");
  if (!address.abstract_name && rest.ends_with('/'))
    return address_invalid(whole, "the path names a folder, not a socket in it");
  if (rest.size() > kUnixPathMax)
    return address_invalid(whole, fmt::format("the path has {} bytes and the kernel takes {}; "
                                              "choose a shorter folder",
                                              rest.size(), kUnixPathMax));
  address.path = std::string(rest);
  return address;
}

}  // namespace

Result<Address> parse_address(std::string_view text) {
  if (text.empty()) return address_invalid(text, "it is empty; write :8080 or unix:/run/app.sock");
  for (auto const& [prefix, transport] : kAddressSchemes) {
    if (!text.starts_with(prefix)) continue;
    auto const rest = text.substr(prefix.size());
    if (transport == Transport::Tcp || transport == Transport::Udp)
      return parse_inet(transport, rest, text);
    return parse_unix(transport, rest, text);
  }
  if (text.starts_with('/')) return parse_unix(Transport::UnixStream, text, text);
  if (auto const scheme = text.find("://"); scheme != std::string_view::npos)
    return address_invalid(text,
                           fmt::format("\"{}\" is not a transport; use tcp://, udp://, unix:, "
                                       "unix-dgram: or unix-seqpacket:",
                                       text.substr(0, scheme)));
  return parse_inet(Transport::Tcp, text, text);
}

std::string Address::text() const {
  if (is_unix()) {
    for (auto const& scheme : kAddressSchemes)
      if (scheme.transport == transport)
        return fmt::format("{}{}{}", scheme.prefix, abstract_name ? "@" : "", path);
  }
  return fmt::format("{}{}{}{}:{}", transport == Transport::Udp ? "udp://" : "",
                     is_ipv6() ? "[" : "", host, is_ipv6() ? "]" : "", port);
}

}  // namespace aether
