// SPDX-License-Identifier: Apache-2.0
#include "functions/proxy_head.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "http/ascii.h"

namespace aether::functions {
namespace {

using http::equal_ignoring_case;

constexpr std::array<bool, 256> make_table(bool (*allowed)(char)) {
  std::array<bool, 256> table{};
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = allowed(static_cast<char>(i));
  return table;
}
// RFC 9110, 5.6.2.
constexpr auto kTokenBytes = make_table([](char c) { return http::is_token({&c, 1}); });
constexpr auto kValueBytes = make_table([](char c) { return http::is_field_value({&c, 1}); });
// Bytes from 0x80 up are against RFC 3986, but browsers and curl send them, and they frame nothing.
constexpr auto kTargetBytes = make_table([](char c) {
  auto const byte = static_cast<unsigned char>(c);
  return byte > 0x20 && byte != 0x7f;
});

bool consists_of(std::string_view text, std::array<bool, 256> const& table) {
  return std::ranges::all_of(text, [&](char c) { return table[static_cast<unsigned char>(c)]; });
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// The next line without its end; the text goes on behind it.
std::string_view take_line(std::string_view& text) {
  std::size_t const end = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

// Calls fn with each word of a comma-separated list, trimmed; empty ones too.
template <class Fn>
void for_each_word(std::string_view list, Fn fn) {
  while (true) {
    std::size_t const comma = list.find(',');
    fn(trim(list.substr(0, comma)));
    if (comma == std::string_view::npos) return;
    list.remove_prefix(comma + 1);
  }
}

/// What is wrong with the fields; null if nothing is.
char const* parse_fields(std::string_view text, std::vector<HeadField>& fields) {
  fields.clear();
  while (true) {
    std::string_view const line = take_line(text);
    if (line.empty()) return text.empty() ? nullptr : "an empty line within the head";
    if (line.front() == ' ' || line.front() == '\t') return "a folded header line";
    std::size_t const colon = line.find(':');
    if (colon == std::string_view::npos) return "a header line without a colon";
    HeadField const field{.name = line.substr(0, colon), .value = trim(line.substr(colon + 1))};
    if (field.name.empty() || !consists_of(field.name, kTokenBytes))
      return "a header name with characters that it may not have";
    if (!consists_of(field.value, kValueBytes)) return "a header value with control characters";
    fields.push_back(field);
  }
}

/// The fields that say where the message ends, and whether another one follows.
struct Framing {
  std::string_view encoding;
  std::string_view length;
  std::size_t encodings = 0;
  std::size_t lengths = 0;
  std::size_t hosts = 0;
  bool close = false;
  bool keep_alive = false;
  bool upgrade = false;
};

Framing read_framing(std::vector<HeadField> const& fields) {
  Framing found;
  for (auto const& [name, value] : fields) {
    if (equal_ignoring_case(name, "Transfer-Encoding")) {
      found.encoding = value;
      ++found.encodings;
    } else if (equal_ignoring_case(name, "Content-Length")) {
      if (found.lengths++ > 0 && value != found.length) found.lengths = 100;  // contradicting
      found.length = value;
    } else if (equal_ignoring_case(name, "Host")) {
      ++found.hosts;
    } else if (equal_ignoring_case(name, "Connection")) {
      found.close |= list_has(value, "close");
      found.keep_alive |= list_has(value, "keep-alive");
      found.upgrade |= list_has(value, "upgrade");
    }
  }
  return found;
}

bool parse_length(std::string_view text, std::uint64_t& length) {
  // 18 digits are less than 2^63, and more than any body.
  if (text.empty() || text.size() > 18 || !std::ranges::all_of(text, http::is_digit)) return false;
  std::from_chars(text.data(), text.data() + text.size(), length);
  return true;
}

std::unexpected<HeadRefusal> refuse(int status, std::string detail) {
  return std::unexpected(HeadRefusal{.status = status, .detail = std::move(detail)});
}

std::expected<void, HeadRefusal> frame_request(Framing const& framing, RequestHead& request) {
  request.body = {};
  if (framing.encodings > 0 && framing.lengths > 0)
    return refuse(400, "both Transfer-Encoding and Content-Length");
  if (framing.encodings > 0 && request.http_1_0)
    return refuse(400, "HTTP/1.0 has no Transfer-Encoding");
  if (framing.encodings > 1) return refuse(400, "more than one Transfer-Encoding");
  if (framing.encodings == 1) {
    if (!equal_ignoring_case(framing.encoding, "chunked"))
      return refuse(501, "the only Transfer-Encoding that is understood is chunked");
    request.body.kind = BodyKind::Chunked;
  }
  if (framing.lengths > 1) return refuse(400, "more than one Content-Length");
  if (framing.lengths == 1) {
    if (!parse_length(framing.length, request.body.length))
      return refuse(400, "a Content-Length that is no number");
    if (request.body.length > 0) request.body.kind = BodyKind::Length;
  }
  return {};
}

/// "GET http://host/path": the host counts, and the handler sees the path (RFC 9112, 3.2.2).
std::expected<void, HeadRefusal> parse_target(RequestHead& request) {
  std::string_view const target = request.target;
  if (target.starts_with('/')) return {};
  if (target == "*" && request.method == "OPTIONS") return {};
  std::size_t const scheme = target.find("://");
  bool const absolute =
      scheme != std::string_view::npos && (equal_ignoring_case(target.substr(0, scheme), "http") ||
                                           equal_ignoring_case(target.substr(0, scheme), "https"));
  if (!absolute) return refuse(400, "a target that is neither a path nor an http URL");
  std::string_view const rest = target.substr(scheme + 3);
  std::size_t const path = rest.find_first_of("/?");
  request.authority = rest.substr(0, path);
  request.target = path == std::string_view::npos ? "/" : rest.substr(path);
  if (!request.target.starts_with('/')) return refuse(400, "a URL with a query but no path");
  if (request.authority.empty() || request.authority.contains('@'))
    return refuse(400, "a URL without a host, or with a user");
  return {};
}

std::expected<void, HeadRefusal> parse_request_line(std::string_view line, RequestHead& request) {
  std::size_t const first = line.find(' ');
  std::size_t const last = line.rfind(' ');
  if (first == std::string_view::npos || first == last)
    return refuse(400, "a request line that is not METHOD TARGET VERSION");
  request.method = line.substr(0, first);
  request.target = line.substr(first + 1, last - first - 1);
  std::string_view const version = line.substr(last + 1);
  if (request.method.empty() || !consists_of(request.method, kTokenBytes))
    return refuse(400, "a method that is no word of HTTP");
  if (request.target.empty() || !consists_of(request.target, kTargetBytes))
    return refuse(400, "a target that is empty, or has characters that must be percent-encoded");
  request.http_1_0 = version == "HTTP/1.0";
  if (!request.http_1_0 && version != "HTTP/1.1") {
    return version.starts_with("HTTP/")
               ? refuse(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
               : refuse(400, "a request line that is not METHOD TARGET VERSION");
  }
  if (request.method == "CONNECT") return refuse(405, "CONNECT: this is no forward proxy");
  return {};
}

bool is_host(std::string_view host) {
  return std::ranges::all_of(host, [](char c) {
    return http::is_alphanumeric(c) || std::string_view("-._~!$&'()*+;=:[]%").contains(c) ||
           static_cast<unsigned char>(c) >= 0x80;
  });
}

}  // namespace

HeadScan::Step HeadScan::advance(std::string_view bytes) {
  while (at_ < bytes.size()) {
    void const* found = std::memchr(bytes.data() + at_, '\n', bytes.size() - at_);
    if (found == nullptr) return Step::NeedMore;
    auto const end = static_cast<std::size_t>(static_cast<char const*>(found) - bytes.data());
    bool const full = end > at_ && bytes[end - 1] == '\r';
    if (!full && !lenient) return Step::BareLineEnd;
    bool const empty = end - at_ == (full ? 1U : 0U);
    at_ = end + 1;
    if (empty) return Step::Done;
  }
  return Step::NeedMore;
}

std::string_view find_field(std::vector<HeadField> const& fields, std::string_view name) {
  for (HeadField const& field : fields) {
    if (equal_ignoring_case(field.name, name)) return field.value;
  }
  return {};
}

bool list_has(std::string_view list, std::string_view word) {
  bool found = false;
  for_each_word(list, [&](std::string_view each) { found |= equal_ignoring_case(each, word); });
  return found;
}

std::expected<void, HeadRefusal> parse_request_head(std::string_view head, RequestHead& request) {
  request.authority = {};
  if (auto line = parse_request_line(take_line(head), request); !line) return line;
  if (char const* wrong = parse_fields(head, request.fields)) return refuse(400, wrong);
  Framing const framing = read_framing(request.fields);
  if (auto framed = frame_request(framing, request); !framed) return framed;
  if (framing.hosts > 1 || (framing.hosts == 0 && !request.http_1_0))
    return refuse(400, "a request needs one Host header");
  if (auto target = parse_target(request); !target) return target;
  if (request.authority.empty()) request.authority = find_field(request.fields, "Host");
  if (!is_host(request.authority)) return refuse(400, "a Host that is no host");
  request.keep_alive = request.http_1_0 ? framing.keep_alive && !framing.close : !framing.close;
  std::string_view const expect = find_field(request.fields, "Expect");
  if (!expect.empty() && !equal_ignoring_case(expect, "100-continue"))
    return refuse(417, "the only expectation that is understood is 100-continue");
  request.expects_continue = !expect.empty() && !request.http_1_0;
  // A tunnel of HTTP/2 would hide requests from the limits.
  std::string_view const upgrade = find_field(request.fields, "Upgrade");
  request.asks_upgrade = framing.upgrade && !upgrade.empty() && !list_has(upgrade, "h2c") &&
                         !request.http_1_0 && request.body.kind == BodyKind::None;
  return {};
}

std::expected<void, std::string> parse_answer_head(std::string_view head, AnswerHead& answer) {
  std::string_view const line = take_line(head);
  bool const known = line.starts_with("HTTP/1.1 ") || line.starts_with("HTTP/1.0 ");
  std::string_view const rest = known ? line.substr(9) : std::string_view();
  bool const number = rest.size() >= 3 && std::ranges::all_of(rest.substr(0, 3), http::is_digit) &&
                      (rest.size() == 3 || rest[3] == ' ');
  if (!number) return std::unexpected("it does not begin with a status line of HTTP/1");
  answer.http_1_0 = line[7] == '0';
  std::from_chars(rest.data(), rest.data() + 3, answer.status);
  answer.reason = rest.size() > 4 ? rest.substr(4) : std::string_view();
  if (answer.status < 100 || answer.status > 599)
    return std::unexpected(fmt::format("{} is no status", answer.status));
  if (!consists_of(answer.reason, kValueBytes))
    return std::unexpected("control characters in the status line");
  if (char const* wrong = parse_fields(head, answer.fields)) return std::unexpected(wrong);
  Framing const framing = read_framing(answer.fields);
  answer.keep_alive = answer.http_1_0 ? framing.keep_alive && !framing.close : !framing.close;
  answer.body = {.kind = BodyKind::UntilClose};
  if (framing.encodings > 0) {
    // What has both was framed by somebody who is confused: nothing may follow it.
    if (framing.lengths > 0) answer.keep_alive = false;
    if (framing.encodings > 1 || !equal_ignoring_case(framing.encoding, "chunked"))
      return std::unexpected("a Transfer-Encoding that is not chunked");
    answer.body.kind = BodyKind::Chunked;
  } else if (framing.lengths > 0) {
    if (framing.lengths >= 100 || !parse_length(framing.length, answer.body.length))
      return std::unexpected("a Content-Length that is no number, or two that differ");
    answer.body.kind = BodyKind::Length;
  }
  return {};
}

}  // namespace aether::functions
