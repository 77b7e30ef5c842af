// SPDX-License-Identifier: Apache-2.0
// Inside of this room: a client's connection from accept to close, with the request it is at.
#pragma once
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "functions/gateway_gate.h"
#include "functions/gateway_rewrite.h"
#include "functions/gateway_ring.h"
#include "functions/proxy_body.h"
#include "functions/proxy_stream.h"
#include "http/listen.h"

namespace aether::functions {

class GatewayClient final : public Watcher {
 public:
  GatewayClient(Gate& gate, http::SocketAddress const& address);

  [[nodiscard]] Status open(os::UniqueFd fd);
  /// An instance has room for the request that waits.
  void give(GatewayBackend& backend);
  /// Of the request that waits, or is unanswered; one that is being answered is cut off.
  void refuse(OwnAnswer const& answer);
  /// Its instance is gone.
  void backend_ended(BackendEnd const& why);
  /// Its instance said what cannot be.
  void ring_broke(RingFault const& fault);
  /// The gate closes: no request after this one.
  void hurry();
  /// Leaves at once.
  void leave();
  [[nodiscard]] GatewayBackend* backend() const { return backend_; }

  void woken() override;
  void due() override;

 private:
  friend class Gate;
  enum class State : std::uint8_t {
    Resting,     // between requests, or in a head
    Waiting,     // for an instance
    Forwarding,  // a request and its answer
    Tunnel,      // after an upgrade
    Lingering,   // answered, and reading on so that the client sees it
    Gone
  };
  struct Request {
    std::string head;  // as the handler gets it
    std::string call_id;
    BodyMeter body;
    bool for_head = false;
    bool repeatable = false;  // idempotent, and without a body
    bool http_1_0 = false;
    bool asked_upgrade = false;
    bool head_sent = false;
    std::uint64_t sent_before = 0;  // on this connection, by other requests
    Instant first_byte;
    Instant arrived;
    Instant given;
    Instant deadline;  // of the wait for room
    Duration queue{};
    std::optional<Duration> start;
    StartTier tier = StartTier::Warm;
  };
  struct Answer {
    bool begun = false;  // its head is on its way to the client
    int status = 0;
    Relaying relaying = Relaying::Nothing;
    BodyMeter body;
    bool reusable = false;  // the handler keeps its connection
    HeadScan scan;
    std::string partial;  // of its head
  };

  // gateway_client.cc: the connection, and heads of requests
  bool step();
  bool read_head();
  bool take_head();
  void begin_request(RequestHead const& head);
  bool is_probe(RequestHead const& head);
  void refuse_head(int status, std::string detail);
  void answer_self(std::string const& bytes, int status, std::string_view code, bool whole);
  void end_request();
  void rest();
  void linger();
  bool drain();
  [[nodiscard]] bool has_left();
  [[nodiscard]] bool is_owned_still() const;
  [[nodiscard]] bool lives() const { return state_ != State::Gone; }

  // gateway_call.cc: a request to an instance with `ipc: ring`
  void begin_call();
  std::string take_for_call(std::size_t most);
  bool forward_call();
  bool send_call_body();
  bool receive_call();
  void take_call_head(RingExchange::Call& call);

  // gateway_forward.cc: a request to its instance, and its answer back
  bool forward();
  void connect();
  bool send_head();
  bool send_body();
  void refuse_body();
  bool receive();
  void take_answer(std::string_view bytes);
  bool take_answer_head(std::string_view head, std::string_view rest);
  void begin_answer(AnswerHead const& head, std::string_view rest);
  void relay(std::string_view head, std::string_view bytes);
  void answer_ended();
  void upstream_lost();
  void cannot_connect(Error const& why);
  void bad_answer(std::string_view why);
  void finish();
  [[nodiscard]] bool waits_for_body() const;
  void release_backend();
  void cut();
  void upgrade(AnswerHead const& head, std::string_view rest);
  bool tunnel();
  Stream::Io carry(Stream& from, Stream& to);
  void count(int status, std::string_view code);
  void watch_stall();

  Gate& gate_;
  http::SocketAddress address_;
  std::string ip_;  // text of the address, made when it is needed
  Stream down_;
  State state_ = State::Resting;
  std::string in_;  // came, and is not used yet
  HeadScan scan_;
  bool keep_alive_ = true;
  bool half_closed_ = false;  // it sends no more, but waits for its answer
  Request request_;
  Answer answer_;
  GatewayBackend* backend_ = nullptr;
  std::unique_ptr<Upstream> up_;
  std::unique_ptr<RingCall> call_;  // in place of up_, with ipc: ring
  bool up_ended_ = false;           // of a tunnel: that side sends no more
  bool down_ended_ = false;
  bool lost_ = false;  // the instance closed without an answer: why is not known yet
  std::uint64_t stall_sent_ = 0;
  bool stall_watched_ = false;
  std::size_t lingered_ = 0;
  std::list<GatewayClient*>::iterator queued_at_;
  std::list<GatewayClient*>::iterator resting_at_;
  bool in_queue_ = false;
  bool in_rest_ = false;
};

}  // namespace aether::functions
