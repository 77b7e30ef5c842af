// SPDX-License-Identifier: Apache-2.0
#include "functions/gateway_ring.h"

#include <utility>
#include <vector>

#include "functions/gateway_client.h"

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

// ---- Of a gate

/// False: its owner is told.
bool Gate::open_line(GatewayBackend& backend, std::shared_ptr<HandlerRing> ring) {
  InstanceId const instance = backend.instance;
  backend.line = std::make_unique<RingLine>(
      poller(), std::move(ring),
      [this, instance](RingFault const& fault) { ring_broke(instance, fault); });
  Status const opened = backend.line->open();
  if (!opened) shared_.mail.unreachable(route_.function, instance, opened.error().message());
  return opened.has_value();
}

std::vector<GatewayClient*> Gate::clients_of(GatewayBackend const& backend) const {
  std::vector<GatewayClient*> its;
  for (auto const& [client, owned] : clients_) {
    if (client->backend() == &backend) its.push_back(client);
  }
  return its;
}

void Gate::ring_broke(InstanceId instance, RingFault const& fault) {
  GatewayBackend* const backend = find(instance);
  if (backend == nullptr) return;
  counts_->ring_broke(fault);
  // The last of its requests may take it along.
  unreachable(*backend, fault.why);
  for (GatewayClient* client : clients_of(*backend)) client->ring_broke(fault);
}

}  // namespace aether::functions
