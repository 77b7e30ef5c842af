// SPDX-License-Identifier: Apache-2.0
#include "http/head.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <iterator>
#include <string_view>

#include <fmt/format.h>

#include "http/ascii.h"

namespace aether::http {
namespace {

// These follow from how the message is sent: nobody else may set them.
constexpr std::array<std::string_view, 5> kOurs{"Content-Length", "Transfer-Encoding", "Connection",
                                                "Keep-Alive", "Date"};

bool is_ours(std::string_view name) {
  return std::ranges::any_of(
      kOurs, [name](std::string_view ours) { return equal_ignoring_case(name, ours); });
}

Status append_headers(std::string& head, Headers const& headers) {
  for (auto const& [name, value] : headers) {
    if (!is_token(name) || !is_field_value(value)) {
      return fail(ErrorCode::RequestInvalid,
                  fmt::format("the header \"{}\" has a name or a value that cannot be sent",
                              is_token(name) ? name : "?"));
    }
    if (!is_ours(name)) fmt::format_to(std::back_inserter(head), "{}: {}\r\n", name, value);
  }
  return {};
}

void append_framing(std::string& head, HeadOptions const& options) {
  if (options.framing == Framing::Length) {
    fmt::format_to(std::back_inserter(head), "Content-Length: {}\r\n", options.length);
  }
  if (options.framing == Framing::Chunked) head += "Transfer-Encoding: chunked\r\n";
  if (!options.keep_alive) head += "Connection: close\r\n";
  if (options.keep_alive && options.http_1_0) head += "Connection: keep-alive\r\n";
}

}  // namespace

std::string http_date(WallTime time) {
  using namespace std::chrono;
  constexpr std::array kDays{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr std::array kMonths{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                               "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  auto const day = floor<days>(time);
  year_month_day const date(day);
  hh_mm_ss const clock(floor<seconds>(time - day));
  return fmt::format("{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
                     kDays.at(weekday(day).c_encoding()), static_cast<unsigned>(date.day()),
                     kMonths.at(static_cast<unsigned>(date.month()) - 1U),
                     static_cast<int>(date.year()), clock.hours().count(), clock.minutes().count(),
                     clock.seconds().count());
}

Result<std::string> response_head(Response const& response, HeadOptions const& options) {
  if (response.status < 200 || response.status > 599) {
    return fail(ErrorCode::RequestInvalid, fmt::format("{} is no final status", response.status));
  }
  std::string head = fmt::format("HTTP/1.1 {} {}\r\nDate: {}\r\n", response.status,
                                 reason_phrase(response.status), http_date(options.date));
  TRY(append_headers(head, response.headers));
  append_framing(head, options);
  head += "\r\n";
  return head;
}

Result<std::string> request_head(Request const& request, std::string_view host) {
  if (!is_token(request.method)) {
    return fail(ErrorCode::RequestInvalid, "the request's method is not a word of HTTP");
  }
  if (request.target.empty() || !is_visible(request.target)) {
    return fail(ErrorCode::RequestInvalid,
                "the request's target is empty, or has characters that must be percent-encoded");
  }
  std::string head = fmt::format("{} {} HTTP/1.1\r\n", request.method, request.target);
  if (request.headers.find("Host") == nullptr) {
    fmt::format_to(std::back_inserter(head), "Host: {}\r\n", host);
  }
  TRY(append_headers(head, request.headers));
  bool const has_body = !request.body.empty() || request.method == "POST" ||
                        request.method == "PUT" || request.method == "PATCH";
  append_framing(head, {.framing = has_body ? Framing::Length : Framing::NoBody,
                        .length = request.body.size(),
                        .keep_alive = false});
  head += "\r\n";
  return head;
}

}  // namespace aether::http
