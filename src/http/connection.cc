// SPDX-License-Identifier: Apache-2.0
#include "http/connection.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "async/task_group.h"
#include "async/timers.h"
#include "base/error.h"
#include "base/log.h"
#include "http/head.h"
#include "http/problem.h"

namespace aether::http {
namespace {

// One read takes at most this much: a page of the kernel's socket buffer times four.
constexpr std::size_t kRequestReadBytes = 16 * 1024;
// A head and a body that fit together go out in one segment or two, without a second system call.
constexpr std::size_t kJoinBytes = 32 * 1024;

std::string describe(std::exception_ptr const& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (Error const& error) {
    return error.describe();
  } catch (std::exception const& exception) {
    return exception.what();
  } catch (...) {
    return "an exception of an unknown type";
  }
}

}  // namespace

// What the answer has to know about its request.
struct Connection::Exchange {
  bool http_1_0 = false;
  bool head_only = false;
  bool keep_alive = true;
  std::string what;  // "GET /path", for the log
};

// The stream's side of the socket. A client that is gone is told to the stream by cancelling it.
class Connection::ChunkWriter final : public BodyWriter {
 public:
  ChunkWriter(Connection& connection, Framing framing)
      : connection_(connection), framing_(framing) {}

  async::Task<void> write(std::string bytes) override {
    if (bytes.empty()) co_return;  // a chunk of no bytes would be the last one
    if (framing_ == Framing::Chunked) bytes = fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes);
    bool lost = false;
    try {
      Duration const stall = connection_.context_.limits.write_stall_timeout;
      co_await connection_.socket_.write_all(bytes, stall);
    } catch (Error const& error) {
      log::debug("http: {} stopped to take a stream: {}", connection_.peer_.address,
                 error.describe());
      lost = true;
    }
    if (lost) {
      connection_.cut(Cut::ClientGone);
      async::throw_cancelled();
    }
    co_await async::yield();  // a fast client must not keep the loop
  }

 private:
  Connection& connection_;
  Framing framing_;
};

Connection::Connection(ConnectionContext& context, Socket socket, Peer peer)
    : context_(context),
      socket_(std::move(socket)),
      peer_(std::move(peer)),
      first_request_by_(context.clock.now() + context.limits.header_timeout) {
  context_.open.push_back(this);
}

Connection::~Connection() {
  std::erase(context_.open, this);
}

void Connection::begin_stop() {
  if (idle_) socket_.shut_reads();
  if (streams_endlessly_) cut(Cut::Stopping);
}

void Connection::give_way() {
  log::debug("http: {} was here longest, and gives way to another client", peer_.address);
  bool const answering = repeatable_since_.has_value();
  waiting_since_.reset();
  repeatable_since_.reset();
  if (answering) {
    cut(Cut::ClientGone);
  } else {
    socket_.shut_reads();
  }
}

void Connection::cut(Cut reason) {
  if (cut_ == Cut::Not) cut_ = reason;
  cut_event_.set();
}

async::Task<void> Connection::serve() {
  Next next = Next::Continue;
  while (next == Next::Continue) {
    RequestParser parser(context_.limits.header_bytes, context_.limits.body_bytes);
    std::optional<Request> request = co_await read_request(parser);
    if (!request) co_return;
    served_one_ = true;
    request->peer = peer_;
    Exchange exchange{.http_1_0 = parser.is_http_1_0(),
                      .head_only = request->method == "HEAD",
                      .keep_alive = parser.keep_alive(),
                      .what = fmt::format("{} {}", request->method, request->target)};
    std::optional<Response> response = co_await run_handler(std::move(*request));
    if (!response) co_return;
    next = co_await answer(std::move(exchange), std::move(*response));
    if (!buffer_.empty()) co_await async::yield();  // nor may one that sends ahead of our answers
  }
  if (!buffer_.empty()) co_await linger();
}

// Nothing: the connection is over, and whatever there was to say has been said.
async::Task<std::optional<Request>> Connection::read_request(RequestParser& parser) {
  Limits const& limits = context_.limits;
  bool begun = !buffer_.empty();
  Instant const idle_until = context_.clock.now() + limits.idle_timeout;
  Instant deadline = served_one_ ? idle_until : first_request_by_;
  if (begun) deadline = context_.clock.now() + limits.header_timeout;
  while (true) {
    switch (parser.advance(buffer_)) {
      case RequestParser::Step::Done:
        waiting_since_.reset();
        co_return parser.take();
      case RequestParser::Step::Refused:
        co_await refuse(parser.refusal().status, parser.refusal().detail);
        co_return std::nullopt;
      case RequestParser::Step::HeaderDone:
        deadline = context_.clock.now() + limits.body_timeout;
        co_await continue_with_body(parser);
        continue;
      case RequestParser::Step::NeedMore:
        break;
    }
    // What has arrived before the stop is answered still.
    if (!begun && context_.stopping) socket_.shut_reads();
    idle_ = !begun;
    if (!waiting_since_) waiting_since_ = context_.clock.now();
    std::optional<std::size_t> const got = co_await read_until(deadline);
    idle_ = false;
    if (got == 0U || (!got && !begun)) co_return std::nullopt;
    if (!got) {
      co_await refuse(408, "the request did not arrive in time");
      co_return std::nullopt;
    }
    if (!begun && served_one_) deadline = context_.clock.now() + limits.header_timeout;
    begun = true;
  }
}

async::Task<std::optional<std::size_t>> Connection::read_until(Instant deadline) {
  Duration const left = std::max(Duration::zero(), Duration(deadline - context_.clock.now()));
  async::Task<std::size_t> reading = socket_.read_some(buffer_, kRequestReadBytes);
  co_return co_await async::with_deadline(left, std::move(reading));
}

async::Task<void> Connection::continue_with_body(RequestParser const& parser) {
  if (!parser.expects_continue() || !buffer_.empty()) co_return;
  co_await socket_.write_all("HTTP/1.1 100 Continue\r\n\r\n", context_.limits.write_stall_timeout);
}

// Nothing: the client hung up, and nobody would read the answer.
async::Task<std::optional<Response>> Connection::run_handler(Request request) {
  std::string const what = fmt::format("{} {}", request.method, request.path);
  cut_ = Cut::Not;
  cut_event_.reset();
  if (request.method == "GET" || request.method == "HEAD") {
    repeatable_since_ = context_.clock.now();
  }
  async::TaskGroup watch(context_.executor, "http hang-up watch");
  watch.spawn("client", watch_hang_up());
  std::optional<Response> response;
  std::exception_ptr thrown;
  try {
    async::Task<void> answering = call_handler(std::move(request), &response);
    co_await async::until(cut_event_, std::move(answering));
  } catch (...) {
    thrown = std::current_exception();
  }
  repeatable_since_.reset();
  co_await async::ignore_cancellation();
  co_await watch.stop(Duration::max());
  co_await async::heed_cancellation();
  if (thrown && async::is_cancelled(thrown)) std::rethrow_exception(thrown);
  if (thrown) {
    log::error("http: {} failed: {}", what, describe(thrown));
    response = problem(500, "the request could not be answered; the log says why");
  }
  if (!response) log::debug("http: {} hung up before the answer to {}", peer_.address, what);
  co_return response;
}

async::Task<void> Connection::call_handler(Request request, std::optional<Response>* response) {
  async::Task<Response> answering = context_.handler(std::move(request));
  Response made = co_await std::move(answering);
  response->emplace(std::move(made));
}

// A client that closed only its sending side still reads; one that hung up does not.
async::Task<void> Connection::watch_hang_up() {
  co_await socket_.wait_hang_up();
  cut(Cut::ClientGone);
}

async::Task<Connection::Next> Connection::answer(Exchange exchange, Response response) {
  exchange.keep_alive = exchange.keep_alive && !context_.stopping;
  // Streams without an end may not take the places of everybody else.
  if (response.endless && context_.endless_streams >= context_.limits.connections / 2) {
    response = problem(503, fmt::format("{} streams are open already", context_.endless_streams));
  }
  if (response.stream && !exchange.head_only) {
    co_return co_await send_stream(exchange, response);
  }
  co_await send_whole(exchange, response);
  co_return exchange.keep_alive ? Next::Continue : Next::Close;
}

std::string Connection::head_of(Exchange const& exchange, Response& response) const {
  HeadOptions options{.framing = Framing::Length,
                      .length = response.body.size(),
                      .keep_alive = exchange.keep_alive,
                      .http_1_0 = exchange.http_1_0,
                      .date = context_.clock.wall()};
  if (response.stream) options.framing = exchange.http_1_0 ? Framing::UntilClose : Framing::Chunked;
  if (response.status == 204 || response.status == 304) options.framing = Framing::NoBody;
  Result<std::string> head = response_head(response, options);
  if (head) return std::move(*head);
  log::error("http: the answer to {} cannot be sent: {}", exchange.what, head.error().describe());
  response = problem(500, "the answer could not be sent; the log says why");
  options.framing = Framing::Length;
  options.length = response.body.size();
  return or_throw(response_head(response, options));
}

async::Task<void> Connection::send_whole(Exchange const& exchange, Response& response) {
  Duration const stall = context_.limits.write_stall_timeout;
  std::string head = head_of(exchange, response);
  bool const bodyless = exchange.head_only || response.status == 204 || response.status == 304;
  std::string_view body = bodyless ? std::string_view() : std::string_view(response.body);
  if (body.size() <= kJoinBytes) head.append(std::exchange(body, {}));
  co_await socket_.write_all(head, stall);
  co_await socket_.write_all(body, stall);
}

async::Task<Connection::Next> Connection::send_stream(Exchange& exchange, Response& response) {
  Duration const stall = context_.limits.write_stall_timeout;
  Framing const framing = exchange.http_1_0 ? Framing::UntilClose : Framing::Chunked;
  if (framing == Framing::UntilClose) exchange.keep_alive = false;
  std::string const head = head_of(exchange, response);
  co_await socket_.write_all(head, stall);
  if (!response.stream) {  // its head could not be sent: it is a whole problem now
    co_await socket_.write_all(response.body, stall);
    co_return exchange.keep_alive ? Next::Continue : Next::Close;
  }
  ChunkWriter writer(*this, framing);
  std::exception_ptr const thrown = co_await run_stream(response, writer);
  if (thrown) {
    log::error("http: the stream of {} failed: {}", exchange.what, describe(thrown));
    socket_.reset_when_closed();
  }
  if (thrown || cut_ == Cut::ClientGone) co_return Next::Close;
  if (framing == Framing::Chunked) co_await socket_.write_all("0\r\n\r\n", stall);
  bool const on = exchange.keep_alive && cut_ == Cut::Not && !context_.stopping;
  co_return on ? Next::Continue : Next::Close;
}

// What the stream threw, if that was a fault. A cancellation of the connection is thrown on.
async::Task<std::exception_ptr> Connection::run_stream(Response const& response,
                                                       BodyWriter& writer) {
  cut_ = Cut::Not;
  cut_event_.reset();
  streams_endlessly_ = response.endless;
  if (response.endless) ++context_.endless_streams;
  if (response.endless && context_.stopping) cut(Cut::Stopping);
  async::TaskGroup watch(context_.executor, "http watch");
  watch.spawn("client", watch_client());
  std::exception_ptr thrown;
  try {
    async::Task<void> body = response.stream(writer);
    co_await async::until(cut_event_, std::move(body));
  } catch (...) {
    thrown = std::current_exception();
  }
  streams_endlessly_ = false;
  if (response.endless) --context_.endless_streams;
  co_await async::ignore_cancellation();
  co_await watch.stop(Duration::max());
  co_await async::heed_cancellation();
  if (async::is_cancelled(thrown)) std::rethrow_exception(thrown);
  co_return thrown;
}

// While a stream runs, the client may send its next request ahead; an end, or a reset, means that
// nobody is listening any more. (A client that closes only its sending side looks the same: it
// loses its stream.)
async::Task<void> Connection::watch_client() {
  try {
    while (buffer_.size() < context_.limits.header_bytes) {
      std::size_t const got = co_await socket_.read_some(buffer_, kRequestReadBytes);
      if (got == 0) break;
    }
    if (buffer_.size() >= context_.limits.header_bytes) co_return;  // writes will tell
  } catch (Error const& error) {
    log::debug("http: {}: {}", peer_.address, error.describe());
  }
  cut(Cut::ClientGone);
}

async::Task<void> Connection::refuse(int status, std::string detail) {
  log::debug("http: {}: {} {}", peer_.address, status, detail);
  Exchange const exchange{.keep_alive = false, .what = "a request that was refused"};
  Response response = problem(status, detail);
  co_await send_whole(exchange, response);
  co_await linger();
}

// Closing a socket with unread bytes in it resets the connection, and the answer may be lost with
// it (RFC 9112, 9.6): end our side first, and read on for a while.
async::Task<void> Connection::linger() {
  socket_.shut_writes();
  waiting_since_ = context_.clock.now();
  co_await async::with_deadline(kLingerTimeout, discard());
}

async::Task<void> Connection::discard() {
  std::size_t total = 0;
  while (total < kLingerBytesMax) {
    buffer_.clear();
    std::size_t const got = co_await socket_.read_some(buffer_, kRequestReadBytes);
    if (got == 0) co_return;
    total += got;
  }
}

}  // namespace aether::http
