// SPDX-License-Identifier: Apache-2.0
// Inside of this room: the gateway's side of one handler's rings, on the poller, and one call over
// them as a client holds it.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <unordered_map>

#include "functions/handler_ring.h"
#include "functions/proxy_poller.h"

namespace aether::functions {

class RingLine final : public Watcher {
 public:
  /// @param broke Is called once, when the handler said what cannot be. Nothing is taken from it
  /// any more.
  using Broke = std::function<void(RingFault const&)>;
  RingLine(Poller& poller, std::shared_ptr<HandlerRing> ring, Broke broke);
  ~RingLine() override;

  [[nodiscard]] Status open();
  /// `owner` is woken for whatever comes of this call, until drop().
  std::uint32_t begin(Watcher& owner, std::string_view head, std::string_view body, bool is_all);
  void send(std::uint32_t call, std::string_view body, bool is_all);
  void taken(std::uint32_t call, std::size_t bytes);
  void drop(std::uint32_t call);
  [[nodiscard]] RingExchange::Call* find(std::uint32_t call);
  /// The handler has not taken yet what it was sent: owners are woken when it has.
  [[nodiscard]] bool is_full() const { return is_full_; }

  /// Takes what the handler has written.
  void woken() override;

 private:
  void flush();

  std::shared_ptr<HandlerRing> ring_;
  Broke broke_;
  Readiness readiness_;
  std::unordered_map<std::uint32_t, Watcher*> owners_;
  bool is_open_ = false;
  bool is_full_ = false;
  bool is_broken_ = false;
};

/// A call of one request. Dropped when it goes.
class RingCall {
 public:
  RingCall(RingLine& line, std::uint32_t id) : line_(line), id_(id) {}
  ~RingCall() { line_.drop(id_); }
  RingCall(RingCall const&) = delete;
  RingCall& operator=(RingCall const&) = delete;

  [[nodiscard]] RingExchange::Call* state() const { return line_.find(id_); }
  [[nodiscard]] RingLine& line() const { return line_; }
  void send(std::string_view body, bool is_all) const { line_.send(id_, body, is_all); }
  void taken(std::size_t bytes) const { line_.taken(id_, bytes); }

 private:
  RingLine& line_;
  std::uint32_t id_;
};

}  // namespace aether::functions
