// SPDX-License-Identifier: Apache-2.0
#include "functions/ready_socket.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include <gtest/gtest.h>

#include "async/loop.h"
#include "async/testing.h"
#include "async/timers.h"
#include "functions/handler_hooks.h"
#include "os/temp_dir.h"
#include "os/unix_socket.h"

namespace aether::functions {
namespace {

using Verdict = ReadyWord::Verdict;

TEST(ReadyWord, MayComeInPieces) {
  ReadyWord word;
  EXPECT_EQ(word.push("RE"), Verdict::More);
  EXPECT_EQ(word.push(""), Verdict::More);
  EXPECT_EQ(word.push("AD"), Verdict::More);
  EXPECT_EQ(word.push("Y"), Verdict::Ready);
}

TEST(ReadyWord, MayBeFollowedByANewlineAndByWhatLibrariesSay) {
  ReadyWord word;
  EXPECT_EQ(word.push("READY\nHOO"), Verdict::Ready);
  EXPECT_EQ(word.push("KS\n"), Verdict::Ready);
  EXPECT_EQ(word.rest(), "\nHOOKS\n");
}

TEST(ReadyWord, IsNothingElse) {
  for (char const* said : {"ready", "READX", " READY", "NOTREADY", "\n", "GET / HTTP/1.1\r\n"}) {
    ReadyWord word;
    EXPECT_EQ(word.push(said), Verdict::Nonsense) << said;
    EXPECT_EQ(word.push("READY"), Verdict::Nonsense) << said;
  }
}

TEST(ReadyWord, KeepsLittleOfEndlessTalk) {
  ReadyWord word;
  word.push("READY");
  for (int i = 0; i < 1000; ++i) word.push("all work and no play");
  EXPECT_LE(word.rest().size(), 256U);
}

struct Rig {
  explicit Rig(async::Loop& loop) : dir(or_throw(os::TempDir::create("ready"))) {
    socket = or_throw(ReadySocket::open(loop.executor(), dir.file("s"), [this](pid_t pid) {
      ready.push_back(pid);
      told.set();
    }));
  }
  os::UniqueFd connect() const {
    return or_throw(os::connect_unix(socket->path(), os::UnixKind::Stream, os::Blocking::Yes));
  }
  os::TempDir dir;
  std::unique_ptr<ReadySocket> socket;
  std::vector<pid_t> ready;
  async::Event told;
};

void say(os::UniqueFd const& fd, std::string_view text) {
  ASSERT_EQ(::write(fd.get(), text.data(), text.size()), std::ssize(text));
}

CORO_TEST(ReadySocket, TellsWhoIsReadyEvenIfItHasLeft) {
  Rig rig(loop);
  {
    os::UniqueFd const handler = rig.connect();
    say(handler, "READY");
  }
  bool const told = co_await rig.told.wait_for(std::chrono::seconds(30));
  CO_ASSERT_TRUE(told);
  EXPECT_EQ(rig.ready, std::vector{::getpid()});
  co_await rig.socket->close();
}

CORO_TEST(ReadySocket, ACopyIsToldWhoItIsThoughTheLoopHasNotTurnedSinceItConnected) {
  Rig rig(loop);
  os::UniqueFd const copy = rig.connect();
  rig.socket->tell(::getpid(), "RESTORED 7 00\n");
  std::array<char, 64> heard{};
  ssize_t const count = ::recv(copy.get(), heard.data(), heard.size(), MSG_DONTWAIT);
  EXPECT_EQ(std::string_view(heard.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0))),
            "RESTORED 7 00\n");
  say(copy, kHookAnswer);
  bool const answered = co_await rig.socket->answered(::getpid(), std::chrono::seconds(30));
  EXPECT_TRUE(answered);
  EXPECT_TRUE(rig.ready.empty());
  co_await rig.socket->close();
}

CORO_TEST(ReadySocket, NobodyAnswersWhoIsNotConnected) {
  Rig rig(loop);
  bool const answered = co_await rig.socket->answered(::getpid(), std::chrono::seconds(30));
  EXPECT_FALSE(answered);
  co_await rig.socket->close();
}

}  // namespace
}  // namespace aether::functions
