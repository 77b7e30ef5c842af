// SPDX-License-Identifier: Apache-2.0
// Inside of this room: one function's gate: its trigger port, its clients, its instances, and the
// requests that wait for room in them. On the poller's thread.
#pragma once
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "functions/gateway.h"
#include "functions/gateway_backend.h"
#include "functions/gateway_counts.h"
#include "functions/gateway_mail.h"
#include "functions/proxy_poller.h"

namespace aether::functions {

class GatewayClient;

/// Makes ids that nobody guesses.
class IdMint {
 public:
  /// 32 lower-case hexadecimal digits.
  [[nodiscard]] std::string make();

 private:
  std::vector<unsigned char> random_;
};

/// What all gates of a gateway share.
struct GatewayShared {
  Poller& poller;
  GatewayLimits const& limits;
  DemandMail& mail;
  std::span<char> scratch;  ///< One piece: whoever reads into it empties it before it returns.
  IdMint& ids;
};

class Gate final : public Watcher {
 public:
  Gate(GatewayShared shared, RouteSpec route, std::shared_ptr<GatewayCounts> counts);
  ~Gate() override;

  // For the gateway.
  [[nodiscard]] Status open(os::UniqueFd listener);
  void change(RouteSpec const& route);
  void add(Backend const& backend);
  void remove(InstanceId instance, BackendEnd const& why);
  /// Calls it when that instance has no requests (or is not known).
  void when_drained(InstanceId instance, std::function<void()> then);
  void fail_waiting(std::string const& reason);
  /// No new connections; calls it when the last client has gone.
  void close(std::function<void()> then);
  /// Cuts off who is left.
  void cut_all();

  // For its clients.
  [[nodiscard]] RouteSpec const& route() const { return route_; }
  [[nodiscard]] GatewayShared const& shared() const { return shared_; }
  [[nodiscard]] GatewayCounts& counts() { return *counts_; }
  [[nodiscard]] bool closing() const { return closing_; }
  [[nodiscard]] bool has_room() const { return in_flight_ + queue_.size() < route_.max_inflight; }
  /// The request gets an instance, now or later, by GatewayClient::give(); or is refused later.
  void arrived(GatewayClient& client);
  /// It waits no more.
  void leave_queue(GatewayClient& client);
  /// Its request has ended there.
  void release(GatewayBackend& backend);
  /// The instance cannot be connected to: it gets nothing until the owner has replaced it.
  void unreachable(GatewayBackend& backend, std::string why);
  /// Its instance got nothing of the request: it waits again, before all others.
  void wait_again(GatewayClient& client);
  /// It said through its ring what cannot be: its requests end, and it gets nothing until the owner
  /// has replaced it.
  void ring_broke(InstanceId instance, RingFault const& fault);
  /// Its handler hangs: it gets nothing until the owner has replaced it.
  void timed_out(GatewayBackend& backend);
  void began_rest(GatewayClient& client);
  void ended_rest(GatewayClient& client);
  void gone(GatewayClient& client);

  void woken() override;
  void due() override;

 private:
  void accept_clients(int most);
  bool accept_one();
  void make_place();
  void hand_out();
  [[nodiscard]] GatewayBackend* choose();
  void give(GatewayClient& client, GatewayBackend& backend);
  void queue_changed();
  void tell_busy();
  void touched(GatewayBackend& backend);
  // gateway_ring.cc
  [[nodiscard]] bool open_line(GatewayBackend& backend, std::shared_ptr<HandlerRing> ring);
  [[nodiscard]] std::vector<GatewayClient*> clients_of(GatewayBackend const& backend) const;
  void erase_if_over(GatewayBackend& backend);
  void closed_if_over();
  [[nodiscard]] GatewayBackend* find(InstanceId instance);

  GatewayShared shared_;
  RouteSpec route_;
  std::shared_ptr<GatewayCounts> counts_;
  os::UniqueFd listener_;
  Readiness listening_;
  std::unordered_map<GatewayClient*, std::unique_ptr<GatewayClient>> clients_;
  std::list<GatewayClient*> queue_;
  std::list<GatewayClient*> resting_;  // longest first
  std::vector<std::unique_ptr<GatewayBackend>> backends_;
  std::multimap<InstanceId, std::function<void()>> drained_;
  std::function<void()> closed_;
  std::uint32_t in_flight_ = 0;
  Instant told_at_{};
  Instant accept_again_ = Instant::max();
  bool busy_changed_ = false;
  bool closing_ = false;
  bool scarce_ = false;  // of descriptors: said once
};

}  // namespace aether::functions
