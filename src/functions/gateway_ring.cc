// SPDX-License-Identifier: Apache-2.0
#include "functions/gateway_ring.h"

#include <utility>
#include <vector>

namespace aether::functions {
RingLine::RingLine(Poller& poller, std::shared_ptr<HandlerRing> ring, Broke broke)
    : Watcher(poller), ring_(std::move(ring)), broke_(std::move(broke)) {}

RingLine::~RingLine() {
  if (is_open_) poller().unwatch(ring_->wake_fd());
}

Status RingLine::open() {
  readiness_.watcher = this;
  TRY(poller().watch(ring_->wake_fd(), readiness_));
  is_open_ = true;
  poller().wake(*this);  // what came before is there without an edge
  return {};
}

std::uint32_t RingLine::begin(Watcher& owner, std::string_view head, std::string_view body,
                              bool is_all) {
  std::uint32_t const id = ring_->exchange().begin(head, body, is_all);
  owners_[id] = &owner;
  flush();
  return id;
}

void RingLine::send(std::uint32_t call, std::string_view body, bool is_all) {
  ring_->exchange().send(call, body, is_all);
  flush();
}

void RingLine::taken(std::uint32_t call, std::size_t bytes) {
  ring_->exchange().taken(call, bytes);
  if (!ring_->exchange().outbox().empty()) flush();
}

void RingLine::drop(std::uint32_t call) {
  owners_.erase(call);
  ring_->exchange().drop(call);
  flush();
}

RingExchange::Call* RingLine::find(std::uint32_t call) {
  return ring_->exchange().find(call);
}

void RingLine::flush() {
  if (is_broken_) return;
  if (!ring_->send()) return poller().wake(*this);  // where it is told, and not in here
  bool const was_full = std::exchange(is_full_, !ring_->exchange().outbox().empty());
  if (!was_full || is_full_) return;
  for (auto const& [id, owner] : owners_) poller().wake(*owner);
}

void RingLine::woken() {
  if (is_broken_) return;
  readiness_.readable = false;
  auto const received = ring_->receive();
  for (std::uint32_t const id : ring_->exchange().touched()) {
    auto const owner = owners_.find(id);
    if (owner != owners_.end()) poller().wake(*owner->second);
  }
  if (!received) {
    is_broken_ = true;
    broke_(received.error());
    return;
  }
  if (*received) poller().wake(*this);  // there is more: others have their turn
  flush();
}

}  // namespace aether::functions
