// SPDX-License-Identifier: Apache-2.0
#include "http/client.h"

#include <errno.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "async/timers.h"
#include "base/error.h"
#include "http/head.h"
#include "http/limits.h"
#include "http/listen.h"
#include "http/response_parser.h"
#include "http/socket.h"
#include "http/tls_stream.h"
#include "os/unix_socket.h"

namespace aether::http {
namespace {

constexpr std::size_t kClientReadBytes = 64 * 1024;
// A unix listener whose queue is full refuses at once (EAGAIN) where TCP would wait.
constexpr Duration kFullQueuePause = std::chrono::milliseconds(5);

Error unreachable(Endpoint const& endpoint, Error const& cause) {
  return {ErrorCode::Unreachable,
          fmt::format("connecting to {}: {}", endpoint.text(), cause.message()),
          cause.errno_value()};
}

async::Task<Socket> connect_unix(Endpoint const& endpoint) {
  async::Executor const executor = co_await async::this_executor;
  while (true) {
    auto connected = os::connect_unix(endpoint.unix_path);
    if (connected) co_return Socket(executor, std::move(*connected));
    Error const& cause = connected.error();
    if (cause.code() == ErrorCode::AddressInvalid) throw cause;
    if (cause.errno_value() != EAGAIN) throw unreachable(endpoint, cause);
    co_await async::sleep_for(kFullQueuePause);
  }
}

async::Task<Socket> connect_tcp(SocketAddress address, Endpoint const& endpoint) {
  async::Executor const executor = co_await async::this_executor;
  os::UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) throw system_error("socket");
  if (endpoint.before_connect) endpoint.before_connect(fd.get());
  int const result = ::connect(fd.get(), address.get(), address.length);
  int const reason = result == 0 ? 0 : errno;
  Socket socket(executor, std::move(fd));
  if (reason == 0) co_return socket;
  int outcome = reason;
  if (reason == EINPROGRESS) outcome = co_await socket.finish_connect();
  if (outcome != 0) throw system_error_from(outcome, "connect", address.text());
  co_return socket;
}

std::vector<SocketAddress> addresses_of(Endpoint const& endpoint) {
  std::vector<SocketAddress> addresses;
  std::vector<std::string> hosts = endpoint.addresses;
  if (hosts.empty() && endpoint.host == "localhost") hosts = {"127.0.0.1", "::1"};
  if (hosts.empty()) hosts = {endpoint.host};
  for (std::string const& host : hosts) {
    if (auto const address = ip_address(host, endpoint.port)) addresses.push_back(*address);
  }
  return addresses;
}

async::Task<Socket> connect(Endpoint const& endpoint) {
  if (!endpoint.unix_path.empty()) co_return co_await connect_unix(endpoint);
  std::vector<SocketAddress> const addresses = addresses_of(endpoint);
  if (addresses.empty()) {
    throw Error(ErrorCode::AddressInvalid,
                fmt::format("connecting to {}: host names are not looked up here; write the IP "
                            "address, or localhost",
                            endpoint.text()));
  }
  std::optional<Error> first;
  for (SocketAddress const& address : addresses) {
    try {
      co_return co_await connect_tcp(address, endpoint);
    } catch (Error const& error) {
      if (!first) first = error;
    }
  }
  throw unreachable(endpoint, *first);
}

// One request on one connection.
class Exchange {
 public:
  Exchange(Endpoint endpoint, Request request, FetchOptions options)
      : endpoint_(std::move(endpoint)),
        request_(std::move(request)),
        options_(std::move(options)),
        parser_(kClientHeaderBytesMax,
                request_.method == "HEAD" ? BodyExpected::No : BodyExpected::Yes) {}

  /// Sends the request, and reads to the end of the response's headers.
  async::Task<void> begin();
  /// The next piece of the body; nothing at its end.
  async::Task<std::optional<std::string>> next_piece();
  /// What is left of the body, into the response.
  async::Task<void> read_whole();

  [[nodiscard]] Response& response() { return parser_.head(); }
  [[nodiscard]] bool succeeded() { return response().status / 100 == 2; }
  [[nodiscard]] Endpoint const& endpoint() const { return endpoint_; }

 private:
  async::Task<void> send(std::string head);
  async::Task<ResponseParser::Step> step();
  /// The piece as far as it is allowed; it may end the body.
  std::string within_limit(std::string piece);

  Endpoint endpoint_;
  Request request_;
  FetchOptions options_;
  ResponseParser parser_;
  std::optional<Socket> socket_;
  std::optional<TlsStream> tls_;
  std::size_t body_bytes_ = 0;
  std::string buffer_;
  bool done_ = false;
};

async::Task<void> Exchange::begin() {
  std::string head = or_throw(request_head(request_, endpoint_.host_header()));
  auto socket = co_await connect(endpoint_);
  socket_.emplace(std::move(socket));
  if (options_.tls != nullptr) {
    tls_.emplace(*socket_, *options_.tls, endpoint_.host);
    co_await tls_->handshake();
  }
  if (options_.trail != nullptr) options_.trail->sent = true;
  co_await send(std::move(head));
  if (options_.on_sent) options_.on_sent();
  while (!parser_.header_done()) co_await step();
}

async::Task<void> Exchange::send(std::string head) {
  head += request_.body;
  try {
    async::Task<void> writing =
        tls_ ? tls_->write_all(head) : socket_->write_all(head, Duration::max());
    co_await std::move(writing);
  } catch (Error const& error) {
    // A server may answer (413, 401) and close before it has read all: the answer counts.
    if (error.code() != ErrorCode::Unreachable) throw;
  }
}

// Reads once if there is nothing to go on with. Returns what the parser came to.
async::Task<ResponseParser::Step> Exchange::step() {
  ResponseParser::Step result = or_throw(parser_.advance(buffer_));
  if (result == ResponseParser::Step::NeedMore && !parser_.has_body()) {
    async::Task<std::size_t> reading = tls_ ? tls_->read_some(buffer_, kClientReadBytes)
                                            : socket_->read_some(buffer_, kClientReadBytes);
    std::size_t const got = co_await std::move(reading);
    if (got == 0) result = or_throw(parser_.end());
  }
  done_ = done_ || result == ResponseParser::Step::Done;
  co_return result;
}

async::Task<std::optional<std::string>> Exchange::next_piece() {
  while (true) {
    std::string piece = parser_.take_body();
    if (!piece.empty()) co_return within_limit(std::move(piece));
    if (done_) co_return std::nullopt;
    co_await step();
  }
}

std::string Exchange::within_limit(std::string piece) {
  std::size_t const room = options_.body_bytes_max - body_bytes_;
  body_bytes_ += std::min(piece.size(), room);
  if (piece.size() <= room) return piece;
  if (options_.too_long == TooLong::Refuse) {
    throw Error(ErrorCode::LimitReached, fmt::format("the answer of {} is longer than {} bytes",
                                                     endpoint_.text(), options_.body_bytes_max));
  }
  if (options_.trail != nullptr) options_.trail->cut = true;
  done_ = true;
  piece.resize(room);
  return piece;
}

async::Task<void> Exchange::read_whole() {
  std::string& body = response().body;
  while (true) {
    std::optional<std::string> const piece = co_await next_piece();
    if (!piece) co_return;
    body += *piece;
  }
}

async::Task<void> read_all(Exchange& exchange) {
  co_await exchange.begin();
  co_await exchange.read_whole();
}

async::Task<void> hand_on(Exchange& exchange, ChunkSink& on_chunk) {
  while (true) {
    std::optional<std::string> piece = co_await exchange.next_piece();
    if (!piece) co_return;
    async::Task<void> taking = on_chunk(std::move(*piece));
    co_await std::move(taking);
  }
}

async::Task<void> read_or_hand_on(Exchange& exchange, ChunkSink& on_chunk) {
  co_await exchange.begin();
  bool const hands_on = on_chunk && exchange.succeeded();
  async::Task<void> rest = hands_on ? hand_on(exchange, on_chunk) : exchange.read_whole();
  co_await std::move(rest);
}

async::Task<void> read_head_or_failure(Exchange& exchange) {
  co_await exchange.begin();
  if (!exchange.succeeded()) co_await exchange.read_whole();
}

// What a fault of the socket or the parser says, with the place where it happened.
async::Task<void> run_within(Duration deadline, Exchange& exchange, async::Task<void> task) {
  std::string const where = fmt::format("asking {}", exchange.endpoint().text());
  std::optional<Error> fault;
  bool in_time = false;
  try {
    in_time = co_await async::with_deadline(deadline, std::move(task));
  } catch (Error& error) {
    fault = std::move(error);
  }
  if (fault && fault->message().contains(exchange.endpoint().text())) throw *std::move(fault);
  if (fault) throw std::move(*fault).while_doing(where);
  if (in_time) co_return;
  throw Error(ErrorCode::Timeout,
              fmt::format("{}: no whole answer within {}", where, format_duration(deadline)));
}

}  // namespace

std::string Endpoint::text() const {
  if (!unix_path.empty()) return fmt::format("unix:{}", unix_path);
  return host.contains(':') ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

std::string Endpoint::host_header() const {
  if (!unix_path.empty()) return "localhost";
  return Url{.host = host, .port = port}.authority();
}

async::Task<Response> fetch(Endpoint endpoint, Request request, Duration deadline) {
  Exchange exchange(std::move(endpoint), std::move(request), {});
  async::Task<void> reading = read_all(exchange);
  co_await run_within(deadline, exchange, std::move(reading));
  co_return std::move(exchange.response());
}

async::Task<Response> fetch_stream(Endpoint endpoint, Request request, Duration deadline,
                                   ChunkSink on_chunk) {
  FetchOptions options{.body_bytes_max = std::numeric_limits<std::size_t>::max()};
  Exchange exchange(std::move(endpoint), std::move(request), std::move(options));
  async::Task<void> reading = read_head_or_failure(exchange);
  co_await run_within(deadline, exchange, std::move(reading));
  if (!exchange.succeeded()) co_return std::move(exchange.response());
  co_await hand_on(exchange, on_chunk);
  co_return std::move(exchange.response());
}

async::Task<Response> fetch(Endpoint endpoint, Request request, FetchOptions options) {
  Duration const deadline = options.deadline;
  ChunkSink on_chunk = std::move(options.on_chunk);
  Exchange exchange(std::move(endpoint), std::move(request), std::move(options));
  async::Task<void> reading = read_or_hand_on(exchange, on_chunk);
  co_await run_within(deadline, exchange, std::move(reading));
  co_return std::move(exchange.response());
}

}  // namespace aether::http
