// SPDX-License-Identifier: Apache-2.0
// Aether's side of the State Relay Protocol (docs/srp.md): SrpServer accepts the connections of a
// service's SDKs, SrpSession is one of them. Both live on the loop's thread. Children are not
// trusted: a frame that breaks the protocol ends the session, never Aether.
#pragma once
#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/channel.h"
#include "async/event.h"
#include "async/offload.h"
#include "async/task.h"
#include "async/task_group.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "os/unique_fd.h"
#include "relay/srp_frame.h"
#include "relay/srp_state.h"

namespace aether::relay {

/// A child that connects says HELLO within this time or is cut off.
inline constexpr Duration kHelloLimit = std::chrono::seconds(10);
/// Answers that Aether gives by itself; a child that does not read for so long is cut off.
inline constexpr Duration kAnswerLimit = std::chrono::seconds(10);
/// Connections to one service's socket: two revisions, and what their workers open by mistake.
inline constexpr std::size_t kSrpConnectionsMax = 64;

/// How a state travels between Aether and a child.
enum class Mechanism : std::uint8_t { Pipe, Shm };

/// A trial leaves the child at work: it quiesces only while its memory is copied.
enum class Trial : std::uint8_t { No, Yes };

/// Who knocks: the kernel's word (pid, uid, gid) and the peer's own (the rest).
struct PeerIdentity {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  std::string instance;  ///< AETHER_INSTANCE_ID as the peer says it.
};

/// What a child said in its HELLO.
struct HelloInfo {
  pid_t pid = 0;
  std::string sdk;
  bool can_export = false;
  bool can_shm = false;
  bool wants_crc32 = false;         ///< Verifies CRC-32 (zlib) only; else CRC-32C.
  bool knows_versions = false;      ///< Is told the version of a state that it is given.
  bool hears_drain = false;         ///< Understands DRAIN.
  std::uint32_t state_version = 0;  ///< In which its program keeps its memory; 0: it has none.
};

/// What the child is told in answer to its HELLO.
struct HelloAnswer {
  std::string service;
  RevisionId revision;
  bool handoff = false;
  Mechanism mechanism = Mechanism::Pipe;
  bool memory_waits = false;  ///< A LOAD will be answered with memory.
};

/// A listener for a child that asked for one. The fd is borrowed until the answer is sent.
struct SrpListener {
  std::string name;
  std::string address;
  int fd = -1;
};

/// What came of an EXPORT.
struct Exported {
  std::optional<State> state;  ///< Nothing: the child has no memory to give.
  Duration quiesce{};          ///< The child's own figures: until no work was in flight ...
  Duration export_time{};      ///< ... and from there until its memory was bytes.
};

/// Called on the loop's thread, never inside a call to the session or server.
struct SrpHandlers {
  /// Whether the peer may speak for an instance, and for which. An error is told to it.
  std::function<Result<InstanceId>(PeerIdentity const&)> identify;
  std::function<HelloAnswer(InstanceId)> describe;
  std::function<void(InstanceId)> on_hello;  ///< After the answer was sent.
  std::function<void(InstanceId)> on_load;   ///< The child waits for its memory: deliver() it.
  std::function<Result<SrpListener>(InstanceId, std::string const& address)> on_listen;
  std::function<void(InstanceId)> on_closed;  ///< Only for sessions that had said HELLO.
};

/// The thread that maps and checks large states; made when there is one for the first time.
class LazyThread {
 public:
  [[nodiscard]] async::ThreadPool& get();

 private:
  std::unique_ptr<async::ThreadPool> pool_;
};

/// One child's connection. The long calls are for one at a time; each ends at its limit. Held by
/// the server until it closes, and by whoever works with it (the calls keep it alive themselves).
class SrpSession : public std::enable_shared_from_this<SrpSession> {
 public:
  [[nodiscard]] InstanceId instance() const { return instance_; }
  [[nodiscard]] HelloInfo const& hello() const { return hello_; }
  [[nodiscard]] bool closed() const { return closed_.is_set(); }
  /// The child has asked for its memory and has not been answered.
  [[nodiscard]] bool load_asked() const { return load_asked_; }

  /// EXPORT: the child quiesces and gives its memory, which is checked and acknowledged. Afterwards
  /// it stays quiesced until release() or resume(). HandoffFailed: the child said why, and works
  /// on by itself. ChecksumMismatch: it was told, and works on by itself. Timeout: call resume().
  /// ProtocolViolation, Unreachable: the session is closed, and the child works on by itself.
  /// A trial needs resume() as well: an SDK that does not know of trials stands still.
  [[nodiscard]] async::Task<Result<Exported>> export_state(Mechanism mechanism, Duration limit,
                                                           Trial trial = Trial::No);
  /// Answers LOAD, and waits until the child has verified and decoded its memory. Without a state:
  /// tells it that there is none, which needs no answer.
  [[nodiscard]] async::Task<Status> deliver(std::optional<State> state, Mechanism mechanism,
                                            Duration limit);
  /// The new revision has the memory. @param keep_accepting the child has a listener of its own.
  [[nodiscard]] async::Task<Status> release(bool keep_accepting, Duration limit = kAnswerLimit);
  /// The child is asked to leave: it ends its connections by the deadline, idle ones at random
  /// moments within the spread before it. No answer; a child that does not know of it hears
  /// nothing. @param deadline from now on.
  [[nodiscard]] async::Task<Status> drain(Duration deadline, std::optional<Duration> spread);
  /// Work again; on this memory if there is one, else on the child's own. Waits for its answer. An
  /// export or delivery that still runs is given up: whoever is told to work on must not wait.
  /// HandoffFailed: the child could not take this memory, and works on its own.
  [[nodiscard]] async::Task<Status> resume(std::optional<State> state, Mechanism mechanism,
                                           Duration limit);
  /// Cuts the connection; what waits on it ends with Unreachable.
  void close();

 private:
  friend class SrpServer;
  /// A frame for the exchange that runs, with what came along.
  struct Incoming {
    Frame frame;
    os::UniqueFd fd;
  };
  struct Exchange;  ///< Marks an exchange as running while it lives.
  struct Writing;   ///< Holds the right to write while it lives.

  SrpSession(os::UniqueFd socket, SrpHandlers const& handlers, std::shared_ptr<LazyThread> thread);
  // srp_session.cc: the connection.
  async::Task<Status> serve(PeerIdentity peer);
  async::Task<Status> greet(PeerIdentity peer);
  async::Task<Result<std::optional<Incoming>>> receive();
  async::Task<Status> dispatch(Incoming incoming);
  async::Task<Status> pass_to_exchange(Incoming incoming);
  async::Task<Status> answer_listen(std::string payload);
  async::Task<void> say_goodbye(Error error);
  async::Task<Status> send(FrameType type, std::string json, int fd = -1);
  /// send(), for whoever has no deadline of his own.
  async::Task<Status> tell(FrameType type, std::string json, Duration limit);
  async::Task<Status> write_all(std::string_view bytes, int fd);

  // srp_exchange.cc: the handoff's three exchanges.
  async::Task<Result<Exported>> exchange_export(Mechanism mechanism, Duration limit, Trial trial);
  async::Task<Status> exchange_deliver(std::optional<State> state, Mechanism mechanism);
  async::Task<Status> give_back(State state, Mechanism mechanism);
  async::Task<Status> exchange_resume(bool attached);
  async::Task<Result<Incoming>> next_answer();
  async::Task<Result<State>> collect_frames(Incoming first);
  async::Task<Result<State>> adopt_memfd(Incoming incoming);
  async::Task<Status> send_state(State state, Mechanism mechanism);
  async::Task<Status> send_frames(State state);
  async::Task<Status> await_state_ack(State state);

  os::UniqueFd socket_;
  SrpHandlers const& handlers_;
  std::shared_ptr<LazyThread> thread_;
  InstanceId instance_;
  HelloInfo hello_;
  FrameDecoder decoder_;
  std::vector<os::UniqueFd> fds_;  ///< Received, not yet claimed by a frame.
  async::Channel<Incoming> answers_;
  async::Event closed_;
  async::Event may_write_;
  async::Event resumed_;
  async::Event give_up_;          ///< Set by resume(): the exchange that runs gives way.
  async::Event exchange_ended_;   ///< Set whenever one has.
  std::uint32_t sent_crc32_ = 0;  ///< Of the state that was sent last in CRC-32 frames.
  bool exchanging_ = false;
  bool greeted_ = false;
  bool load_asked_ = false;
  int resumes_unanswered_ = 0;  ///< What comes before their answers belongs to what was given up.
};

/// The socket of one service. Stop it before it goes.
class SrpServer {
 public:
  SrpServer(async::Executor executor, std::string name, SrpHandlers handlers);
  ~SrpServer();
  SrpServer(SrpServer const&) = delete;
  SrpServer& operator=(SrpServer const&) = delete;

  /// Binds the path (mode 0600, replaces a stale socket) and begins to accept.
  [[nodiscard]] Status listen(std::string const& path);
  /// The open session of an instance that has said HELLO; null if there is none.
  [[nodiscard]] std::shared_ptr<SrpSession> session(InstanceId instance) const;
  /// Closes every session and the socket, and removes the path.
  [[nodiscard]] async::Task<void> stop();

 private:
  static async::Task<void> accept_all(SrpServer* server);
  static async::Task<void> run(SrpServer* server, std::shared_ptr<SrpSession> session,
                               PeerIdentity peer);

  std::string path_;
  SrpHandlers handlers_;
  os::UniqueFd listener_;
  std::shared_ptr<LazyThread> thread_;
  std::vector<std::shared_ptr<SrpSession>> sessions_;
  async::TaskGroup tasks_;
};

}  // namespace aether::relay
