// SPDX-License-Identifier: Apache-2.0
// The socket: who may come in, and the life of the sessions.
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/log.h"
#include "os/unix_socket.h"
#include "relay/srp_session.h"

namespace aether::relay {
namespace {

/// How long stop() waits for its tasks; they only wait, so they end at once.
constexpr Duration kStopLimit = std::chrono::seconds(5);
/// After accept failed (no descriptors left): the connection still waits, so do not spin.
constexpr Duration kAcceptPause = std::chrono::milliseconds(100);

}  // namespace

SrpServer::SrpServer(async::Executor executor, std::string name, SrpHandlers handlers)
    : handlers_(std::move(handlers)),
      thread_(std::make_shared<LazyThread>()),
      tasks_(std::move(executor), "srp " + std::move(name)) {
  handlers_.identify = [this, identify = std::move(handlers_.identify)](
                           PeerIdentity const& peer) -> Result<InstanceId> {
    TRY_ASSIGN(InstanceId const instance, identify(peer));
    if (!session(instance)) return instance;
    return fail(ErrorCode::Forbidden,
                "another process of this instance has its SRP connection already; only the one "
                "that owns the memory needs it");
  };
}

SrpServer::~SrpServer() = default;

Status SrpServer::listen(std::string const& path) {
  TRY_ASSIGN(listener_, os::listen_unix(path, os::UnixKind::Stream, 0600));
  path_ = path;
  tasks_.spawn("accept", accept_all(this));
  return {};
}

std::shared_ptr<SrpSession> SrpServer::session(InstanceId instance) const {
  for (auto const& session : sessions_) {
    if (session->greeted_ && !session->closed() && session->instance() == instance) return session;
  }
  return nullptr;
}

async::Task<void> SrpServer::accept_all(SrpServer* server) {
  for (;;) {
    co_await async::readable(server->listener_.get());
    auto accepted = os::accept_unix(server->listener_.get());
    if (!accepted) {
      log::warn("srp: {}", accepted.error().describe());
      co_await async::sleep_for(kAcceptPause);
      continue;
    }
    if (!*accepted) continue;
    auto const peer = os::peer_credentials((*accepted)->get());
    if (!peer || server->sessions_.size() >= kSrpConnectionsMax) {
      log::warn("srp: a connection was closed: {}",
                peer ? "too many are open" : peer.error().message());
      continue;
    }
    std::shared_ptr<SrpSession> session(
        new SrpSession(std::move(**accepted), server->handlers_, server->thread_));
    server->sessions_.push_back(session);
    PeerIdentity identity{.pid = peer->pid, .uid = peer->uid, .gid = peer->gid, .instance = {}};
    async::Task<void> task = run(server, std::move(session), std::move(identity));
    server->tasks_.spawn("session", std::move(task));
  }
}

async::Task<void> SrpServer::run(SrpServer* server, std::shared_ptr<SrpSession> session,
                                 PeerIdentity peer) {
  pid_t const pid = peer.pid;
  Status ended;
  try {
    ended = co_await session->serve(std::move(peer));
  } catch (Error const& error) {
    ended = fail(error);
  }
  if (!ended) {
    log::warn("srp: the connection of pid {} was closed: {}", pid, ended.error().describe());
    co_await session->say_goodbye(ended.error());
  }
  session->close();
  std::erase(server->sessions_, session);
  if (session->greeted_) server->handlers_.on_closed(session->instance());
}

async::Task<void> SrpServer::stop() {
  for (auto const& session : sessions_) session->close();
  co_await tasks_.stop(kStopLimit);
  sessions_.clear();
  listener_.reset();
  if (!path_.empty()) ::unlink(path_.c_str());
}

}  // namespace aether::relay
