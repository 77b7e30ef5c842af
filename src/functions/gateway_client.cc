// SPDX-License-Identifier: Apache-2.0
#include "functions/gateway_client.h"

#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "http/ascii.h"
#include "http/local_peer.h"

namespace aether::functions {
namespace {

/// Empty lines before a request that are ignored (RFC 9112, 2.2), and no more of them.
constexpr std::size_t kLeadingBytesMax = 8;
constexpr std::size_t kCallIdMax = 128;

std::string ip_of(http::SocketAddress const& address) {
  std::string text = address.text();
  text.resize(std::min(text.rfind(':'), text.size()));
  if (text.starts_with('[')) text = text.substr(1, text.size() - 2);
  return text;
}

/// What may be sent twice when it is not known whether it arrived (RFC 9110, 9.2.2).
bool is_idempotent(std::string_view method) {
  return method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "PUT" ||
         method == "DELETE" || method == "TRACE";
}

}  // namespace

GatewayClient::GatewayClient(Gate& gate, http::SocketAddress const& address)
    : Watcher(gate.poller()), gate_(gate), address_(address), down_(gate.poller()) {}

Status GatewayClient::open(os::UniqueFd fd) {
  TRY(down_.open(std::move(fd), *this));
  rest();
  return {};
}

void GatewayClient::rest() {
  state_ = State::Resting;
  gate_.began_rest(*this);
  GatewayLimits const& limits = gate_.shared().limits;
  if (in_.empty()) return poller().set_alarm(*this, poller().turn() + limits.idle_timeout);
  request_.first_byte = poller().clock().now();  // it sent the next one before it had its answer
  poller().set_alarm(*this, request_.first_byte + limits.head_timeout);
}

void GatewayClient::woken() {
  if (state_ == State::Gone) return;
  if (down_.flush() == Stream::Io::Broken) return leave();
  if (up_) (void)up_->stream.flush();  // if it fails, an answer may still be there
  std::size_t pieces = kTurnBytes / kPieceBytes;
  while (step()) {
    if (--pieces > 0) continue;
    poller().wake(*this);
    break;
  }
  if (lives()) watch_stall();
}

bool GatewayClient::step() {
  switch (state_) {
    case State::Resting:
      return read_head();
    case State::Waiting:
      if (has_left()) {
        count(499, "client_left");
        leave();
      }
      return false;
    case State::Forwarding:
      return forward();
    case State::Tunnel:
      return tunnel();
    case State::Lingering:
      return drain();
    case State::Gone:
      return false;
  }
  return false;
}

bool GatewayClient::read_head() {
  if (down_.kept() > 0) return false;  // it has not taken its last answer yet
  if (!in_.empty() && take_head()) return lives();
  if (!lives() || !down_.readable()) return false;
  auto const scratch = gate_.shared().scratch;
  Stream::Got const got = down_.read(scratch);
  if (got.io == Stream::Io::Blocked) return false;
  if (got.io != Stream::Io::Some) {
    leave();  // between requests, or with half of a head, which nobody can answer
    return false;
  }
  if (in_.empty()) {
    request_.first_byte = gate_.shared().poller.clock().now();
    poller().set_alarm(*this, request_.first_byte + gate_.shared().limits.head_timeout);
  }
  in_.append(scratch.data(), got.bytes);
  return true;
}

/// True if a head was there, whatever became of it.
bool GatewayClient::take_head() {
  std::size_t leading = 0;
  while (in_.compare(leading, 2, "\r\n") == 0 && leading < kLeadingBytesMax) leading += 2;
  if (leading > 0) in_.erase(0, leading);
  std::size_t const most = gate_.shared().limits.head_bytes;
  switch (scan_.advance(in_)) {
    case HeadScan::Step::BareLineEnd:
      refuse_head(400, "a line that ends without CR");
      return true;
    case HeadScan::Step::NeedMore:
      if (in_.size() <= most) return false;
      refuse_head(431, fmt::format("the head is longer than {} bytes", most));
      return true;
    case HeadScan::Step::Done:
      break;
  }
  std::size_t const length = std::exchange(scan_, {}).length();
  if (length > most) {
    refuse_head(431, fmt::format("the head is longer than {} bytes", most));
    return true;
  }
  // Its memory is used again by whoever comes next on this thread: nothing keeps views into it.
  static thread_local RequestHead head;
  auto const parsed = parse_request_head(std::string_view(in_).substr(0, length), head);
  if (!parsed) {
    refuse_head(parsed.error().status, parsed.error().detail);
    return true;
  }
  gate_.ended_rest(*this);
  request_.http_1_0 = head.http_1_0;
  request_.for_head = head.method == "HEAD";
  request_.body = BodyMeter(head.body);
  keep_alive_ = head.keep_alive && !gate_.closing();
  if (is_probe(head)) {
    bool const ready = !head.target.starts_with("/_/ready") || gate_.has_room();
    in_.erase(0, length);
    std::string const bytes = write_probe_answer(ready, keep_alive_, request_.for_head);
    answer_self(bytes, 0, {}, request_.body.done());
    return true;
  }
  begin_request(head);
  in_.erase(0, length);
  if (gate_.has_room()) {
    gate_.arrived(*this);
  } else {
    refuse({.status = 429,
            .code = "too_many",
            .message = fmt::format("{} requests are in flight already, which is its max_inflight",
                                   gate_.route().max_inflight)});
  }
  return true;
}

bool GatewayClient::is_probe(RequestHead const& head) {
  if (head.method != "GET" && !request_.for_head) return false;
  return head.target == "/_/health" || head.target == "/_/ready" ||
         find_field(head.fields, "User-Agent").starts_with("kube-probe/");
}

void GatewayClient::begin_request(RequestHead const& head) {
  request_.arrived = gate_.shared().poller.clock().now();
  request_.deadline = request_.arrived + gate_.route().queue_timeout;
  request_.repeatable = request_.body.done() && is_idempotent(head.method);
  request_.asked_upgrade = head.asks_upgrade;
  std::string_view const call_id = find_field(head.fields, "X-Call-Id");
  bool const accepted =
      !call_id.empty() && call_id.size() <= kCallIdMax && http::is_visible(call_id);
  request_.call_id = accepted ? std::string(call_id) : gate_.shared().ids.make();
  std::string traceparent(find_field(head.fields, "Traceparent"));
  if (traceparent.empty()) {
    // A call that was given no id and no trace has the same number in both.
    std::string const trace = accepted ? gate_.shared().ids.make() : request_.call_id;
    traceparent = fmt::format("00-{}-{}-01", trace, gate_.shared().ids.make().substr(16));
  }
  if (ip_.empty()) ip_ = ip_of(address_);
  request_.head = write_request_head(
      head, {.client = ip_, .call_id = request_.call_id, .traceparent = traceparent});
  // One that closed its sending side with its request, as a pipe does, is waiting for the answer.
  if (down_.peer_closed() && (!address_.is_loopback() || is_owned_still())) half_closed_ = true;
  if (half_closed_) keep_alive_ = false;
}

void GatewayClient::refuse_head(int status, std::string detail) {
  gate_.ended_rest(*this);
  keep_alive_ = false;
  std::string_view const code = status == 431 ? "head_too_large" : "bad_request";
  OwnAnswer const answer{.status = status, .code = code, .message = std::move(detail)};
  answer_self(write_own_answer(answer, gate_.route().function, {}, false, false), status, code,
              false);
}

void GatewayClient::refuse(OwnAnswer const& answer) {
  if (answer_.begun) return cut();
  bool const whole = request_.body.done();
  keep_alive_ = keep_alive_ && whole;
  std::string const bytes = write_own_answer(answer, gate_.route().function, request_.call_id,
                                             keep_alive_, request_.for_head);
  answer_self(bytes, answer.status, answer.code, whole);
}

/// @param whole The request was read to its end: another one may follow.
void GatewayClient::answer_self(std::string const& bytes, int status, std::string_view code,
                                bool whole) {
  if (in_queue_) gate_.leave_queue(*this);
  up_.reset();
  call_.reset();
  release_backend();
  if (status != 0) count(status, code);  // before anybody can ask what was counted
  Stream::Io const sent = down_.send({bytes});
  if (sent == Stream::Io::Broken) return leave();
  if (!whole) keep_alive_ = false;
  end_request();
}

void GatewayClient::end_request() {
  lost_ = false;
  request_ = {};
  answer_ = {};
  // What came meanwhile makes no edge again: the next request may be there.
  if (!in_.empty() || down_.readable()) poller().wake(*this);
  if (keep_alive_) return rest();
  linger();
}

void GatewayClient::linger() {
  state_ = State::Lingering;
  lingered_ = in_.size();
  in_.clear();
  down_.shut_writes();
  GatewayLimits const& limits = gate_.shared().limits;
  stall_sent_ = down_.bytes_sent();
  Duration const wait = down_.kept() > 0 ? limits.stall_timeout : limits.linger_timeout;
  poller().set_alarm(*this, poller().turn() + wait);
}

/// To close while bytes are unread would be a reset, which takes the answer from the client.
bool GatewayClient::drain() {
  if (!down_.readable()) {
    if (down_.peer_closed() && down_.kept() == 0) leave();
    return false;
  }
  Stream::Got const got = down_.read(gate_.shared().scratch);
  if (got.io == Stream::Io::Blocked) return false;
  lingered_ += got.bytes;
  bool const over = lingered_ > gate_.shared().limits.linger_bytes;
  if (got.io == Stream::Io::Some && !over) return true;
  if (down_.kept() > 0 && got.io == Stream::Io::End) return false;  // it still takes its answer
  leave();
  return false;
}

bool GatewayClient::is_owned_still() const {
  http::SocketAddress ours;
  ours.length = sizeof(ours.storage);
  auto* out = reinterpret_cast<sockaddr*>(&ours.storage);
  if (::getsockname(down_.fd(), out, &ours.length) != 0) return false;
  return http::user_of_connection(address_, ours).has_value();
}

/// An end of its sending side is what shutdown() and close() have in common. On this machine the
/// kernel knows which it was; from afar it is taken for leaving, as nginx, Envoy and Go do.
bool GatewayClient::has_left() {
  if (down_.broken()) return true;
  if (!down_.peer_closed() || half_closed_) return false;
  if (!address_.is_loopback() || !is_owned_still()) return true;
  half_closed_ = true;
  keep_alive_ = false;
  return false;
}

void GatewayClient::hurry() {
  keep_alive_ = false;
  if (state_ != State::Resting) return;
  // Its next request may be here already: that one is still answered.
  down_.look_again();
  woken();
  if (state_ == State::Resting && in_.empty() && down_.kept() == 0) leave();
}

void GatewayClient::leave() {
  if (state_ == State::Gone) return;
  state_ = State::Gone;
  poller().clear_alarm(*this);
  if (in_queue_) gate_.leave_queue(*this);
  gate_.ended_rest(*this);
  up_.reset();
  call_.reset();
  down_.close();
  release_backend();
  gate_.gone(*this);
}

void GatewayClient::count(int status, std::string_view code) {
  Instant const now = poller().clock().now();
  Instant const begun = request_.first_byte == Instant() ? now : request_.first_byte;
  gate_.counts().answered(status, now - begun, code);
}

}  // namespace aether::functions
