// SPDX-License-Identifier: Apache-2.0
// The connection: frames in and out, HELLO, and what a child may ask at any time.
#include "relay/srp_session.h"

#include <sys/socket.h>

#include <array>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/log.h"
#include "os/unix_socket.h"
#include "relay/srp_json.h"

namespace aether::relay {
namespace {

namespace json = boost::json;

/// One read from the socket.
constexpr std::size_t kReadBytes = std::size_t{64} << 10;
/// Descriptors that wait for their frame: there is one kind of frame that brings one.
constexpr std::size_t kFdsWaitingMax = 4;
/// Frames that wait for the exchange that runs. A full queue stops the reading: backpressure.
constexpr std::size_t kAnswersMax = 2;

Failure session_violation(std::string what) {
  return fail(ErrorCode::ProtocolViolation, std::move(what));
}

bool is_exchange_frame(FrameType type) {
  return carries_state(type) || type == FrameType::StateFd || type == FrameType::Checkpoint ||
         type == FrameType::Ack || type == FrameType::Error;
}

bool has_capability(json::object const& hello, std::string_view name) {
  json::value const* const list = hello.if_contains("capabilities");
  if (list == nullptr || !list->is_array()) return false;
  for (json::value const& entry : list->get_array()) {
    if (entry.is_string() && std::string_view(entry.get_string()) == name) return true;
  }
  return false;
}

}  // namespace

async::ThreadPool& LazyThread::get() {
  if (!pool_) pool_ = std::make_unique<async::ThreadPool>(1);
  return *pool_;
}

SrpSession::SrpSession(os::UniqueFd socket, SrpHandlers const& handlers,
                       std::shared_ptr<LazyThread> thread)
    : socket_(std::move(socket)),
      handlers_(handlers),
      thread_(std::move(thread)),
      answers_(kAnswersMax) {
  may_write_.set();
}

void SrpSession::close() {
  if (closed_.is_set()) return;
  closed_.set();
  resumed_.set();
  answers_.close();
  // The number stays ours until the reader has left: only the connection ends here.
  ::shutdown(socket_.get(), SHUT_RDWR);
}

/// Holds the right to write. A frame that was begun and not ended leaves a stream that nobody can
/// read on, so it ends the session.
struct SrpSession::Writing {
  explicit Writing(SrpSession* session) : session_(session) { session_->may_write_.reset(); }
  Writing(Writing const&) = delete;
  Writing& operator=(Writing const&) = delete;
  ~Writing() {
    if (inside_frame) session_->close();
    session_->may_write_.set();
  }
  bool inside_frame = false;

 private:
  SrpSession* session_;
};

async::Task<Status> SrpSession::write_all(std::string_view bytes, int fd) {
  while (!may_write_.is_set()) co_await may_write_.wait();
  Writing writing(this);
  while (!bytes.empty()) {
    if (closed()) co_return fail(ErrorCode::Unreachable, "the child's connection is closed");
    std::span<int const> const fds(&fd, fd >= 0 ? 1 : 0);
    auto sent = os::send_with_fds(socket_.get(), bytes, fds);
    if (!sent) co_return fail(std::move(sent).error());
    if (!*sent) {
      co_await async::writable(socket_.get());
      continue;
    }
    bytes.remove_prefix(**sent);
    writing.inside_frame = !bytes.empty();
    fd = -1;
  }
  co_return Status();
}

async::Task<Status> SrpSession::send(FrameType type, std::string json, int fd) {
  std::string const bytes = encode({type, 0, std::move(json)});
  co_return co_await write_all(bytes, fd);
}

async::Task<Result<std::optional<SrpSession::Incoming>>> SrpSession::receive() {
  std::vector<char> buffer;
  for (;;) {
    auto frame = decoder_.next();
    if (!frame) co_return fail(std::move(frame).error());
    if (*frame) {
      Incoming incoming{std::move(**frame), {}};
      if (incoming.frame.type != FrameType::StateFd) co_return incoming;
      if (fds_.empty()) co_return session_violation("a STATE_FD frame came without its memfd");
      incoming.fd = std::move(fds_.front());
      fds_.erase(fds_.begin());
      co_return incoming;
    }
    buffer.resize(kReadBytes);
    co_await async::readable(socket_.get());
    auto received = os::receive_with_fds(socket_.get(), std::span(buffer), kFdsWaitingMax);
    if (!received) co_return fail(std::move(received).error());
    if (!*received) continue;
    os::Received& piece = **received;
    if (piece.fds_truncated || fds_.size() + piece.fds.size() > kFdsWaitingMax) {
      co_return session_violation("more descriptors came than frames that carry one");
    }
    for (os::UniqueFd& fd : piece.fds) fds_.push_back(std::move(fd));
    if (piece.bytes == 0) {
      if (decoder_.inside_frame())
        co_return session_violation("the connection ended inside a frame");
      co_return std::optional<Incoming>();
    }
    decoder_.feed(std::string_view(buffer.data(), piece.bytes));
  }
}

async::Task<Status> SrpSession::greet(PeerIdentity peer) {
  auto incoming = co_await receive();
  if (!incoming) co_return fail(std::move(incoming).error());
  if (!*incoming) co_return fail(ErrorCode::Unreachable, "the child left without a word");
  Frame const& frame = (*incoming)->frame;
  if (frame.type != FrameType::Hello) {
    co_return session_violation(
        fmt::format("the first frame is {}, not HELLO", frame_name(frame.type)));
  }
  auto hello = parse_object(frame);
  if (!hello) co_return fail(std::move(hello).error());
  peer.instance = text_field(*hello, "instance");
  auto instance = handlers_.identify(peer);
  if (!instance) co_return fail(std::move(instance).error());
  instance_ = *instance;
  hello_ = {.pid = static_cast<pid_t>(number_field(*hello, "pid").value_or(0)),
            .sdk = text_field(*hello, "sdk"),
            .can_export = has_capability(*hello, "export"),
            .can_shm = has_capability(*hello, "shm"),
            .wants_crc32 = has_capability(*hello, "crc32"),
            .knows_versions = has_capability(*hello, "version"),
            .hears_drain = has_capability(*hello, "drain"),
            .state_version = version_field(*hello)};
  HelloAnswer const answer = handlers_.describe(instance_);
  json::object const told{
      {"of", "hello"},
      {"service", answer.service},
      {"revision", answer.revision.value},
      {"handoff", answer.handoff},
      {"mechanism", answer.mechanism == Mechanism::Shm ? "shm" : "pipe"},
      {"memory", answer.memory_waits ? "waiting" : "none"},
  };
  co_return co_await send(FrameType::Ack, json::serialize(told));
}

async::Task<Status> SrpSession::serve(PeerIdentity peer) {
  async::Task<Status> greeting = greet(std::move(peer));
  auto greeted = co_await async::with_deadline(kHelloLimit, std::move(greeting));
  if (!greeted) {
    co_return session_violation(
        fmt::format("no HELLO came within {}", format_duration(kHelloLimit)));
  }
  if (!*greeted) co_return fail(std::move(*greeted).error());
  greeted_ = true;
  handlers_.on_hello(instance_);
  while (!closed()) {
    auto incoming = co_await receive();
    if (!incoming) co_return fail(std::move(incoming).error());
    if (!*incoming) break;
    Status handled = co_await dispatch(std::move(**incoming));
    if (!handled) co_return handled;
  }
  co_return Status();
}

async::Task<Status> SrpSession::dispatch(Incoming incoming) {
  FrameType const type = incoming.frame.type;
  if (is_exchange_frame(type)) co_return co_await pass_to_exchange(std::move(incoming));
  if (type == FrameType::Listen) co_return co_await answer_listen(incoming.frame.payload);
  if (type != FrameType::Load) {
    co_return session_violation(fmt::format("a child does not send {} here", frame_name(type)));
  }
  auto const asked = parse_object(incoming.frame);
  if (!asked) co_return fail(asked.error());
  if (load_asked_) co_return session_violation("LOAD was sent twice before it was answered");
  // The program may have come to its version only after the SDK's HELLO.
  if (std::uint32_t const version = version_field(*asked)) hello_.state_version = version;
  load_asked_ = true;
  handlers_.on_load(instance_);
  co_return Status();
}

async::Task<Status> SrpSession::pass_to_exchange(Incoming incoming) {
  if (resumes_unanswered_ > 0) {
    if (!answers_of(incoming.frame, FrameType::Ack, "resume")) co_return Status();
    if (--resumes_unanswered_ == 0) resumed_.set();
    co_return Status();
  }
  if (exchanging_) {
    bool const taken = co_await answers_.send(std::move(incoming));
    if (!taken) log::debug("srp: a frame of an exchange that is over was dropped");
  }
  co_return Status();
}

async::Task<Status> SrpSession::answer_listen(std::string payload) {
  auto asked = parse_object({FrameType::Listen, 0, std::move(payload)});
  if (!asked) co_return fail(std::move(asked).error());
  auto listener = handlers_.on_listen(instance_, text_field(*asked, "address"));
  async::Task<Status> answer =
      listener
          ? send(FrameType::Ack,
                 json::serialize(json::object{
                     {"of", "listen"}, {"name", listener->name}, {"address", listener->address}}),
                 listener->fd)
          : send(FrameType::Error, error_json("listen", listener.error()));
  auto sent = co_await async::with_deadline(kAnswerLimit, std::move(answer));
  if (!sent) co_return fail(ErrorCode::Timeout, "the child does not read its answers");
  co_return std::move(*sent);
}

async::Task<Status> SrpSession::tell(FrameType type, std::string json, Duration limit) {
  auto const self = shared_from_this();
  async::Task<Status> task = send(type, std::move(json));
  auto sent = co_await async::with_deadline(limit, std::move(task));
  if (!sent) {
    co_return fail(ErrorCode::Timeout,
                   fmt::format("the child does not read: {} could not be sent within {}",
                               frame_name(type), format_duration(limit)));
  }
  co_return std::move(*sent);
}

async::Task<Status> SrpSession::release(bool keep_accepting, Duration limit) {
  std::string const about = keep_accepting ? R"({"accept":true})" : R"({"accept":false})";
  co_return co_await tell(FrameType::Release, about, limit);
}

async::Task<Status> SrpSession::drain(Duration deadline, std::optional<Duration> spread) {
  using std::chrono::duration_cast;
  using std::chrono::milliseconds;
  if (!hello_.hears_drain) co_return Status();
  json::object about{{"deadline_ms", duration_cast<milliseconds>(deadline).count()}};
  if (spread) about["spread_ms"] = duration_cast<milliseconds>(*spread).count();
  co_return co_await tell(FrameType::Drain, json::serialize(about), kAnswerLimit);
}

async::Task<void> SrpSession::say_goodbye(Error error) {
  if (closed() || error.code() == ErrorCode::Unreachable) co_return;
  std::string_view const of = greeted_ ? "protocol" : "hello";
  async::Task<Status> goodbye = send(FrameType::Error, error_json(of, error));
  (void)co_await async::with_deadline(std::chrono::seconds(1), std::move(goodbye));
}

}  // namespace aether::relay
