// SPDX-License-Identifier: Apache-2.0
// invoke: one request to a function, as a client of its port sends it.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/json_text.h"
#include "async/loop.h"
#include "cli/commands.h"
#include "cli/control_client.h"
#include "cli/terminal.h"
#include "http/client.h"
#include "os/file.h"

namespace aether::cli {
namespace {

namespace json = boost::json;

/// The function has its own timeout_ms, at most 15 minutes, and its queue: this only ends a wait
/// for nothing.
constexpr Duration kInvokeLimit = std::chrono::hours(1);
constexpr std::size_t kDataBytesMax = 1024UL * 1024 * 1024;
/// How the instance came to be that answered (docs/functions.md).
constexpr std::string_view kStartHeader = "X-Aether-Start";

Result<std::string> all_of_stdin() {
  std::string all;
  std::array<char, 65536> buffer{};
  ssize_t got = 0;
  while ((got = ::read(STDIN_FILENO, buffer.data(), buffer.size())) > 0) {
    all.append(buffer.data(), static_cast<std::size_t>(got));
  }
  if (got < 0) return fail(system_error("read", "stdin"));
  return all;
}

Result<std::string> data_of(std::string const& told) {
  if (told == "@-") return all_of_stdin();
  if (told.starts_with('@')) return os::read_file(told.substr(1), kDataBytesMax);
  return told;
}

Result<http::Request> request_of(InvokeOptions const& options) {
  http::Request request;
  request.target = options.path.starts_with('/') ? options.path : "/" + options.path;
  if (options.data) {
    TRY_ASSIGN(request.body, data_of(*options.data));
    request.method = "POST";
    bool const looks_like_json = request.body.starts_with('{') || request.body.starts_with('[');
    request.headers.set("Content-Type",
                        looks_like_json ? "application/json" : "application/octet-stream");
  }
  if (!options.method.empty()) request.method = options.method;
  for (std::string const& header : options.headers) {
    std::size_t const colon = header.find(':');
    if (colon == std::string::npos || colon == 0) {
      return fail(ErrorCode::UsageInvalid,
                  fmt::format("\"{}\" is not a header: write NAME: VALUE", header));
    }
    std::size_t const value = header.find_first_not_of(' ', colon + 1);
    request.headers.set(header.substr(0, colon),
                        value == std::string::npos ? "" : header.substr(value));
  }
  return request;
}

async::Task<void> print_piece(std::string piece) {
  std::fwrite(piece.data(), 1, piece.size(), stdout);
  std::fflush(stdout);
  co_return;
}

struct Answer {
  http::Response response;
  Duration took{};
};

/// @param as_it_comes Print the body of a good answer piece by piece; it is not kept.
Result<Answer> send(http::Endpoint const& endpoint, http::Request request, bool as_it_comes) {
  SystemClock const clock;
  async::Loop loop(clock);
  Instant const began = clock.now();
  try {
    auto sending = as_it_comes
                       ? http::fetch_stream(endpoint, std::move(request), kInvokeLimit, print_piece)
                       : http::fetch(endpoint, std::move(request), kInvokeLimit);
    http::Response response = loop.run_task(std::move(sending));
    return Answer{std::move(response), clock.now() - began};
  } catch (Error const& error) {
    return fail(error);
  }
}

void print_head(http::Response const& response) {
  fmt::print("HTTP/1.1 {} {}\n", response.status, http::reason_phrase(response.status));
  for (auto const& [name, value] : response.headers) fmt::print("{}: {}\n", name, value);
  fmt::print("\n");
}

void print_json(Answer const& answer) {
  json::object headers;
  for (auto const& [name, value] : answer.response.headers) headers[name] = value;
  std::string const start(answer.response.headers.get(kStartHeader));
  fmt::print("{}\n", api::json_text(json::object{
                         {"status", answer.response.status},
                         {"start", start.empty() ? json::value(nullptr) : json::value(start)},
                         {"took_ms", api::milliseconds_of(answer.took)},
                         {"headers", std::move(headers)},
                         {"body", answer.response.body}}));
}

/// On stderr, so that stdout is the answer alone.
void tell_how(Answer const& answer) {
  Paint const paint = paint_for(stderr);
  std::string_view const start = answer.response.headers.get(kStartHeader);
  // Most bodies end without a line's end, and both streams meet on the terminal.
  if (is_terminal(stdout) && is_terminal(stderr)) fmt::print(stderr, "\n");
  fmt::print(stderr, "{}{} {}, {}{}{}\n", paint.dim, answer.response.status,
             http::reason_phrase(answer.response.status),
             start.empty() ? "" : fmt::format("start: {}, ", start), humanize(answer.took),
             paint.reset);
}

}  // namespace

Result<int> invoke(Globals const& globals, InvokeOptions const& options) {
  TRY_ASSIGN(ControlClient const client, ControlClient::find(globals));
  TRY_ASSIGN(http::Request request, request_of(options));
  TRY_ASSIGN(Named const named, client.find_named(options.function));
  if (!named.is_function()) {
    return fail(ErrorCode::FunctionUnknown,
                fmt::format("{} is a service; ask it at its own address", named.name));
  }
  TRY_ASSIGN(json::value const function, client.call("GET", named.path()));
  auto const port = function.at("trigger_port").to_number<std::uint16_t>();
  bool const for_programs = globals.output == Output::Json;
  bool const as_it_comes = !options.head && !for_programs;
  TRY_ASSIGN(Answer const answer,
             send(http::Endpoint::tcp(client.host(), port), std::move(request), as_it_comes));
  if (for_programs) {
    print_json(answer);
  } else {
    if (options.head) print_head(answer.response);
    std::fwrite(answer.response.body.data(), 1, answer.response.body.size(), stdout);
    std::fflush(stdout);
    tell_how(answer);
  }
  constexpr int kFirstFault = 400;
  return answer.response.status >= kFirstFault ? kFailed : kDone;
}

}  // namespace aether::cli
