// SPDX-License-Identifier: Apache-2.0
#include "functions/gateway.h"

#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <map>
#include <thread>
#include <utility>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

#include "async/event.h"
#include "async/timers.h"
#include "base/address.h"
#include "base/check.h"
#include "base/log.h"
#include "functions/gateway_gate.h"
#include "http/listen.h"
#include "os/signals_blocked.h"
#include "steer/sock_diag.h"

namespace aether::functions {
namespace {

/// How much later than its deadline a wait for the gateway's thread gives up: it never should.
constexpr Duration kThreadGrace = std::chrono::seconds(5);

using Gates = std::map<std::string, std::unique_ptr<Gate>, std::less<>>;

Failure cannot_listen(std::uint16_t port, int reason) {
  std::string const where = fmt::format("port {}", port);
  if (reason == EADDRINUSE) {
    auto const address = parse_address(fmt::format("0.0.0.0:{}", port));
    std::string const holder =
        address ? steer::describe_holder(*address) : std::string("another program");
    return fail(ErrorCode::AddressInUse,
                fmt::format("{} listens on {} already: stop it, or choose another trigger_port",
                            holder, where),
                reason);
  }
  std::string_view const hint =
      reason == EACCES ? "; ports below 1024 need CAP_NET_BIND_SERVICE" : "";
  return fail(ErrorCode::ListenFailed,
              system_error_from(reason, "listen on", where).message() + std::string(hint), reason);
}

/// Of all addresses: [::] takes IPv4 too, where there is IPv6.
Result<http::TcpListener> listen_on(std::uint16_t port) {
  for (char const* host : {"::", "0.0.0.0"}) {
    http::SocketAddress address = http::ip_address(host, port).value();
    int const family = address.family();
    os::UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    int const on = 1;
    int const off = 0;
    (void)::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (family == AF_INET6)
      (void)::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    bool const listens = fd && ::bind(fd.get(), address.get(), address.length) == 0 &&
                         ::listen(fd.get(), kGatewayBacklog) == 0;
    int const reason = errno;
    if (!listens && family == AF_INET6 && (reason == EAFNOSUPPORT || reason == EADDRNOTAVAIL))
      continue;
    if (!listens) return cannot_listen(port, reason);
    address.length = sizeof(address.storage);
    auto* out = reinterpret_cast<sockaddr*>(&address.storage);
    if (::getsockname(fd.get(), out, &address.length) != 0)
      return fail(system_error("getsockname"));
    return http::TcpListener{.fd = std::move(fd), .port = address.port()};
  }
  return cannot_listen(port, EAFNOSUPPORT);
}

}  // namespace

class Gateway::Impl {
 public:
  Impl(async::Executor owner, Clock const& clock, Demand& demand, GatewayLimits limits)
      : owner_(std::move(owner)),
        limits_(limits),
        mail_(std::make_shared<DemandMail>(owner_, demand)),
        poller_(clock),
        scratch_(kPieceBytes) {
    os::SignalsBlocked const blocked;
    thread_ = std::thread([this] {
      poller_.run();
      gates_.clear();
    });
    ::pthread_setname_np(thread_.native_handle(), "gateway");
  }

  ~Impl() {
    mail_->close();
    end();
  }
  Impl(Impl const&) = delete;
  Impl& operator=(Impl const&) = delete;

  void end() {
    if (!thread_.joinable()) return;
    poller_.stop();
    thread_.join();
  }

  Status open(RouteSpec route) {
    TRY_ASSIGN(http::TcpListener listener, listen_on(route.trigger_port));
    auto& counts = counts_[route.function];
    if (!counts) counts = std::make_shared<GatewayCounts>();
    ports_[route.function] = route.trigger_port = listener.port;
    auto fd = std::make_shared<os::UniqueFd>(std::move(listener.fd));  // std::function is copied
    poller_.post([this, route = std::move(route), counts, fd] {
      GatewayShared const shared{
          .poller = poller_, .limits = limits_, .mail = *mail_, .scratch = scratch_, .ids = ids_};
      auto gate = std::make_unique<Gate>(shared, route, counts);
      if (Status const opened = gate->open(std::move(*fd)); !opened)
        log::error("function {}: {}", route.function, opened.error().describe());
      auto& place = gates_[route.function];
      if (place) place->cut_all();  // opened twice: the first one is not closed yet
      if (place) poller_.bury(std::move(place));
      place = std::move(gate);
    });
    return {};
  }

  [[nodiscard]] std::uint16_t port(std::string_view function) const {
    auto const found = ports_.find(function);
    return found == ports_.end() ? std::uint16_t{0} : found->second;
  }

  /// Does it to the gate of that name, if there is one, on the gateway's thread.
  void post_to(std::string_view function, std::function<void(Gate&)> work) {
    poller_.post([this, function = std::string(function), work = std::move(work)] {
      if (auto const found = gates_.find(function); found != gates_.end()) work(*found->second);
    });
  }

  /// Waits until `begin`, which is given the gate (or null) and what to call, has called it.
  using Begin = std::function<void(Gate*, std::function<void()>)>;
  async::Task<bool> wait(std::string function, Begin begin, Instant deadline) {
    auto over = std::make_shared<async::Event>();
    bool const posted = poller_.post([this, function, begin, over] {
      auto const found = gates_.find(function);
      std::function<void()> const then = [owner = owner_, over] {
        boost::asio::post(owner, [over] { over->set(); });
      };
      begin(found == gates_.end() ? nullptr : found->second.get(), then);
    });
    if (!posted) co_return false;  // the thread has ended, and all requests with it
    async::Task<bool> waiting = over->wait_until(deadline);
    co_return co_await std::move(waiting);
  }

  async::Task<void> close(std::string function, Duration deadline) {
    Begin begin = [](Gate* gate, std::function<void()> then) {
      if (gate == nullptr) return then();
      gate->close(std::move(then));
    };
    async::Task<bool> waiting = wait(function, std::move(begin), async::deadline_in(deadline));
    co_await std::move(waiting);
    Begin end = [this, function](Gate* gate, std::function<void()> const& then) {
      if (gate != nullptr) {
        gate->cut_all();
        poller_.bury(std::move(gates_[function]));
        gates_.erase(function);
      }
      then();
    };
    async::Task<bool> ending = wait(function, std::move(end), async::deadline_in(kThreadGrace));
    co_await std::move(ending);
  }

  async::Task<void> stop(Duration deadline) {
    Instant const until = async::deadline_in(deadline);
    // All doors close at once; then each is waited for.
    for (auto const& [name, counts] : counts_) post_to(name, [](Gate& gate) { gate.close({}); });
    for (auto const& [name, counts] : counts_) {
      Duration const left = until - async::deadline_in(Duration::zero());
      async::Task<void> closing = close(name, std::max(left, Duration::zero()));
      co_await std::move(closing);
    }
    end();
  }

  [[nodiscard]] RequestCounts counts(std::string_view function) const {
    auto const found = counts_.find(function);
    return found == counts_.end() ? RequestCounts{} : found->second->snapshot();
  }

 private:
  async::Executor owner_;
  GatewayLimits limits_;
  std::shared_ptr<DemandMail> mail_;
  std::map<std::string, std::shared_ptr<GatewayCounts>, std::less<>> counts_;
  std::map<std::string, std::uint16_t, std::less<>> ports_;
  // From here on the gateway's thread's own, once it runs.
  Poller poller_;
  std::vector<char> scratch_;
  IdMint ids_;
  Gates gates_;
  std::thread thread_;
};

Gateway::Gateway(async::Executor owner, Clock const& clock, Demand& demand, GatewayLimits limits)
    : impl_(std::make_unique<Impl>(std::move(owner), clock, demand, limits)) {}
Gateway::~Gateway() = default;

Status Gateway::open(RouteSpec const& route) {
  return impl_->open(route);
}

std::uint16_t Gateway::port(std::string_view function) const {
  return impl_->port(function);
}

void Gateway::change(RouteSpec const& route) {
  impl_->post_to(route.function, [route](Gate& gate) { gate.change(route); });
}

async::Task<void> Gateway::close(std::string function, Duration deadline) {
  return impl_->close(std::move(function), deadline);
}

void Gateway::add(std::string_view function, Backend backend) {
  impl_->post_to(function, [backend](Gate& gate) { gate.add(backend); });
}

void Gateway::remove(std::string_view function, InstanceId instance, BackendEnd why) {
  impl_->post_to(function,
                 [instance, why = std::move(why)](Gate& gate) { gate.remove(instance, why); });
}

async::Task<void> Gateway::drained(std::string function, InstanceId instance, Duration deadline) {
  Impl::Begin begin = [instance](Gate* gate, std::function<void()> then) {
    if (gate == nullptr) return then();
    gate->when_drained(instance, std::move(then));
  };
  async::Task<bool> waiting =
      impl_->wait(std::move(function), std::move(begin), async::deadline_in(deadline));
  co_await std::move(waiting);
}

void Gateway::fail_waiting(std::string_view function, std::string reason) {
  impl_->post_to(function, [reason = std::move(reason)](Gate& gate) { gate.fail_waiting(reason); });
}

RequestCounts Gateway::counts(std::string_view function) const {
  return impl_->counts(function);
}

async::Task<void> Gateway::stop(Duration deadline) {
  return impl_->stop(deadline);
}

}  // namespace aether::functions
