// SPDX-License-Identifier: Apache-2.0
#include "http/url.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include <fmt/format.h>

#include "http/ascii.h"

namespace aether::http {
namespace {

constexpr std::string_view kScheme = "http://";
constexpr std::string_view kSecureScheme = "https://";
constexpr std::uint16_t kSecurePort = 443;

Failure invalid_url(std::string_view text, std::string_view why) {
  return fail(ErrorCode::AddressInvalid,
              fmt::format("the URL \"{}\" {}; write http://HOST:PORT/PATH", text, why));
}

Failure invalid_target(std::string_view why) {
  return fail(ErrorCode::RequestInvalid, fmt::format("the request target {}", why));
}

bool begins_with_scheme(std::string_view text, std::string_view scheme = kScheme) {
  return equal_ignoring_case(text.substr(0, scheme.size()), scheme);
}

bool is_host_name(std::string_view host) {
  auto const allowed = [](char c) {
    return is_alphanumeric(c) || c == '.' || c == '-' || c == '_';
  };
  return !host.empty() && host.size() <= 255 && std::ranges::all_of(host, allowed);
}

bool is_ipv6_text(std::string_view host) {
  auto const allowed = [](char c) {
    return is_alphanumeric(c) || c == ':' || c == '.' || c == '%';
  };
  return host.contains(':') && host.size() <= 64 && std::ranges::all_of(host, allowed);
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  std::uint16_t port = 0;
  auto const [end, ec] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (ec != std::errc() || end != text.data() + text.size() || port == 0) return std::nullopt;
  return port;
}

int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  char const lower = to_lower(c);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

enum class Plus : std::uint8_t { Itself, Space };

// Nothing: a bad escape, or an escaped control character (a NUL or a line break in a path is an
// attack).
std::optional<std::string> percent_decode(std::string_view text, Plus plus) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (i + 2 >= text.size()) return std::nullopt;
      int const high = hex_value(text[i + 1]);
      int const low = hex_value(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>((high * 16) + low);
      i += 2;
      auto const byte = static_cast<unsigned char>(c);
      if (byte < 0x20 || byte == 0x7f) return std::nullopt;
    } else if (c == '+' && plus == Plus::Space) {
      c = ' ';
    }
    out.push_back(c);
  }
  return out;
}

Status parse_query(std::string_view text, std::vector<std::pair<std::string, std::string>>& query) {
  while (!text.empty()) {
    std::size_t const end = std::min(text.find('&'), text.size());
    std::string_view const item = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (item.empty()) continue;
    std::size_t const equals = std::min(item.find('='), item.size());
    std::string_view const raw = item.substr(std::min(equals + 1, item.size()));
    auto name = percent_decode(item.substr(0, equals), Plus::Space);
    auto value = percent_decode(raw, Plus::Space);
    if (!name || !value) return invalid_target("has a bad percent-escape in its query");
    query.emplace_back(std::move(*name), std::move(*value));
  }
  return {};
}

// What follows the scheme. `url` has the scheme's own port.
Result<Url> parse_after_scheme(std::string_view text, std::string_view rest, Url url) {
  std::size_t const end = std::min(rest.find_first_of("/?#"), rest.size());
  std::string_view authority = rest.substr(0, end);
  std::string_view const target = rest.substr(end);
  if (!is_visible(text)) return invalid_url("...", "has spaces, control or non-ASCII characters");
  if (authority.contains('@')) return invalid_url("...", "names a user, which is not supported");
  if (target.contains('#'))
    return invalid_url(text, "has a fragment (#), which means nothing here");

  if (authority.starts_with('[')) {
    std::size_t const close = authority.find(']');
    if (close == std::string_view::npos) return invalid_url(text, "has no ] after its [");
    url.host = authority.substr(1, close - 1);
    if (!is_ipv6_text(url.host)) return invalid_url(text, "has no IPv6 address between [ and ]");
    authority.remove_prefix(close + 1);
  } else {
    std::size_t const colon = std::min(authority.find(':'), authority.size());
    url.host = authority.substr(0, colon);
    if (!is_host_name(url.host)) return invalid_url(text, "has no valid host");
    authority.remove_prefix(colon);
  }
  if (!authority.empty()) {
    auto const port = authority.starts_with(':') ? parse_port(authority.substr(1)) : std::nullopt;
    if (!port) return invalid_url(text, "has no valid port (1 to 65535)");
    url.port = *port;
  }
  if (!target.empty()) url.target = target.starts_with('/') ? target : fmt::format("/{}", target);
  return url;
}

}  // namespace

std::string Url::authority() const {
  std::string const name = host.contains(':') ? fmt::format("[{}]", host) : host;
  return port == (secure ? kSecurePort : 80) ? name : fmt::format("{}:{}", name, port);
}

std::string Url::text() const {
  return fmt::format("{}{}{}", secure ? kSecureScheme : kScheme, authority(), target);
}

Result<Url> parse_url(std::string_view text) {
  if (!begins_with_scheme(text)) return invalid_url(text, "does not begin with http://");
  return parse_after_scheme(text, text.substr(kScheme.size()), {});
}

Result<Url> parse_web_url(std::string_view text) {
  if (begins_with_scheme(text, kSecureScheme))
    return parse_after_scheme(text, text.substr(kSecureScheme.size()),
                              {.port = kSecurePort, .secure = true});
  if (begins_with_scheme(text)) return parse_url(text);
  return invalid_url(text, "does not begin with http:// or https://");
}

Result<Target> parse_target(std::string_view text) {
  if (text == "*") return Target{.path = "*", .query = {}};
  if (!is_visible(text)) return invalid_target("has spaces, control or non-ASCII characters");
  if (begins_with_scheme(text)) {
    text.remove_prefix(kScheme.size());
    text.remove_prefix(std::min(text.find_first_of("/?"), text.size()));
    if (!text.starts_with('/')) return invalid_target("has no path");
  }
  if (!text.starts_with('/')) return invalid_target("does not begin with /");
  if (text.contains('#')) return invalid_target("has a fragment");
  std::size_t const question = std::min(text.find('?'), text.size());
  auto path = percent_decode(text.substr(0, question), Plus::Itself);
  if (!path) return invalid_target("has a bad percent-escape in its path");
  Target target{.path = std::move(*path), .query = {}};
  TRY(parse_query(text.substr(std::min(question + 1, text.size())), target.query));
  return target;
}

std::string percent_encode(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size());
  for (char const c : text) {
    if (is_alphanumeric(c) || std::string_view("-._~").contains(c)) {
      out.push_back(c);
      continue;
    }
    auto const byte = static_cast<unsigned char>(c);
    out.push_back('%');
    out.push_back(kHex[byte >> 4U]);
    out.push_back(kHex[byte & 15U]);
  }
  return out;
}

}  // namespace aether::http
