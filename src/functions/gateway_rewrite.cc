// SPDX-License-Identifier: Apache-2.0
#include "functions/gateway_rewrite.h"

#include <array>
#include <iterator>

#include <fmt/compile.h>
#include <fmt/format.h>

#include "http/ascii.h"
#include "http/message.h"

namespace aether::functions {
namespace {

using http::equal_ignoring_case;

bool is_one_of(std::string_view name, auto const& names) {
  for (std::string_view const each : names) {
    if (each.size() == name.size() && equal_ignoring_case(each, name)) return true;
  }
  return false;
}

// RFC 9110, 7.6.1, and what is written anew.
constexpr std::array<std::string_view, 13> kNotPassedToHandlers{
    "Connection",        "Keep-Alive",  "Proxy-Connection", "TE",
    "Transfer-Encoding", "Upgrade",     "Content-Length",   "Host",
    "X-Call-Id",         "Traceparent", "X-Forwarded-For",  "X-Forwarded-Host",
    "X-Forwarded-Proto"};
constexpr std::array<std::string_view, 8> kNotPassedToClients{
    "Connection", "Keep-Alive",     "Proxy-Connection", "Transfer-Encoding",
    "Upgrade",    "Content-Length", "X-Call-Id",        "X-Aether-Start"};

void append_field(std::string& head, std::string_view name, std::string_view value) {
  head.append(name).append(": ").append(value).append("\r\n");
}

/// Whether some Connection field names this field as its own.
bool is_of_connection(std::vector<HeadField> const& fields, std::string_view name) {
  for (HeadField const& field : fields) {
    if (equal_ignoring_case(field.name, "Connection") && list_has(field.value, name)) return true;
  }
  return false;
}

/// Those who only say "close" or "keep-alive" are nearly all: only others name fields.
bool names_fields(std::vector<HeadField> const& fields) {
  for (HeadField const& field : fields) {
    if (!equal_ignoring_case(field.name, "Connection")) continue;
    if (!equal_ignoring_case(field.value, "close") &&
        !equal_ignoring_case(field.value, "keep-alive"))
      return true;
  }
  return false;
}

void append_passed(std::string& head, std::vector<HeadField> const& fields,
                   auto const& not_passed) {
  bool const some_named = names_fields(fields);
  for (HeadField const& field : fields) {
    if (is_one_of(field.name, not_passed)) continue;
    if (some_named && is_of_connection(fields, field.name)) continue;
    append_field(head, field.name, field.value);
  }
}

void append_forwarded(std::string& head, RequestHead const& request, RequestFacts const& facts) {
  head.append("X-Forwarded-For: ");
  for (HeadField const& field : request.fields) {
    if (equal_ignoring_case(field.name, "X-Forwarded-For")) head.append(field.value).append(", ");
  }
  head.append(facts.client).append("\r\n");
  // A proxy before us knows better what the client asked.
  std::string_view const proto = find_field(request.fields, "X-Forwarded-Proto");
  append_field(head, "X-Forwarded-Proto", proto.empty() ? "http" : proto);
  std::string_view const host = find_field(request.fields, "X-Forwarded-Host");
  append_field(head, "X-Forwarded-Host", host.empty() ? request.authority : host);
}

double ms(Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

void append_timing(std::string& head, AnswerFacts const& facts) {
  auto out = std::back_inserter(head);
  fmt::format_to(out, FMT_COMPILE("Server-Timing: queue;dur={:.3f}"), ms(facts.queue));
  if (facts.start) fmt::format_to(out, FMT_COMPILE(", start;dur={:.3f}"), ms(*facts.start));
  fmt::format_to(out, FMT_COMPILE(", fn;dur={:.3f}\r\n"), ms(facts.function));
}

void append_status(std::string& head, AnswerHead const& answer) {
  fmt::format_to(std::back_inserter(head), FMT_COMPILE("HTTP/1.1 {} "), answer.status);
  head.append(answer.reason).append("\r\n");
}

void append_connection(std::string& head, bool keep_alive, bool http_1_0) {
  if (!keep_alive)
    head.append("Connection: close\r\n");
  else if (http_1_0)
    head.append("Connection: keep-alive\r\n");
}

/// A string of JSON (RFC 8259, 7).
std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char const c : text) {
    auto const byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      out.append(1, '\\').append(1, c);
    else if (byte < 0x20)
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", byte);
    else
      out.append(1, c);
  }
  return out.append(1, '"');
}

}  // namespace

std::string write_request_head(RequestHead const& request, RequestFacts const& facts) {
  std::string head;
  head.reserve(1024);
  head.append(request.method).append(" ").append(request.target).append(" HTTP/1.1\r\n");
  append_field(head, "Host", request.authority);
  append_passed(head, request.fields, kNotPassedToHandlers);
  if (request.asks_upgrade) {
    append_field(head, "Connection", "Upgrade");
    append_field(head, "Upgrade", find_field(request.fields, "Upgrade"));
  }
  // A length of 0 is a length: to some servers, a POST without one is an error.
  bool const has_length = !find_field(request.fields, "Content-Length").empty();
  if (request.body.kind == BodyKind::Chunked)
    append_field(head, "Transfer-Encoding", "chunked");
  else if (has_length)
    append_field(head, "Content-Length", fmt::format_int(request.body.length).c_str());
  append_forwarded(head, request, facts);
  append_field(head, "X-Call-Id", facts.call_id);
  append_field(head, "Traceparent", facts.traceparent);
  head.append("\r\n");
  return head;
}

Relaying choose_relaying(AnswerHead const& answer, bool for_head, bool http_1_0) {
  if (for_head || answer.status == 204 || answer.status == 304) return Relaying::Nothing;
  switch (answer.body.kind) {
    case BodyKind::None:
      return Relaying::Nothing;
    case BodyKind::Length:
      return Relaying::Verbatim;
    case BodyKind::Chunked:
      return http_1_0 ? Relaying::Unchunked : Relaying::Verbatim;
    case BodyKind::UntilClose:
      return http_1_0 ? Relaying::Verbatim : Relaying::AsChunks;
  }
  return Relaying::Nothing;
}

void write_answer_head(AnswerHead const& answer, AnswerFacts const& facts, std::string& head) {
  append_status(head, answer);
  append_passed(head, answer.fields, kNotPassedToClients);
  bool const length_known = answer.body.kind == BodyKind::Length && answer.status != 204;
  bool const chunked =
      facts.relaying == Relaying::AsChunks ||
      (facts.relaying == Relaying::Verbatim && answer.body.kind == BodyKind::Chunked);
  if (answer.status == 101) {
    append_field(head, "Connection", "Upgrade");
    append_field(head, "Upgrade", find_field(answer.fields, "Upgrade"));
  } else {
    if (length_known)
      append_field(head, "Content-Length", fmt::format_int(answer.body.length).c_str());
    if (chunked) append_field(head, "Transfer-Encoding", "chunked");
    append_connection(head, facts.keep_alive, facts.http_1_0);
  }
  append_field(head, "X-Call-Id", facts.call_id);
  append_field(head, "X-Aether-Start", tier_name(facts.tier));
  append_timing(head, facts);
  head.append("\r\n");
}

void write_interim_head(AnswerHead const& answer, std::string& head) {
  append_status(head, answer);
  append_passed(head, answer.fields, kNotPassedToClients);
  head.append("\r\n");
}

std::string write_own_answer(OwnAnswer const& answer, std::string_view function,
                             std::string_view call_id, bool keep_alive, bool for_head) {
  std::string const body =
      fmt::format("{{\"code\":{},\"message\":{},\"function\":{},\"call_id\":{}}}\n",
                  quoted(answer.code), quoted(answer.message), quoted(function), quoted(call_id));
  std::string head =
      fmt::format("HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
                  answer.status, http::reason_phrase(answer.status), body.size());
  if (!keep_alive) head.append("Connection: close\r\n");
  if (answer.status == 429 || answer.status == 503) append_field(head, "Retry-After", "1");
  if (!call_id.empty()) append_field(head, "X-Call-Id", call_id);
  head.append("\r\n");
  return for_head ? head : head + body;
}

std::string write_probe_answer(bool ready, bool keep_alive, bool for_head) {
  std::string_view const body = ready ? "OK\n" : "too many requests\n";
  std::string head = fmt::format(
      "HTTP/1.1 {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n",
      ready ? "200 OK" : "429 Too Many Requests", body.size());
  if (!keep_alive) head.append("Connection: close\r\n");
  head.append("\r\n");
  if (!for_head) head.append(body);
  return head;
}

}  // namespace aether::functions
