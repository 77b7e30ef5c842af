// SPDX-License-Identifier: Apache-2.0
#include "tools/web.h"

#include <algorithm>
#include <charconv>
#include <exception>
#include <utility>

#include <fmt/format.h>

#include "async/timers.h"
#include "base/error.h"
#include "base/fault.h"

namespace aether::tools {
namespace {

constexpr Duration kRetryAfterMost = std::chrono::hours(24);

/// What has to be looked up: neither an address nor localhost.
bool is_name(std::string_view host) {
  bool const digits =
      std::ranges::all_of(host, [](char c) { return (c >= '0' && c <= '9') || c == '.'; });
  return !digits && !host.contains(':') && host != "localhost";
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

std::string lowered(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), lower);
  return out;
}

bool may_pass(Error const& fault) {
  return fault.code() == ErrorCode::Unreachable || fault.code() == ErrorCode::SystemCall ||
         fault.code() == ErrorCode::LimitReached || fault.code() == ErrorCode::Timeout;
}

}  // namespace

http::TlsContext const* WebCaller::tls() {
  if (!tls_) tls_.emplace(or_throw(http::TlsContext::create(ca_file_)));
  return &*tls_;
}

async::Task<void> WebCaller::exchange(WebCall* call, http::FetchTrail* trail, WebAnswer* answer) {
  or_throw(fault::pass(fault::Point::ToolsConnect));
  http::Endpoint endpoint = http::Endpoint::of(call->url);
  if (is_name(endpoint.host)) {
    std::vector<std::string> addresses = co_await resolver_.look_up(endpoint.host);
    endpoint.addresses = std::move(addresses);
  }
  if (call->request.headers.find("Host") == nullptr)
    call->request.headers.set("Host", call->url.authority());
  http::FetchOptions options{.deadline = Duration::max(),
                             .body_bytes_max = call->body_bytes_max,
                             .too_long = http::TooLong::Cut,
                             .tls = call->url.secure ? tls() : nullptr,
                             .on_chunk = std::move(call->on_chunk),
                             .on_sent = [] { or_throw(fault::pass(fault::Point::ToolsSent)); },
                             .trail = trail};
  async::Task<http::Response> fetching =
      http::fetch(std::move(endpoint), std::move(call->request), std::move(options));
  http::Response response = co_await std::move(fetching);
  or_throw(fault::pass(fault::Point::ToolsAnswer));
  answer->response = std::move(response);
}

async::Task<WebAnswer> WebCaller::perform(WebCall call) {
  WebAnswer answer;
  http::FetchTrail trail;
  std::string const what = describe_request(call.request.method, call.url);
  std::string why = fmt::format("no whole answer within {}", format_duration(call.timeout));
  bool passing = true;
  try {
    async::Task<void> exchanging = exchange(&call, &trail, &answer);
    co_await async::with_deadline(call.timeout, std::move(exchanging));
  } catch (Error const& fault) {
    why = fault.message();
    passing = may_pass(fault);
  } catch (...) {
    // Cancelled: whoever cancelled wants to know what became of it.
    if (!async::is_cancelled(std::current_exception())) throw;
    why = "it was cancelled";
  }
  answer.cut = trail.cut;
  if (answer.response) co_return answer;
  answer.failed = {.outcome = trail.sent ? EffectOutcome::Unknown : EffectOutcome::NotExecuted,
                   .retryable = !trail.sent && passing};
  answer.error = fmt::format("{}: {}; {}", what, why,
                             trail.sent ? "the request was sent, so it may have been done there"
                                        : "nothing of the request was sent");
  co_return answer;
}

bool is_safe_method(std::string_view method) {
  return method == "GET" || method == "HEAD";
}

Verdict judge_status(std::string_view method, int status) {
  bool const safe = is_safe_method(method);
  switch (status) {
    case 303:
      return {.outcome = EffectOutcome::Ok};
    case 301:
    case 302:
      return {.outcome = safe ? EffectOutcome::Error : EffectOutcome::Unknown};
    case 408:
    case 425:
    case 429:
    case 500:
    case 503:
      return {.outcome = EffectOutcome::Error, .retryable = true};
    case 502:
    case 504:
      return {.outcome = safe ? EffectOutcome::Error : EffectOutcome::Unknown, .retryable = safe};
    default:
      break;
  }
  if (status / 100 == 2) return {.outcome = EffectOutcome::Ok};
  return {.outcome = EffectOutcome::Error};
}

std::optional<Duration> retry_after(http::Response const& response) {
  std::string_view const text = response.headers.get("Retry-After");
  unsigned seconds = 0;
  auto const [end, ec] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (text.empty() || ec != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return std::min<Duration>(std::chrono::seconds(seconds), kRetryAfterMost);
}

Result<http::Url> redirect_target(http::Url const& from, std::string_view location) {
  location = location.substr(0, location.find('#'));
  if (location.empty()) return fail(ErrorCode::AddressInvalid, "the redirect names no place");
  std::string_view const before_query = location.substr(0, location.find_first_of("/?"));
  if (before_query.contains(':')) return http::parse_web_url(location);
  if (location.starts_with("//"))
    return http::parse_web_url(fmt::format("{}:{}", from.secure ? "https" : "http", location));
  http::Url base = from;
  std::string_view const path = std::string_view(from.target).substr(0, from.target.find('?'));
  if (location.starts_with('/'))
    base.target = location;
  else if (location.starts_with('?'))
    base.target = fmt::format("{}{}", path, location);
  else
    base.target = fmt::format("{}{}", path.substr(0, path.rfind('/') + 1), location);
  return http::parse_web_url(base.text());
}

bool is_host_allowed(std::vector<std::string> const& hosts, http::Url const& url) {
  if (hosts.empty()) return true;
  std::string const host = lowered(url.host);
  std::string const with_port =
      fmt::format("{}:{}", host.contains(':') ? fmt::format("[{}]", host) : host, url.port);
  return std::ranges::any_of(hosts, [&](std::string const& entry) {
    std::string const allowed = lowered(entry);
    if (allowed.starts_with("*."))
      return host.ends_with(allowed.substr(1)) && host.size() >= allowed.size();
    return allowed == host || allowed == with_port;
  });
}

std::string describe_request(std::string_view method, http::Url const& url) {
  http::Url shown = url;
  shown.target = shown.target.substr(0, shown.target.find('?'));
  return fmt::format("{} {}", method, shown.text());
}

bool is_json_type(std::string_view content_type) {
  std::string const type = lowered(content_type.substr(0, content_type.find_first_of("; ")));
  return type == "application/json" || type.ends_with("+json");
}

}  // namespace aether::tools
