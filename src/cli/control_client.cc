// SPDX-License-Identifier: Apache-2.0
#include "cli/control_client.h"

#include <arpa/inet.h>
#include <netdb.h>

#include <array>
#include <cstdlib>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "async/loop.h"
#include "daemon/runtime_dir.h"
#include "daemon/tokens.h"
#include "http/client.h"
#include "http/url.h"

namespace aether::cli {
namespace {

namespace json = boost::json;

ErrorCode code_of(std::string_view name) {
  constexpr std::array kCodes{
#define AETHER_ERROR(code, text, origin, retry, meaning, cure) ErrorCode::code,
#include "base/error_codes.def"
#undef AETHER_ERROR
  };
  for (ErrorCode const code : kCodes) {
    if (info(code).name == name) return code;
  }
  return ErrorCode::Internal;
}

Result<json::value> answer_of(http::Response const& response) {
  boost::system::error_code ec;
  json::value body = json::parse(response.body, ec);
  if (ec) {
    return fail(ErrorCode::ProtocolViolation,
                fmt::format("the answer is not JSON (status {})", response.status));
  }
  if (response.status < 400) return body;
  json::object const empty;
  json::object const& problem = body.is_object() ? body.as_object() : empty;
  auto const text = [&](std::string_view key) -> std::string {
    auto const* value = problem.if_contains(key);
    return value != nullptr && value->is_string() ? std::string(value->as_string()) : "";
  };
  // A health page that says "unavailable" is an answer, not a fault.
  if (!problem.contains("code")) return body;
  return fail(code_of(text("code")), text("detail"));
}

/// The client looks no names up, because a lookup would stop the loop; a command may wait for one.
Result<http::Endpoint> endpoint_of(std::string const& text) {
  if (text.starts_with("https:")) {
    return fail(ErrorCode::UsageInvalid,
                "Aether speaks plain HTTP: reach it by `ssh -L 9090:127.0.0.1:9090 HOST` and --url "
                "http://127.0.0.1:9090, or put a proxy that ends TLS before it");
  }
  auto url = http::parse_url(text.contains("://") ? text : "http://" + text);
  if (!url) return fail(ErrorCode::UsageInvalid, "--url: " + url.error().message());
  addrinfo const wanted{.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  addrinfo* found = nullptr;
  int const failed = ::getaddrinfo(url->host.c_str(), nullptr, &wanted, &found);
  if (failed != 0) {
    return fail(ErrorCode::Unreachable,
                fmt::format("the host {} is not known: {}", url->host, ::gai_strerror(failed)));
  }
  std::array<char, INET6_ADDRSTRLEN> address{};
  int const named = ::getnameinfo(found->ai_addr, found->ai_addrlen, address.data(), address.size(),
                                  nullptr, 0, NI_NUMERICHOST);
  ::freeaddrinfo(found);
  if (named != 0) return fail(ErrorCode::Unreachable, ::gai_strerror(named));
  return http::Endpoint::tcp(address.data(), url->port);
}

Result<std::string> token_of(Globals const& globals) {
  if (globals.token_file) return daemon::read_token_file(*globals.token_file);
  char const* const token = std::getenv("AETHER_TOKEN");
  return token == nullptr ? std::string() : std::string(token);
}

async::Task<void> pass_on(std::function<void(std::string_view)> const* on_piece,
                          std::string piece) {
  (*on_piece)(piece);
  co_return;
}

}  // namespace

Result<ControlClient> ControlClient::find(Globals const& globals) {
  if (globals.url) {
    TRY_ASSIGN(http::Endpoint endpoint, endpoint_of(*globals.url));
    TRY_ASSIGN(std::string token, token_of(globals));
    return ControlClient(std::move(endpoint), std::move(token));
  }
  TRY_ASSIGN(std::string socket,
             daemon::find_control_socket(globals.config, globals.default_files()));
  return ControlClient(http::Endpoint::unix_socket(std::move(socket)), {});
}

http::Request ControlClient::request_of(std::string_view method, std::string target,
                                        std::string body) const {
  http::Request request;
  request.method = method;
  request.target = std::move(target);
  request.body = std::move(body);
  if (!request.body.empty()) request.headers.set("Content-Type", "application/json");
  if (!token_.empty()) request.headers.set("Authorization", "Bearer " + token_);
  return request;
}

Result<json::value> ControlClient::call(std::string_view method, std::string target,
                                        std::string body, Duration deadline,
                                        http::Headers const& headers) const {
  SystemClock const clock;
  async::Loop loop(clock);
  try {
    http::Request request = request_of(method, std::move(target), std::move(body));
    for (auto const& [name, value] : headers) request.headers.set(name, value);
    auto fetching = http::fetch(endpoint_, std::move(request), deadline);
    return answer_of(loop.run_task(std::move(fetching)));
  } catch (Error const& error) {
    return fail(error);
  }
}

Status ControlClient::follow(std::string target,
                             std::function<void(std::string_view)> on_piece) const {
  SystemClock const clock;
  async::Loop loop(clock);
  try {
    http::Request request = request_of("GET", std::move(target), {});
    http::ChunkSink const sink = [&on_piece](std::string piece) {
      return pass_on(&on_piece, std::move(piece));
    };
    auto fetching = http::fetch_stream(endpoint_, std::move(request), kAnswerLimit, sink);
    http::Response const response = loop.run_task(std::move(fetching));
    if (response.status < 400) return {};
    auto answer = answer_of(response);
    return answer ? Status{} : fail(std::move(answer).error());
  } catch (Error const& error) {
    return fail(error);
  }
}

Result<Named> ControlClient::find_named(std::string const& named) const {
  TRY_ASSIGN(json::value const status, call("GET", "/v1/status"));
  std::vector<Named> all;
  for (json::value const& one : status.at("services").as_array()) {
    all.push_back({Named::Kind::Service, std::string(one.at("name").as_string())});
  }
  // An Aether before functions has no such list.
  json::value const* const functions = status.as_object().if_contains("functions");
  for (json::value const& one : functions != nullptr ? functions->as_array() : json::array()) {
    all.push_back({Named::Kind::Function, std::string(one.at("id").as_string())});
  }
  if (named.empty() && all.size() == 1) return all.front();
  std::string names;
  for (Named const& one : all) {
    if (one.name == named) return one;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", one.name);
  }
  if (named.empty()) return fail(ErrorCode::UsageInvalid, fmt::format("name one of {}", names));
  return fail(ErrorCode::ServiceUnknown,
              fmt::format("there is no service or function {}; there are {}", named,
                          names.empty() ? "none" : names));
}

std::string Named::path() const {
  return fmt::format("/v1/{}/{}", is_function() ? "functions" : "services",
                     http::percent_encode(name));
}

Result<std::string> ControlClient::service_or_only(std::string const& named) const {
  if (!named.empty()) return named;
  TRY_ASSIGN(json::value const answer, call("GET", "/v1/services"));
  json::array const& services = answer.at("services").as_array();
  if (services.size() == 1) return std::string(services.front().at("name").as_string());
  std::string names;
  for (json::value const& one : services) {
    names += fmt::format("{}{}", names.empty() ? "" : ", ", one.at("name").as_string().c_str());
  }
  return fail(ErrorCode::UsageInvalid, fmt::format("name one of the services: {}", names));
}

}  // namespace aether::cli
