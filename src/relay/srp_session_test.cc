// SPDX-License-Identifier: Apache-2.0
#include "relay/srp_session.h"

#include <dirent.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "async/testing.h"
#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/checksum.h"
#include "base/log.h"
#include "os/temp_dir.h"
#include "os/unix_socket.h"

namespace aether::relay {
namespace {

using async::Loop;
using async::Task;
using namespace std::chrono_literals;

constexpr Duration kLong = 30s;
constexpr std::string_view kHello = R"({"role":"service","instance":"7","pid":1,"sdk":"test",)"
                                    R"("capabilities":["export","shm","resume"]})";

/// The child's side, frame by frame.
class Child {
 public:
  explicit Child(std::string const& path) : socket_(or_throw(os::connect_unix(path))) {}

  Task<void> send(std::string bytes, int fd = -1) {
    std::string_view rest = bytes;
    while (!rest.empty()) {
      std::span<int const> const fds(&fd, fd >= 0 ? 1 : 0);
      auto sent = or_throw(os::send_with_fds(socket_.get(), rest, fds));
      if (!sent) {
        co_await async::writable(socket_.get());
        continue;
      }
      rest.remove_prefix(*sent);
      fd = -1;
    }
  }
  Task<void> send(FrameType type, std::string payload, std::uint16_t flags = 0, int fd = -1) {
    std::string bytes = encode({type, flags, std::move(payload)});
    co_await send(std::move(bytes), fd);
  }
  /// A state cut into pieces.
  Task<void> send_state(FrameType type, std::vector<std::string> pieces, ChecksumKind kind,
                        std::uint16_t flags = 0) {
    RunningChecksum checksum(kind);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      auto const more = static_cast<std::uint16_t>(i + 1 < pieces.size() ? kMore : 0);
      auto const prefix = encode_state_prefix(type, flags | more, checksum, pieces[i]);
      std::string bytes(prefix.data(), prefix.size());
      bytes += pieces[i];
      co_await send(std::move(bytes));
    }
  }
  /// The next frame; nothing at the end of the connection.
  Task<std::optional<Frame>> receive() {
    std::vector<char> buffer(65536);
    for (;;) {
      auto frame = or_throw(decoder_.next());
      if (frame) co_return frame;
      co_await async::readable(socket_.get());
      auto received = os::receive_with_fds(socket_.get(), std::span(buffer), 4);
      if (!received) co_return std::nullopt;  // reset: it was closed before it read everything
      auto& got = *received;
      if (!got) continue;
      for (auto& fd : got->fds) fds.push_back(std::move(fd));
      if (got->bytes == 0) co_return std::nullopt;
      decoder_.feed({buffer.data(), got->bytes});
    }
  }
  void leave() { socket_.reset(); }

  std::vector<os::UniqueFd> fds;

 private:
  os::UniqueFd socket_;
  FrameDecoder decoder_;
};

/// A server that knows one instance, 7, and notes what happens.
struct Bench {
  explicit Bench(Loop& loop) : server(loop.executor(), "test", handlers()) {
    log::set_sink([this](log::Level level, std::string_view line) {
      if (level >= log::Level::Warn) warnings.emplace_back(line);
    });
    or_throw(server.listen(path()));
  }
  ~Bench() { log::set_sink({}); }

  [[nodiscard]] std::string path() const { return directory.path() + "/srp.sock"; }
  [[nodiscard]] std::shared_ptr<SrpSession> session() const {
    return server.session(InstanceId{7});
  }
  Task<void> greet(Child& child) {
    co_await child.send(FrameType::Hello, std::string(kHello));
    auto const answer = co_await child.receive();
    EXPECT_TRUE(answer && answer->type == FrameType::Ack);
    co_await said_hello.wait();
  }

  SrpHandlers handlers() {
    SrpHandlers made;
    made.identify = [this](PeerIdentity const& peer) -> Result<InstanceId> {
      identity = peer;
      if (peer.instance == "7") return InstanceId{7};
      return fail(ErrorCode::Forbidden, "this process belongs to no instance");
    };
    made.describe = [](InstanceId) {
      return HelloAnswer{"agent", RevisionId{3}, true, Mechanism::Shm, true};
    };
    made.on_hello = [this](InstanceId) { said_hello.set(); };
    made.on_load = [this](InstanceId) { asked_load.set(); };
    made.on_listen = [this](InstanceId, std::string const& address) -> Result<SrpListener> {
      if (address != ":8080") return fail(ErrorCode::AddressInvalid, "no such address");
      return SrpListener{"http", "[::]:8080", listener};
    };
    made.on_closed = [this](InstanceId) { left.set(); };
    return made;
  }

  os::TempDir directory = or_throw(os::TempDir::create("srp"));
  PeerIdentity identity;
  async::Event said_hello;
  async::Event asked_load;
  async::Event left;
  int listener = -1;
  std::vector<std::string> warnings;
  SrpServer server;
};

/// Runs two tasks at the same time, as Aether and the child do.
template <class T>
Task<void> keep(Task<T> task, std::optional<T>* value, async::Event* done) {
  value->emplace(co_await std::move(task));
  done->set();
}
template <class T>
Task<T> beside(Loop& loop, Task<T> first, Task<void> second) {
  async::TaskGroup group(loop.executor(), "beside");
  std::optional<T> value;
  async::Event done;
  group.spawn("first", keep(std::move(first), &value, &done));
  co_await std::move(second);
  co_await done.wait();
  co_await group.join();
  co_return std::move(*value);
}

std::string contents(State const& state) {
  auto const mapping = or_throw(state.map());
  return {reinterpret_cast<char const*>(mapping.bytes().data()), mapping.bytes().size()};
}

std::size_t open_fds() {
  std::size_t count = 0;
  DIR* const directory = ::opendir("/proc/self/fd");
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count;
}

CORO_TEST(SrpSession, AnswersHelloWithWhatTheChildNeedsToKnow) {
  Bench bench(loop);
  Child child(bench.path());
  co_await child.send(FrameType::Hello, std::string(kHello));
  auto const answer = co_await child.receive();
  CO_ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->type, FrameType::Ack);
  EXPECT_EQ(answer->payload,
            R"({"of":"hello","service":"agent","revision":3,"handoff":true,"mechanism":"shm",)"
            R"("memory":"waiting"})");
  EXPECT_EQ(bench.identity.pid, ::getpid());
  EXPECT_EQ(bench.identity.uid, ::getuid());
  co_await bench.said_hello.wait();
  CO_ASSERT_TRUE(bench.session() != nullptr);
  EXPECT_EQ(bench.session()->hello().sdk, "test");
  child.leave();
  co_await bench.left.wait();
  EXPECT_EQ(bench.session(), nullptr);
  co_await bench.server.stop();
}

CORO_TEST(SrpSession, TheSocketIsPrivateAndRemovedAtTheEnd) {
  Bench bench(loop);
  struct stat info{};
  CO_ASSERT_EQ(::stat(bench.path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  co_await bench.server.stop();
  EXPECT_NE(::stat(bench.path().c_str(), &info), 0);
}

CORO_TEST(SrpSession, RefusesAStrangerAndASecondConnectionOfAnInstance) {
  Bench bench(loop);
  Child stranger(bench.path());
  co_await stranger.send(FrameType::Hello, R"({"instance":"8"})");
  auto refusal = co_await stranger.receive();
  CO_ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(refusal->type, FrameType::Error);
  auto end = co_await stranger.receive();
  EXPECT_FALSE(end);

  Child first(bench.path());
  co_await bench.greet(first);
  Child second(bench.path());
  co_await second.send(FrameType::Hello, std::string(kHello));
  refusal = co_await second.receive();
  CO_ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(refusal->type, FrameType::Error);
  EXPECT_TRUE(bench.session() != nullptr);
  co_await bench.server.stop();
}

Task<void> play_export(Child* child, std::vector<std::string> pieces, ChecksumKind kind) {
  auto const asked = co_await child->receive();
  EXPECT_EQ(asked->type, FrameType::Export);
  EXPECT_EQ(asked->payload, R"({"mechanism":"pipe","deadline_ms":30000})");
  co_await child->send(FrameType::Checkpoint, R"({"quiesce_ms":1.5,"export_ms":2})");
  co_await child->send_state(FrameType::StateJson, std::move(pieces), kind);
  auto const told = co_await child->receive();
  EXPECT_EQ(told->type, FrameType::Ack);
  EXPECT_EQ(told->payload,
            fmt::format(R"({{"of":"state","bytes":11,"crc32c":{}}})", crc32c("{\"turns\":3}")));
}

CORO_TEST(SrpSession, TakesAStateByPipeWithEitherChecksum) {
  Bench bench(loop);
  Child child(bench.path());
  co_await bench.greet(child);
  for (ChecksumKind kind : {ChecksumKind::Crc32c, ChecksumKind::Crc32}) {
    Task<Result<Exported>> exporting = bench.session()->export_state(Mechanism::Pipe, kLong);
    Task<void> playing = play_export(&child, {"{\"tur", "", "ns\":3}"}, kind);
    auto exported = co_await beside(loop, std::move(exporting), std::move(playing));
    CO_ASSERT_TRUE(exported.has_value());
    EXPECT_EQ(exported->quiesce, 1500us);
    EXPECT_EQ(exported->export_time, 2ms);
    CO_ASSERT_TRUE(exported->state.has_value());
    EXPECT_EQ(exported->state->format(), StateFormat::Json);
    EXPECT_EQ(contents(*exported->state), "{\"turns\":3}");
  }
  co_await bench.server.stop();
}

Task<void> answer_export(Child* child, FrameType type, std::string payload, std::uint16_t flags) {
  (void)co_await child->receive();
  co_await child->send(type, std::move(payload), flags);
}

CORO_TEST(SrpSession, AChildMayHaveNoMemoryOrSayWhyItCannotGiveIt) {
  Bench bench(loop);
  Child child(bench.path());
  co_await bench.greet(child);
  Task<Result<Exported>> first = bench.session()->export_state(Mechanism::Pipe, kLong);
  Task<void> none = answer_export(&child, FrameType::Ack, R"({"of":"export","memory":"none"})", 0);
  auto exported = co_await beside(loop, std::move(first), std::move(none));
  CO_ASSERT_TRUE(exported.has_value());
  EXPECT_FALSE(exported->state);

  Task<Result<Exported>> second = bench.session()->export_state(Mechanism::Pipe, kLong);
  Task<void> error = answer_export(&child, FrameType::Error,
                                   R"({"of":"export","code":"hook","message":"it raised"})", 0);
  exported = co_await beside(loop, std::move(second), std::move(error));
  CO_ASSERT_FALSE(exported.has_value());
  EXPECT_EQ(exported.error().code(), ErrorCode::HandoffFailed);
  EXPECT_NE(exported.error().message().find("it raised"), std::string::npos);
  EXPECT_TRUE(bench.session() != nullptr);
  co_await bench.server.stop();
}

CORO_TEST(SrpSession, AWrongChecksumIsToldAndTheSessionGoesOn) {
  Bench bench(loop);
  Child child(bench.path());
  co_await bench.greet(child);
  Task<Result<Exported>> exporting = bench.session()->export_state(Mechanism::Pipe, kLong);
  Task<void> playing = answer_export(&child, FrameType::StateBytes, "\x01\x02\x03\x04 data", 0);
  auto exported = co_await beside(loop, std::move(exporting), std::move(playing));
  CO_ASSERT_FALSE(exported.has_value());
  EXPECT_EQ(exported.error().code(), ErrorCode::ChecksumMismatch);
  auto const told = co_await child.receive();
  CO_ASSERT_TRUE(told.has_value());
  EXPECT_EQ(told->type, FrameType::Error);
  EXPECT_TRUE(bench.session() != nullptr);
  co_await bench.server.stop();
}

CORO_TEST(SrpSession, AnExportThatTakesTooLongTimesOutAndWhatComesLateIsDropped) {
  Bench bench(loop);
  Child child(bench.path());
  co_await bench.greet(child);
  auto const session = bench.session();
  auto exported = co_await session->export_state(Mechanism::Pipe, 20ms);
  CO_ASSERT_FALSE(exported.has_value());
  EXPECT_EQ(exported.error().code(), ErrorCode::Timeout);

  (void)co_await child.receive();  // EXPORT
  co_await child.send_state(FrameType::StateJson, {"{}"}, ChecksumKind::Crc32);
  Task<Status> resuming = session->resume(std::nullopt, Mechanism::Pipe, kLong);
  Task<void> playing = answer_export(&child, FrameType::Ack, R"({"of":"resume"})", 0);
  Status const resumed = co_await beside(loop, std::move(resuming), std::move(playing));
  EXPECT_TRUE(resumed);

  Task<Result<Exported>> again = session->export_state(Mechanism::Pipe, kLong);
  Task<void> none = answer_export(&child, FrameType::Ack, R"({"of":"export","memory":"none"})", 0);
  exported = co_await beside(loop, std::move(again), std::move(none));
  CO_ASSERT_TRUE(exported.has_value());
  EXPECT_FALSE(exported->state);
  co_await bench.server.stop();
}

Task<void> resume_during_export(Loop* loop, SrpSession* session, Child* child) {
  (void)co_await child->receive();  // EXPORT, which is answered when RESUME is on its way.
  Task<Status> resuming = session->resume(std::nullopt, Mechanism::Pipe, kLong);
  Task<void> playing = answer_export(child, FrameType::Ack, R"({"of":"resume"})", 0);
  Status const resumed = co_await beside(*loop, std::move(resuming), std::move(playing));
  EXPECT_TRUE(resumed) << resumed.error().describe();
}

// A rollback that is asked for while the old revision exports: it must not stand still for ever.
CORO_TEST(SrpSession, ResumeEndsAnExportThatStillRuns) {
  Bench bench(loop);
  Child child(bench.path());
  co_await bench.greet(child);
  auto const session = bench.session();
  Task<Result<Exported>> exporting = session->export_state(Mechanism::Pipe, kLong);
  Task<void> resuming = resume_during_export(&loop, session.get(), &child);
  auto const exported = co_await beside(loop, std::move(exporting), std::move(resuming));
  CO_ASSERT_FALSE(exported.has_value());
  EXPECT_EQ(exported.error().code(), ErrorCode::HandoffFailed);

  Task<Result<Exported>> again = session->export_state(Mechanism::Pipe, kLong);
  Task<void> none = answer_export(&child, FrameType::Ack, R"({"of":"export","memory":"none"})", 0);
  auto const later = co_await beside(loop, std::move(again), std::move(none));
  EXPECT_TRUE(later.has_value());
  co_await bench.server.stop();
}

Task<void> play_shm_export(Child* child, int fd, std::string about) {
  (void)co_await child->receive();
  co_await child->send(FrameType::StateFd, std::move(about), 0, fd);
  (void)co_await child->receive();
}

CORO_TEST(SrpSession, TakesAStateByMemfdWithoutACopyAndPassesItOn) {
  Bench bench(loop);
  Child child(bench.path());
  co_await bench.greet(child);
  auto memory = or_throw(os::Memfd::create("test", 3 << 20));
  std::string const bytes(3 << 20, 'x');
  or_throw(memory.write(0, std::as_bytes(std::span(bytes))));
  Task<Result<Exported>> exporting = bench.session()->export_state(Mechanism::Shm, kLong);
  Task<void> playing = play_shm_export(
      &child, memory.fd(),
      fmt::format(R"({{"size":{},"format":"pickle","crc32c":{}}})", bytes.size(), crc32c(bytes)));
  auto exported = co_await beside(loop, std::move(exporting), std::move(playing));
  CO_ASSERT_TRUE(exported.has_value());
  CO_ASSERT_TRUE(exported->state.has_value());
  EXPECT_TRUE(memory.sealed()) << "Aether seals what the child did not";
  EXPECT_EQ(exported->state->crc32c(), crc32c(bytes));

  co_await child.send(FrameType::Load, "{}");
  co_await bench.asked_load.wait();
  Task<Status> delivering = bench.session()->deliver(exported->state, Mechanism::Shm, kLong);
  Task<void> taking = answer_export(
      &child, FrameType::Ack,
      fmt::format(R"({{"of":"state","bytes":{},"crc32c":{}}})", bytes.size(), crc32c(bytes)), 0);
  Status const delivered = co_await beside(loop, std::move(delivering), std::move(taking));
  EXPECT_TRUE(delivered) << delivered.error().describe();
  CO_ASSERT_EQ(child.fds.size(), 1U);
  struct stat sent{};
  struct stat received{};
  ::fstat(memory.fd(), &sent);
  ::fstat(child.fds[0].get(), &received);
  EXPECT_EQ(sent.st_ino, received.st_ino) << "the same memory, not a copy";
  co_await bench.server.stop();
}

CORO_TEST(SrpSession, RefusesMemfdsThatCouldChangeOrAreNotWhatTheySay) {
  auto memory = or_throw(os::Memfd::create("test", 4096));
  void* const writable = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd(), 0);
  struct Case {
    int fd;
    std::string about;
  };
  os::UniqueFd const not_memory(::dup(2));
  for (Case const& wrong :
       {Case{memory.fd(), R"({"size":4096,"format":"bytes"})"},
        Case{memory.fd(), R"({"size":4097,"format":"bytes"})"},
        Case{memory.fd(), R"({"size":4096,"format":"yaml"})"},
        Case{memory.fd(), R"({"size":-1,"format":"bytes"})"}, Case{memory.fd(), "[]"},
        Case{not_memory.get(), R"({"size":4096,"format":"bytes"})"},
        Case{-1, R"({"size":4096,"format":"bytes"})"}}) {
    Bench bench(loop);
    Child child(bench.path());
    co_await bench.greet(child);
    Task<Result<Exported>> exporting = bench.session()->export_state(Mechanism::Shm, kLong);
    Task<void> playing = play_shm_export(&child, wrong.fd, wrong.about);
    auto exported = co_await beside(loop, std::move(exporting), std::move(playing));
    EXPECT_FALSE(exported.has_value()) << wrong.about;
    co_await bench.left.wait();
    co_await bench.server.stop();
  }
  ::munmap(writable, 4096);
}

Task<void> play_load(Child* child, std::vector<Frame>* frames, std::string ack) {
  for (;;) {
    auto frame = co_await child->receive();
    frames->push_back(*frame);
    if (frame->type != FrameType::StateBytes || (frame->flags & kMore) == 0) break;
  }
  co_await child->send(FrameType::Ack, std::move(ack));
}

CORO_TEST(SrpSession, DeliversALargeStateByPipeInFramesWhoseChecksumsRunOn) {
  Bench bench(loop);
  Child child(bench.path());
  co_await bench.greet(child);
  std::string bytes(2 * kStateChunkBytes + 5, 'a');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 % 251);
  auto const state = or_throw(State::from_bytes(StateFormat::Pickle, bytes));
  auto early = co_await bench.session()->deliver(state, Mechanism::Pipe, kLong);
  EXPECT_FALSE(early) << "it has not asked";
  co_await child.send(FrameType::Load, "");
  co_await bench.asked_load.wait();
  std::vector<Frame> frames;
  Task<Status> delivering = bench.session()->deliver(state, Mechanism::Pipe, kLong);
  Task<void> playing = play_load(
      &child, &frames,
      fmt::format(R"({{"of":"state","bytes":{},"crc32c":{}}})", bytes.size(), crc32c(bytes)));
  Status const delivered = co_await beside(loop, std::move(delivering), std::move(playing));
  EXPECT_TRUE(delivered) << delivered.error().describe();
  CO_ASSERT_EQ(frames.size(), 3U);
  std::string got;
  for (Frame const& frame : frames) {
    auto const part = or_throw(split_state(frame));
    got += part.data;
    EXPECT_EQ(part.checksum, crc32c(got));
    EXPECT_EQ(frame.flags & ~kMore, kPickle);
  }
  EXPECT_EQ(got, bytes);
  co_await bench.server.stop();
}

CORO_TEST(SrpSession, AnAckThatDoesNotRepeatSizeAndChecksumFailsTheDelivery) {
  Bench bench(loop);
  Child child(bench.path());
  co_await bench.greet(child);
  auto const state = or_throw(State::from_bytes(StateFormat::Bytes, "123456789"));
  for (std::string ack :
       {R"({"of":"state","bytes":9,"crc32c":1})", R"({"of":"state","bytes":8,"crc32c":3808858755})",
        R"({"of":"state","bytes":9})"}) {
    bench.asked_load.reset();
    co_await child.send(FrameType::Load, "{}");
    co_await bench.asked_load.wait();
    std::vector<Frame> frames;
    Task<Status> delivering = bench.session()->deliver(state, Mechanism::Pipe, kLong);
    Task<void> playing = play_load(&child, &frames, ack);
    Status const delivered = co_await beside(loop, std::move(delivering), std::move(playing));
    CO_ASSERT_FALSE(delivered);
    EXPECT_EQ(delivered.error().code(), ErrorCode::ChecksumMismatch) << ack;
  }
  co_await bench.server.stop();
}

CORO_TEST(SrpSession, TellsAChildThatThereIsNoMemory) {
  Bench bench(loop);
  Child child(bench.path());
  co_await bench.greet(child);
  co_await child.send(FrameType::Load, "{}");
  co_await bench.asked_load.wait();
  EXPECT_TRUE(bench.session()->load_asked());
  Status const told = co_await bench.session()->deliver(std::nullopt, Mechanism::Pipe, kLong);
  EXPECT_TRUE(told);
  auto const answer = co_await child.receive();
  CO_ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->payload, R"({"of":"load","memory":"none"})");
  Status const released = co_await bench.session()->release(true);
  EXPECT_TRUE(released);
  auto const release = co_await child.receive();
  EXPECT_EQ(release->type, FrameType::Release);
  co_await bench.server.stop();
}

Task<void> play_attached(Child* child) {
  auto const state = co_await child->receive();
  EXPECT_EQ(state->type, FrameType::StateJson);
  co_await child->send(FrameType::Ack,
                       fmt::format(R"({{"of":"state","bytes":2,"crc32c":{}}})", crc32c("{}")));
  auto const resume = co_await child->receive();
  EXPECT_EQ(resume->payload, R"({"memory":"attached"})");
  co_await child->send(FrameType::Ack, R"({"of":"resume"})");
}

CORO_TEST(SrpSession, ResumesAChildOnMemoryThatCameBack) {
  Bench bench(loop);
  Child child(bench.path());
  co_await bench.greet(child);
  auto const state = or_throw(State::from_bytes(StateFormat::Json, "{}"));
  Task<Status> resuming = bench.session()->resume(state, Mechanism::Pipe, kLong);
  Task<void> playing = play_attached(&child);
  Status const resumed = co_await beside(loop, std::move(resuming), std::move(playing));
  EXPECT_TRUE(resumed) << resumed.error().describe();
  co_await bench.server.stop();
}

Task<void> refuse_attached(Child* child) {
  auto const version = co_await child->receive();
  EXPECT_EQ(version->type, FrameType::Checkpoint);
  EXPECT_EQ(version->payload, R"({"state_version":4})");
  (void)co_await child->receive();
  co_await child->send(FrameType::Error,
                       R"({"of":"state","code":"state-version-unknown","message":"no way down"})");
  auto const resume = co_await child->receive();
  EXPECT_EQ(resume->payload, R"({"memory":"own"})");
  co_await child->send(FrameType::Ack, R"({"of":"resume"})");
}

constexpr std::string_view kHelloWithVersion =
    R"({"role":"service","instance":"7","pid":1,"sdk":"test","state_version":3,)"
    R"("capabilities":["export","shm","resume","version","trial","drain"]})";

// A newer revision's memory, offered to the old one in a rollback.
CORO_TEST(SrpSession, AChildThatCannotTakeMemoryBackResumesOnItsOwn) {
  Bench bench(loop);
  Child child(bench.path());
  co_await child.send(FrameType::Hello, std::string(kHelloWithVersion));
  (void)co_await child.receive();
  co_await bench.said_hello.wait();
  EXPECT_EQ(bench.session()->hello().state_version, 3U);
  auto state = or_throw(State::from_bytes(StateFormat::Json, "{}"));
  state.set_version(4);
  Task<Status> resuming = bench.session()->resume(state, Mechanism::Pipe, kLong);
  Task<void> playing = refuse_attached(&child);
  Status const resumed = co_await beside(loop, std::move(resuming), std::move(playing));
  CO_ASSERT_FALSE(resumed.has_value());
  EXPECT_EQ(resumed.error().code(), ErrorCode::HandoffFailed);
  EXPECT_TRUE(resumed.error().message().contains("no way down")) << resumed.error().message();
  EXPECT_TRUE(bench.session() != nullptr) << "it is not cut off for that";
  co_await bench.server.stop();
}

CORO_TEST(SrpSession, AChildThatDoesNotAnswerResumeIsCutOffSoThatItWorksOn) {
  Bench bench(loop);
  Child child(bench.path());
  co_await bench.greet(child);
  Status const resumed = co_await bench.session()->resume(std::nullopt, Mechanism::Pipe, 20ms);
  EXPECT_FALSE(resumed);
  auto const resume = co_await child.receive();
  EXPECT_EQ(resume->type, FrameType::Resume);
  auto const nothing = co_await child.receive();
  EXPECT_FALSE(nothing.has_value());
  co_await bench.server.stop();
}

Task<void> play_trial(Child* child) {
  auto const asked = co_await child->receive();
  EXPECT_EQ(asked->payload, R"({"mechanism":"pipe","deadline_ms":30000,"trial":true})");
  co_await child->send(FrameType::Checkpoint, R"({"state_version":3})");
  co_await child->send_state(FrameType::StateJson, {"{}"}, ChecksumKind::Crc32);
  (void)co_await child->receive();
}

CORO_TEST(SrpSession, ATrialExportSaysSoAndBringsTheVersion) {
  Bench bench(loop);
  Child child(bench.path());
  co_await bench.greet(child);
  Task<Result<Exported>> exporting =
      bench.session()->export_state(Mechanism::Pipe, kLong, Trial::Yes);
  Task<void> playing = play_trial(&child);
  auto const exported = co_await beside(loop, std::move(exporting), std::move(playing));
  CO_ASSERT_TRUE(exported.has_value() && exported->state.has_value());
  EXPECT_EQ(exported->state->version(), 3U);
  co_await bench.server.stop();
}

CORO_TEST(SrpSession, ADrainIsToldToWhomItMeansSomething) {
  Bench bench(loop);
  Child deaf(bench.path());
  co_await bench.greet(deaf);
  Status const unheard = co_await bench.session()->drain(30s, 5s);
  EXPECT_TRUE(unheard);
  deaf.leave();
  co_await bench.left.wait();
  bench.said_hello.reset();

  Child child(bench.path());
  co_await child.send(FrameType::Hello, std::string(kHelloWithVersion));
  (void)co_await child.receive();
  co_await bench.said_hello.wait();
  Status const told = co_await bench.session()->drain(30s, 5s);
  EXPECT_TRUE(told);
  auto const frame = co_await child.receive();
  EXPECT_EQ(frame->type, FrameType::Drain);
  EXPECT_EQ(frame->payload, R"({"deadline_ms":30000,"spread_ms":5000})");
  Status const hurried = co_await bench.session()->drain(1s, std::nullopt);
  EXPECT_TRUE(hurried);
  auto const second = co_await child.receive();
  EXPECT_EQ(second->payload, R"({"deadline_ms":1000})");
  co_await bench.server.stop();
}

CORO_TEST(SrpSession, GivesAListenerToAChildThatAsks) {
  Bench bench(loop);
  auto pair = or_throw(os::unix_pair());
  bench.listener = pair.first.get();
  Child child(bench.path());
  co_await bench.greet(child);
  co_await child.send(FrameType::Listen, R"({"address":":8080"})");
  auto answer = co_await child.receive();
  CO_ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->payload, R"({"of":"listen","name":"http","address":"[::]:8080"})");
  CO_ASSERT_EQ(child.fds.size(), 1U);
  co_await child.send(FrameType::Listen, R"({"address":"nonsense"})");
  answer = co_await child.receive();
  EXPECT_EQ(answer->type, FrameType::Error);
  EXPECT_TRUE(bench.session() != nullptr);
  co_await bench.server.stop();
}

CORO_TEST(SrpSession, EndsTheExchangeAtOnceWhenTheChildDies) {
  Bench bench(loop);
  Child child(bench.path());
  co_await bench.greet(child);
  Task<Result<Exported>> exporting = bench.session()->export_state(Mechanism::Pipe, kLong);
  Task<void> dying = [](Child* dead) -> Task<void> {
    (void)co_await dead->receive();
    dead->leave();
  }(&child);
  auto exported = co_await beside(loop, std::move(exporting), std::move(dying));
  CO_ASSERT_FALSE(exported.has_value());
  EXPECT_EQ(exported.error().code(), ErrorCode::Unreachable);
  co_await bench.server.stop();
}

CORO_TEST(SrpSession, GarbageAndMisplacedFramesEndOnlyTheirOwnSessionAndLeakNothing) {
  Bench bench(loop);
  Child first(bench.path());
  co_await bench.greet(first);
  std::size_t const before = open_fds();
  first.leave();
  co_await bench.left.wait();
  bench.left.reset();
  std::string const hello = encode({FrameType::Hello, 0, std::string(kHello)});
  std::vector<std::string> const garbage{
      "GET / HTTP/1.1\r\n\r\n",
      std::string(100, '\0'),
      encode({FrameType::Load, 0, "{}"}),
      encode({FrameType::Hello, 0, "not json"}),
      hello + hello,
      hello + encode({FrameType::Export, 0, "{}"}),
      hello + encode({FrameType::Load, 0, "{}"}) + encode({FrameType::Load, 0, "{}"}),
      hello + encode({FrameType::Listen, 0, "[1]"}),
      hello + encode({FrameType::ConnectionFd, 0, "{}"}),
      hello + std::string("\x00\x00", 2),
  };
  for (std::string const& bytes : garbage) {
    Child child(bench.path());
    co_await child.send(bytes, 2);  // with a descriptor that nothing asked for
    std::vector<Frame> frames;
    if (bytes.size() == hello.size() + 2) child.leave();
    for (bool open = bytes.size() != hello.size() + 2; open;) {
      auto frame = co_await child.receive();
      open = frame.has_value();
      if (open) frames.push_back(std::move(*frame));
    }
  }
  while (bench.warnings.size() < garbage.size()) co_await async::sleep_for(1ms);
  Child good(bench.path());
  co_await bench.greet(good);
  EXPECT_TRUE(bench.session() != nullptr);
  EXPECT_EQ(open_fds(), before);
  co_await bench.server.stop();
}

}  // namespace
}  // namespace aether::relay
