// SPDX-License-Identifier: Apache-2.0
// GatewayClient: a request to its instance, and its answer back.
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "functions/gateway_client.h"

namespace aether::functions {
namespace {

/// Nothing came, not even an end: the connection can take a request.
bool is_quiet(int fd) {
  char byte = 0;
  return ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

}  // namespace

void GatewayClient::give(GatewayBackend& backend) {
  Instant const now = poller().clock().now();
  backend_ = &backend;
  state_ = State::Forwarding;
  request_.given = now;
  Duration const waited = now - request_.arrived;
  bool const was_made = backend.added > request_.arrived;
  request_.start.reset();
  if (was_made) request_.start = backend.added - request_.arrived;
  request_.queue = was_made ? now - backend.added : waited;
  request_.tier = std::exchange(backend.fresh, false) ? backend.tier : StartTier::Warm;
  if (request_.tier != StartTier::Warm) gate_.counts().started(request_.tier, waited);
  poller().set_alarm(*this, now + gate_.route().timeout);
  connect();
}

void GatewayClient::connect() {
  request_.head_sent = false;
  if (backend_->line) return begin_call();
  up_ = backend_->take_kept();
  // One that must not be sent twice is not sent into a connection that is closed already.
  while (up_ && !request_.repeatable && !is_quiet(up_->stream.fd())) up_ = backend_->take_kept();
  if (!up_) {
    auto made = backend_->connect();
    if (!made) return cannot_connect(made.error());
    up_ = std::move(*made);
  }
  request_.sent_before = up_->stream.bytes_sent();
  up_->stream.watch_by(*this);
  send_head();
}

bool GatewayClient::forward() {
  if (has_left()) {
    if (!answer_.begun) count(499, "client_left");
    if (answer_.begun) count(answer_.status, "client_left");
    leave();
    return false;
  }
  if (call_) return forward_call();
  if (lost_ || !up_) return false;
  bool moved = request_.head_sent ? send_body() : send_head();
  if (state_ == State::Forwarding && up_ && receive()) moved = true;
  return moved && lives();
}

/// With what has come of the body: most requests are one packet.
bool GatewayClient::send_head() {
  Stream& up = up_->stream;
  BodyMeter meter = request_.body;
  std::size_t const taken = meter.take(in_);
  if (meter.bad()) {
    refuse_body();
    return false;
  }
  switch (up.offer({request_.head, std::string_view(in_).substr(0, taken)})) {
    case Stream::Io::Blocked:
      return false;  // it is being connected
    case Stream::Io::Some:
      break;
    case Stream::Io::End:
    case Stream::Io::Broken:
      // Whatever the peer said before is still to be read.
      return false;
  }
  request_.head_sent = true;
  request_.body = meter;
  in_.erase(0, taken);
  return true;
}

bool GatewayClient::send_body() {
  Stream& up = up_->stream;
  if (request_.body.done() || up.kept() > 0 || up.cannot_send()) return false;
  if (in_.empty()) {
    if (!down_.readable()) return false;
    auto const scratch = gate_.shared().scratch;
    Stream::Got const got = down_.read(scratch);
    if (got.io == Stream::Io::Blocked) return false;
    if (got.io != Stream::Io::Some) {
      count(answer_.begun ? answer_.status : 499, "client_left");
      leave();
      return false;
    }
    std::string_view const bytes(scratch.data(), got.bytes);
    std::size_t const taken = request_.body.take(bytes);
    up.send({bytes.substr(0, taken)});
    if (taken < got.bytes) in_.assign(bytes.substr(taken));
  } else {
    std::size_t const taken = request_.body.take(in_);
    up.send({std::string_view(in_).substr(0, taken)});
    in_.erase(0, taken);
  }
  if (!request_.body.bad()) return true;
  refuse_body();
  return false;
}

void GatewayClient::refuse_body() {
  refuse({.status = 400, .code = "bad_request", .message = "a body whose chunks are not framed"});
}

bool GatewayClient::receive() {
  if (down_.kept() > 0 || !up_->stream.readable()) return false;
  auto const scratch = gate_.shared().scratch;
  Stream::Got const got = up_->stream.read(scratch);
  if (got.io == Stream::Io::Blocked) return false;
  if (got.io != Stream::Io::Some) {
    answer_ended();
    return lives();
  }
  std::string_view const bytes(scratch.data(), got.bytes);
  if (answer_.begun)
    relay({}, bytes);
  else
    take_answer(bytes);
  return lives();
}

void GatewayClient::take_answer(std::string_view bytes) {
  std::string whole;
  if (!answer_.partial.empty()) {
    whole = std::move(answer_.partial);
    whole.append(bytes);
    answer_.partial.clear();
    bytes = whole;
  }
  while (true) {
    answer_.scan.lenient = true;
    auto const step = answer_.scan.advance(bytes);
    std::size_t const length = answer_.scan.length();
    if (length > kAnswerHeadBytesMax ||
        (step != HeadScan::Step::Done && bytes.size() > kAnswerHeadBytesMax))
      return bad_answer("its head is longer than 64 KiB");
    if (step != HeadScan::Step::Done) {
      answer_.partial.assign(bytes);
      return;
    }
    std::string_view const head = bytes.substr(0, length);
    bytes.remove_prefix(length);
    answer_.scan = {};
    if (!take_answer_head(head, bytes)) return;
  }
}

/// True if it was an interim answer: another one follows.
bool GatewayClient::take_answer_head(std::string_view head, std::string_view rest) {
  static thread_local AnswerHead answer;
  if (auto const parsed = parse_answer_head(head, answer); !parsed) {
    bad_answer(parsed.error());
    return false;
  }
  if (answer.status == 101) {
    if (!request_.asked_upgrade)
      bad_answer("it changes the protocol unasked");
    else
      upgrade(answer, rest);
    return false;
  }
  if (answer.status >= 200) {
    begin_answer(answer, rest);
    return false;
  }
  if (!request_.http_1_0) {
    std::string interim;
    write_interim_head(answer, interim);
    down_.send({interim});
  }
  return true;
}

void GatewayClient::begin_answer(AnswerHead const& head, std::string_view rest) {
  answer_.begun = true;
  answer_.status = head.status;
  answer_.relaying = choose_relaying(head, request_.for_head, request_.http_1_0);
  answer_.body = BodyMeter(answer_.relaying == Relaying::Nothing ? BodyFrame{.kind = BodyKind::None}
                                                                 : head.body);
  answer_.reusable = head.keep_alive && answer_.body.kind() != BodyKind::UntilClose;
  // To a client that cannot be told otherwise, the end of the body is the end of the connection.
  bool const until_close =
      answer_.relaying == Relaying::Unchunked ||
      (answer_.relaying == Relaying::Verbatim && answer_.body.kind() == BodyKind::UntilClose);
  keep_alive_ = keep_alive_ && !until_close && request_.body.done() && !gate_.closing();
  // From here on it may take as long as it likes: an event stream has no end.
  poller().clear_alarm(*this);
  static thread_local std::string bytes;
  bytes.clear();
  AnswerFacts const facts{.call_id = request_.call_id,
                          .tier = request_.tier,
                          .queue = request_.queue,
                          .start = request_.start,
                          .function = poller().clock().now() - request_.given,
                          .relaying = answer_.relaying,
                          .keep_alive = keep_alive_,
                          .http_1_0 = request_.http_1_0};
  write_answer_head(head, facts, bytes);
  relay(bytes, rest);
}

void GatewayClient::relay(std::string_view head, std::string_view bytes) {
  std::size_t taken = 0;
  Stream::Io sent = Stream::Io::Some;
  if (answer_.relaying == Relaying::Unchunked) {
    std::string plain;
    taken = answer_.body.take(bytes, &plain);
    sent = down_.send({head, plain});
  } else {
    taken = answer_.body.take(bytes);
    std::string_view const body = bytes.substr(0, taken);
    if (answer_.relaying == Relaying::AsChunks && !body.empty()) {
      std::string const size = fmt::format("{:x}\r\n", body.size());
      sent = down_.send({head, size, body, "\r\n"});
    } else {
      sent = down_.send({head, body});
    }
  }
  if (taken < bytes.size()) answer_.reusable = false;  // more than it announced
  if (sent == Stream::Io::Broken) {
    count(answer_.status, "client_left");
    return leave();
  }
  if (answer_.body.bad()) return cut();
  if (answer_.body.done()) finish();
}

void GatewayClient::answer_ended() {
  if (!answer_.begun) return upstream_lost();
  // A reset behind the answer of one that does not say how long it is counts as its end: such a
  // program did not read the whole request, and closed.
  if (answer_.body.kind() != BodyKind::UntilClose) return cut();
  if (answer_.relaying == Relaying::AsChunks) down_.send({"0\r\n\r\n"});
  finish();
}

/// The connection ended before there was an answer.
void GatewayClient::upstream_lost() {
  bool const nothing_sent = up_->stream.bytes_sent() == request_.sent_before;
  bool const used_before = up_->used_before;
  int const error = up_->stream.error();
  up_.reset();
  bool const nothing_came = answer_.partial.empty();
  if (used_before && nothing_came && (nothing_sent || request_.repeatable)) return connect();
  if (nothing_sent) {
    std::string const where = fmt::format("127.0.0.1:{}", backend_->port);
    std::string why = system_error_from(error, "connect", where).message();
    return cannot_connect(Error(ErrorCode::Unreachable, std::move(why), error));
  }
  // Who ended it knows why, and says so in a moment.
  lost_ = true;
  Instant const then = poller().clock().now() + gate_.shared().limits.cause_timeout;
  poller().set_alarm(*this, std::min(then, request_.given + gate_.route().timeout));
}

void GatewayClient::cannot_connect(Error const& why) {
  if (why.code() != ErrorCode::Unreachable) {
    return refuse({.status = 503, .code = "overloaded", .message = why.message()});
  }
  gate_.unreachable(*backend_, why.message());
  release_backend();
  gate_.wait_again(*this);
}

void GatewayClient::backend_ended(BackendEnd const& why) {
  woken();  // what it said before it ended counts
  if (!lives() || !backend_) return;
  if (answer_.begun || state_ == State::Tunnel) return cut();
  bool const memory = why.kind == BackendEnd::Kind::OutOfMemory;
  refuse(
      {.status = 502, .code = memory ? "out_of_memory" : "handler_died", .message = why.message});
}

void GatewayClient::bad_answer(std::string_view why) {
  refuse({.status = 502,
          .code = "bad_answer",
          .message = fmt::format("the handler's answer is not HTTP: {}", why)});
}

void GatewayClient::finish() {
  count(answer_.status, {});
  bool const reusable = up_ && answer_.reusable && request_.body.done() &&
                        up_->stream.kept() == 0 && !up_->stream.cannot_send();
  if (reusable) backend_->keep(std::move(up_));
  up_.reset();
  call_.reset();
  release_backend();
  keep_alive_ = keep_alive_ && request_.body.done();
  end_request();
}

/// For the client to send it, that is, not for the handler to take it.
bool GatewayClient::waits_for_body() const {
  if (request_.body.done()) return false;
  if (up_) return up_->stream.kept() == 0;
  RingExchange::Call const* const call = call_ ? call_->state() : nullptr;
  return call != nullptr && call->credit > 0 && !call_->line().is_full();
}

void GatewayClient::release_backend() {
  if (backend_ != nullptr) gate_.release(*std::exchange(backend_, nullptr));
}

/// The answer cannot be brought to its end. The client must see that.
void GatewayClient::cut() {
  if (state_ != State::Tunnel) count(answer_.status, "cut_off");
  // Where the end of the connection is the end of the body, only a reset says so.
  bool const by_length =
      answer_.relaying == Relaying::AsChunks || answer_.body.kind() == BodyKind::Length ||
      (answer_.body.kind() == BodyKind::Chunked && answer_.relaying == Relaying::Verbatim);
  if (!by_length) down_.reset();
  leave();
}

void GatewayClient::watch_stall() {
  bool const stalled = down_.kept() > 0 && (answer_.begun || state_ == State::Tunnel);
  if (!stalled) {
    if (std::exchange(stall_watched_, false) && answer_.begun) poller().clear_alarm(*this);
    return;
  }
  if (stall_watched_ && stall_sent_ == down_.bytes_sent()) return;
  stall_watched_ = true;
  stall_sent_ = down_.bytes_sent();
  poller().set_alarm(*this, poller().turn() + gate_.shared().limits.stall_timeout);
}

void GatewayClient::due() {
  switch (state_) {
    case State::Gone:
      return;
    case State::Tunnel:
      return leave();  // nothing was taken for so long
    case State::Lingering:
      if (down_.kept() == 0 || stall_sent_ == down_.bytes_sent()) return leave();
      stall_sent_ = down_.bytes_sent();
      poller().set_alarm(*this, poller().turn() + gate_.shared().limits.stall_timeout);
      return;
    case State::Resting:
      if (in_.empty() || down_.kept() > 0) return leave();
      return refuse_head(408, "the head did not come to its end in time");
    case State::Waiting:
      return refuse({.status = 503,
                     .code = "queue_timeout",
                     .message = fmt::format("no instance had room within {}",
                                            format_duration(gate_.route().queue_timeout))});
    case State::Forwarding:
      break;
  }
  if (answer_.begun) return cut();
  if (lost_) {
    return refuse({.status = 502,
                   .code = "no_answer",
                   .message = "the handler closed the connection without an answer"});
  }
  std::string const limit = format_duration(gate_.route().timeout);
  if (waits_for_body()) {
    return refuse({.status = 408,
                   .code = "request_timeout",
                   .message = fmt::format("the request's body did not come within {}", limit)});
  }
  gate_.timed_out(*backend_);
  refuse({.status = 504,
          .code = "timeout",
          .message = fmt::format("the handler did not answer within timeout_ms, {}", limit)});
}

}  // namespace aether::functions
