// SPDX-License-Identifier: Apache-2.0
// GatewayClient: a request to an instance with `ipc: ring`, and its answer back.
#include <algorithm>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "functions/gateway_client.h"

namespace aether::functions {
namespace {

constexpr std::string_view kChunkedField = "\r\nTransfer-Encoding: chunked\r\n";
constexpr std::string_view kExpectField = "\r\nExpect: 100-continue\r\n";
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

/// The head as a handler behind a ring gets it: its body comes without frames.
std::string without_field(std::string head, std::string_view field) {
  std::size_t const at = head.find(field);
  if (at != std::string::npos) head.erase(at, field.size() - 2);
  return head;
}

}  // namespace

void GatewayClient::begin_call() {
  if (request_.asked_upgrade) {
    return refuse({.status = 501,
                   .code = "upgrade_refused",
                   .message = "a handler with ipc: ring takes no WebSockets and no other upgrades; "
                              "give the function ipc: http"});
  }
  std::string head = without_field(request_.head, kChunkedField);
  std::string const asked = without_field(head, kExpectField);
  // The ring takes the body whatever the handler says to it.
  if (asked.size() != head.size() && !request_.http_1_0 && !request_.body.done())
    down_.send({kContinue});
  std::string const body = take_for_call(kRingWindow);
  if (request_.body.bad()) return refuse_body();
  request_.head_sent = true;
  RingLine& line = *backend_->line;
  call_ = std::make_unique<RingCall>(line, line.begin(*this, asked, body, request_.body.done()));
}

/// Of what has come of the body, at most so many bytes, without frames.
std::string GatewayClient::take_for_call(std::size_t most) {
  std::string plain;
  std::size_t const taken = request_.body.take(std::string_view(in_).substr(0, most), &plain);
  in_.erase(0, taken);
  return plain;
}

bool GatewayClient::forward_call() {
  bool const sent = send_call_body();
  if (state_ != State::Forwarding || !call_) return false;
  bool const received = receive_call();
  return (sent || received) && lives();
}

bool GatewayClient::send_call_body() {
  RingExchange::Call const* const call = call_->state();
  if (request_.body.done() || call == nullptr || call->sent_all) return false;
  if (call->credit == 0 || call_->line().is_full()) return false;
  if (in_.empty()) {
    if (!down_.readable()) return false;
    auto const scratch = gate_.shared().scratch;
    Stream::Got const got =
        down_.read(scratch.first(std::min<std::size_t>(scratch.size(), call->credit)));
    if (got.io == Stream::Io::Blocked) return false;
    if (got.io != Stream::Io::Some) {
      count(answer_.begun ? answer_.status : 499, "client_left");
      leave();
      return false;
    }
    in_.assign(scratch.data(), got.bytes);
  }
  std::string const plain = take_for_call(call->credit);
  if (request_.body.bad()) {
    refuse_body();
    return false;
  }
  if (!plain.empty() || request_.body.done()) call_->send(plain, request_.body.done());
  return true;
}

bool GatewayClient::receive_call() {
  RingExchange::Call* const call = call_->state();
  if (call == nullptr || down_.kept() > 0) return false;
  if (!answer_.begun) {
    if (call->has_head) {
      take_call_head(*call);
      return lives();
    }
    if (call->failure.empty()) return false;
    refuse({.status = 502,
            .code = "handler_failed",
            .message = fmt::format("the handler gave the request up: {}", call->failure)});
    return false;
  }
  if (!call->body.empty()) {
    std::string const piece = call->body.substr(0, kPieceBytes);
    call_->taken(piece.size());
    relay({}, piece);
    return lives();
  }
  if (!call->failure.empty()) {
    cut();
    return false;
  }
  if (!call->ended) return false;
  answer_ended();
  return lives();
}

void GatewayClient::take_call_head(RingExchange::Call& call) {
  static thread_local AnswerHead answer;
  std::string const head = std::move(call.head);
  std::string const body = call.body.substr(0, kPieceBytes);
  if (auto const parsed = parse_answer_head(head, answer); !parsed)
    return bad_answer(parsed.error());
  if (answer.status < 200) return bad_answer("interim answers do not go through a ring");
  if (answer.body.kind == BodyKind::Chunked)
    return bad_answer("Transfer-Encoding, which a ring has none of");
  bool const has_length = !find_field(answer.fields, "Content-Length").empty();
  // All of it is here: the client is told how long it is.
  bool const may_say = !request_.for_head && answer.status != 304;
  if (!has_length && may_say && call.ended && body.size() == call.body.size())
    answer.body = {.kind = BodyKind::Length, .length = body.size()};
  call_->taken(body.size());
  begin_answer(answer, body);
}

void GatewayClient::ring_broke(RingFault const& fault) {
  if (!lives() || !call_) return;
  if (answer_.begun) return cut();
  refuse({.status = 502, .code = "ring_poisoned", .message = fault.why});
}

}  // namespace aether::functions
