// SPDX-License-Identifier: Apache-2.0
#include "steer/unix_steering.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <thread>

#include <gmock/gmock.h>

#include "base/log.h"
#include "os/proc.h"
#include "os/temp_dir.h"
#include "steer/testing.h"

namespace aether::steer {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class UnixListener : public ::testing::Test {
 protected:
  ListenerGroup open(std::string_view scheme = "unix:", std::optional<unsigned> mode = {}) {
    auto group = ListenerGroup::open(
        {.name = "app", .address = address_of(std::string(scheme) + path()), .unix_mode = mode});
    if (!group) throw std::move(group).error();
    return *std::move(group);
  }
  std::string path() const { return folder_.file("app.sock"); }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    DIR* const entries = opendir(folder_.path().c_str());
    while (dirent const* const entry = readdir(entries))
      if (entry->d_name != std::string(".") && entry->d_name != std::string(".."))
        names.emplace_back(entry->d_name);
    closedir(entries);
    std::ranges::sort(names);
    return names;
  }
  unsigned mode_of_path() const {
    struct stat status{};
    stat(path().c_str(), &status);
    return status.st_mode & 07777U;
  }

  os::TempDir folder_ = *os::TempDir::create("steer");
};

TEST_F(UnixListener, SteersNewConnectionsAndBack) {
  for (auto const* scheme : {"unix:", "unix-seqpacket:"}) {
    auto group = open(scheme);
    int const one = lane(group, 1);
    lane(group, 2);
    auto const queued = connect_to(group.bound());
    ASSERT_TRUE(group.steer_to(revision(2)));
    EXPECT_EQ(lands_on(group, {2}), 2U);
    EXPECT_FALSE(group.queue(revision(1))->empty);
    EXPECT_EQ(answer_all(one, "one"), 1);
    EXPECT_EQ(read_all(queued.get()), "one");
    EXPECT_TRUE(group.queue(revision(1))->empty);
    ASSERT_TRUE(group.steer_to(revision(1)));
    EXPECT_EQ(lands_on(group, {1}), 1U);
    ASSERT_TRUE(group.retire(revision(2)));
    EXPECT_EQ(lands_on(group, {1}), 1U);
  }
}

TEST_F(UnixListener, SteersDatagrams) {
  auto group = open("unix-dgram:");
  lane(group, 1);
  lane(group, 2);
  auto const first = connect_to(group.bound());
  send(first.get(), "a", 1, 0);
  ASSERT_TRUE(group.steer_to(revision(2)));
  auto const second = connect_to(group.bound());
  send(second.get(), "b", 1, 0);
  char letter = 0;
  EXPECT_EQ(recv(lane(group, 1), &letter, 1, MSG_DONTWAIT), 1);
  EXPECT_EQ(letter, 'a');
  EXPECT_EQ(recv(lane(group, 2), &letter, 1, MSG_DONTWAIT), 1);
  EXPECT_EQ(letter, 'b');
}

TEST_F(UnixListener, LeavesNoFileBehind) {
  {
    auto group = open();
    for (std::uint64_t n = 1; n <= 3; ++n) lane(group, n);
    ASSERT_TRUE(group.steer_to(revision(2)));
    EXPECT_EQ(files().size(), 1U + 3U * 2U);
    ASSERT_TRUE(group.retire(revision(1)));
    EXPECT_EQ(files().size(), 1U + 2U * 2U);
  }
  EXPECT_THAT(files(), ElementsAre());
}

TEST_F(UnixListener, StaysWithoutFileOrFdLeaksOver500Lanes) {
  auto group = open();
  lane(group, 1);
  auto const fds = os::count_own_fds();
  auto const names = files().size();
  for (std::uint64_t n = 2; n <= 501; ++n) {
    lane(group, n);
    ASSERT_TRUE(group.steer_to(revision(n)));
    ASSERT_TRUE(group.retire(revision(n - 1)));
  }
  EXPECT_EQ(os::count_own_fds(), fds);
  EXPECT_EQ(files().size(), names);
}

TEST_F(UnixListener, LosesNothingUnderLoadOverCutoversAndRollbacks) {
  auto group = open();
  std::array const lanes{lane(group, 1), lane(group, 2)};
  std::atomic<bool> done{false};
  std::vector<std::thread> servers;
  for (int const fd : lanes)
    servers.emplace_back([fd, &done] {
      while (!done) {
        if (!waits_for(fd, POLLIN, 5)) continue;
        answer_all(fd, "ok");
      }
      answer_all(fd, "ok");
    });
  std::atomic<int> answered{0};
  constexpr int kClients = 4;
  constexpr int kEach = 500;
  std::vector<std::thread> clients;
  for (int c = 0; c < kClients; ++c)
    clients.emplace_back([&group, &answered] {
      for (int i = 0; i < kEach; ++i) {
        auto const client = connect_to(group.bound());
        if (client && read_all(client.get()) == "ok") ++answered;
      }
    });
  for (std::uint64_t flip = 0; flip < 200; ++flip) {
    ASSERT_TRUE(group.steer_to(revision(flip % 2 + 1)));
    std::this_thread::yield();
  }
  for (auto& client : clients) client.join();
  done = true;
  for (auto& server : servers) server.join();
  EXPECT_EQ(answered, kClients * kEach);
}

// Edge: A8
TEST_F(UnixListener, ReplacesAStaleFileAndKeepsItsMode) {
  {
    os::UniqueFd dead(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    auto const address = to_socket_address(address_of("unix:" + path()));
    ASSERT_EQ(bind(dead.get(), address->get(), address->length), 0);
    chmod(path().c_str(), 0640);
  }
  auto group = open();
  EXPECT_EQ(mode_of_path(), 0640U);
  EXPECT_EQ(lands_on(group, {1}), 1U);
}

TEST_F(UnixListener, RefusesAPathThatSomebodyListensOnOrThatIsNoSocket) {
  auto const refusal = [&](std::string_view scheme) {
    auto const group =
        ListenerGroup::open({.name = "app", .address = address_of(std::string(scheme) + path())});
    EXPECT_FALSE(group);
    if (group) return std::string();
    EXPECT_EQ(group.error().code(), ErrorCode::AddressInUse);
    return group.error().message();
  };
  for (auto const* scheme : {"unix:", "unix-dgram:", "unix-seqpacket:"}) {
    auto const holder = open(scheme);
    EXPECT_THAT(refusal("unix:"), HasSubstr("listens there"));
    EXPECT_THAT(refusal(scheme), HasSubstr("listens there"));
  }
  auto const holder = open();
  EXPECT_THAT(refusal("unix:"), HasSubstr(fmt::format("pid {}", getpid())));
  EXPECT_TRUE(std::ofstream(folder_.file("plain")) << "x");
  auto const plain =
      ListenerGroup::open({.name = "app", .address = address_of("unix:" + folder_.file("plain"))});
  EXPECT_THAT(plain.error().message(), HasSubstr("no socket"));
  auto const nowhere = ListenerGroup::open(
      {.name = "app", .address = address_of("unix:" + folder_.file("none/app.sock"))});
  EXPECT_EQ(nowhere.error().code(), ErrorCode::ListenFailed);
  EXPECT_THAT(nowhere.error().message(), HasSubstr("create it"));
}

TEST_F(UnixListener, SetsTheModeAndKeepsWhatWasChangedOverCutovers) {
  auto group = open("unix:", 0606);
  EXPECT_EQ(mode_of_path(), 0606U);
  lane(group, 1);
  lane(group, 2);
  ASSERT_TRUE(group.steer_to(revision(2)));
  EXPECT_EQ(mode_of_path(), 0606U);
  auto other = ListenerGroup::open(
      {.name = "app", .address = address_of("unix:" + folder_.file("other.sock"))});
  lane(*other, 1);
  chmod(folder_.file("other.sock").c_str(), 0612);
  lane(*other, 2);
  ASSERT_TRUE(other->steer_to(revision(2)));
  struct stat status{};
  stat(folder_.file("other.sock").c_str(), &status);
  EXPECT_EQ(status.st_mode & 07777U, 0612U);
}

// Edge: A8
TEST_F(UnixListener, OutlivesAProgramThatUnlinksItsSocketOnExit) {
  auto group = open();
  lane(group, 1);
  int const two = lane(group, 2);
  ASSERT_TRUE(group.steer_to(revision(2)));
  auto const shown = local_address(two);
  ASSERT_TRUE(shown);
  EXPECT_NE(shown->path, path());
  EXPECT_EQ(unlink(shown->path.c_str()), 0);
  EXPECT_EQ(lands_on(group, {2}), 2U);
  ASSERT_TRUE(group.steer_to(revision(1)));
  ASSERT_TRUE(group.steer_to(revision(2)));
  EXPECT_EQ(lands_on(group, {2}), 2U);
}

TEST_F(UnixListener, PutsThePathBackWhenAnEndedProgramRemovedIt) {
  auto group = open();
  lane(group, 1);
  lane(group, 2);
  ASSERT_TRUE(group.steer_to(revision(2)));
  unlink(path().c_str());
  EXPECT_FALSE(connect_to(group.bound()));
  log::set_sink([](log::Level, std::string_view) {});
  ASSERT_TRUE(group.retire(revision(1)));
  log::set_sink({});
  EXPECT_EQ(lands_on(group, {2}), 2U);
}

TEST_F(UnixListener, LeavesAFileThatSomeoneElsePutThereInTheEnd) {
  {
    auto group = open();
    unlink(path().c_str());
    EXPECT_TRUE(std::ofstream(path()) << "not ours");
  }
  EXPECT_THAT(files(), ElementsAre("app.sock"));
}

TEST_F(UnixListener, ReplacesALaneThatItsProgramShutDown) {
  log::set_sink([](log::Level, std::string_view) {});
  auto group = open();
  shutdown(lane(group, 1), SHUT_RDWR);
  ASSERT_TRUE(group.check());
  EXPECT_EQ(lands_on(group, {1}), 1U);
  EXPECT_EQ(files().size(), 3U);
  log::set_sink({});
}

TEST_F(UnixListener, SweepsTheHiddenNamesOfAnAetherThatWasKilled) {
  for (auto const* name : {".app.sock.aether-4000001-1", ".app.sock.aether-4000001-1.keep",
                           ".app.sock.aether-4000001-next"}) {
    os::UniqueFd dead(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    auto const address = to_socket_address(address_of("unix:" + folder_.file(name)));
    ASSERT_EQ(bind(dead.get(), address->get(), address->length), 0);
  }
  EXPECT_TRUE(std::ofstream(folder_.file(".app.sock.aether-notes")) << "x");
  {
    auto const group = open();
  }
  EXPECT_THAT(files(), ElementsAre(".app.sock.aether-notes"));
}

TEST_F(UnixListener, TakesTheLongestPathThatTheKernelKnows) {
  auto const length = kUnixPathMax - folder_.path().size() - 1;
  auto group = ListenerGroup::open(
      {.name = "app", .address = address_of("unix:" + folder_.file(std::string(length, 'x')))});
  ASSERT_TRUE(group) << group.error().describe();
  EXPECT_EQ(lands_on(*group, {1}), 1U);
  lane(*group, 2);
  ASSERT_TRUE(group->steer_to(revision(2)));
  EXPECT_EQ(lands_on(*group, {2}), 2U);
}

// Edge: A7
TEST_F(UnixListener, SharesTheSocketOfAnAbstractName) {
  auto const name = fmt::format("unix:@aether-steer-test-{}", getpid());
  {
    auto group = open_group(name);
    EXPECT_EQ(group.mode(), ListenMode::Shared);
    EXPECT_EQ(lane(group, 1), lane(group, 2));
    EXPECT_EQ(lands_on(group, {1}), 1U);
    auto const again = ListenerGroup::open({.name = "app", .address = address_of(name)});
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code(), ErrorCode::AddressInUse);
    EXPECT_THAT(again.error().message(), HasSubstr(fmt::format("pid {}", getpid())));
    shutdown(lane(group, 1), SHUT_RDWR);
    log::set_sink([](log::Level, std::string_view) {});
    ASSERT_TRUE(group.check());
    EXPECT_EQ(lands_on(group, {1}), 1U);
    log::set_sink({});
  }
  EXPECT_TRUE(ListenerGroup::open({.name = "app", .address = address_of(name)}));
}

TEST_F(UnixListener, SharesOneSocketOnAPathWhenAskedTo) {
  auto group = ListenerGroup::open(
      {.name = "app", .address = address_of("unix:" + path()), .mode = ListenMode::Exclusive});
  ASSERT_TRUE(group);
  EXPECT_EQ(lane(*group, 1), lane(*group, 2));
  EXPECT_EQ(lands_on(*group, {2}), 2U);
}

}  // namespace
}  // namespace aether::steer
