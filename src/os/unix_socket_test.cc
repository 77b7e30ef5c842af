// SPDX-License-Identifier: Apache-2.0
#include "os/unix_socket.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <random>

#include <fmt/format.h>

#include "os/memfd.h"
#include "os/proc.h"
#include "os/temp_dir.h"
#include "os/testing.h"

namespace aether::os {
namespace {

using Buffer = std::array<char, 4096>;

TempDir new_folder() {
  return std::move(*TempDir::create("aether-socket"));
}

mode_t mode_of(std::string const& path) {
  struct stat status{};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return status.st_mode & 07777;
}

/// Many descriptors of one memfd, borrowed.
std::vector<int> repeated(int fd, std::size_t count) {
  return std::vector<int>(count, fd);
}

TEST(UnixSocket, ConnectsTwoSidesThatKnowEachOther) {
  TempDir const folder = new_folder();
  for (UnixKind kind : {UnixKind::Stream, UnixKind::Seqpacket}) {
    std::string const path = folder.file(fmt::format("socket-{}", static_cast<int>(kind)));
    auto const listener = listen_unix(path, kind);
    ASSERT_TRUE(listener) << listener.error().describe();
    EXPECT_EQ(accept_unix(listener->get())->has_value(), false);
    auto const client = connect_unix(path, kind);
    ASSERT_TRUE(client);
    auto const server = accept_unix(listener->get());
    ASSERT_TRUE(server && *server);
    PeerCredentials const us{.pid = ::getpid(), .uid = ::getuid(), .gid = ::getgid()};
    EXPECT_EQ(peer_credentials((*server)->get()), us);
    EXPECT_EQ(send_with_fds(client->get(), "hello"), 5U);
    Buffer buffer{};
    auto const received = receive_with_fds((*server)->get(), buffer).value();
    ASSERT_TRUE(received);
    EXPECT_EQ(std::string_view(buffer.data(), received->bytes), "hello");
  }
}

TEST(UnixSocket, HasItsModeWhateverTheUmaskIs) {
  TempDir const folder = new_folder();
  mode_t const before = ::umask(0);
  auto const narrow = listen_unix(folder.file("narrow"), UnixKind::Stream, 0600);
  ::umask(0777);
  auto const wide = listen_unix(folder.file("wide"), UnixKind::Stream, 0666);
  ::umask(before);
  EXPECT_EQ(mode_of(folder.file("narrow")), 0600U);
  EXPECT_EQ(mode_of(folder.file("wide")), 0666U);
}

TEST(UnixSocket, TakesThePlaceOfAStaleOneOnly) {
  TempDir const folder = new_folder();
  std::string const path = folder.file("socket");
  auto first = listen_unix(path);
  ASSERT_TRUE(first);
  EXPECT_TRUE(is_listening(path));
  EXPECT_EQ(listen_unix(path).error().code(), ErrorCode::AddressInUse);
  EXPECT_EQ(listen_unix(path, UnixKind::Datagram).error().code(), ErrorCode::AddressInUse);
  first->reset();  // as a program that died: the file stays
  EXPECT_FALSE(is_listening(path));
  EXPECT_TRUE(listen_unix(path));
}

TEST(UnixSocket, NeverRemovesAFileThatIsNotASocket) {
  TempDir const folder = new_folder();
  ASSERT_TRUE(write_file_atomically(folder.file("data"), "precious"));
  auto const refused = listen_unix(folder.file("data"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::AddressInUse);
  EXPECT_EQ(read_file(folder.file("data"), 100).value(), "precious");
}

TEST(UnixSocket, MayHaveAnAbstractName) {
  std::string const name = fmt::format("@aether-test-{}", ::getpid());
  auto const listener = listen_unix(name);
  ASSERT_TRUE(listener);
  EXPECT_TRUE(connect_unix(name));
  EXPECT_EQ(listen_unix(name).error().code(), ErrorCode::AddressInUse);
}

TEST(UnixSocket, RefusesPathsThatTheKernelWouldCut) {
  TempDir const folder = new_folder();
  std::string fitting = folder.path() + "/";
  fitting.resize(kUnixPathMax, 'x');
  EXPECT_TRUE(listen_unix(fitting));
  auto const refused = listen_unix(fitting + "x");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::AddressInvalid);
  EXPECT_NE(refused.error().message().find("108 bytes"), std::string::npos);
  EXPECT_EQ(listen_unix("").error().code(), ErrorCode::AddressInvalid);
  EXPECT_EQ(connect_unix("@").error().code(), ErrorCode::AddressInvalid);
  EXPECT_EQ(connect_unix(std::string("/a\0b", 4)).error().code(), ErrorCode::AddressInvalid);
}

TEST(UnixSocket, SaysThatNobodyListens) {
  TempDir const folder = new_folder();
  EXPECT_EQ(connect_unix(folder.file("none")).error().code(), ErrorCode::Unreachable);
  EXPECT_EQ(listen_unix(folder.file("no/folder")).error().code(), ErrorCode::ListenFailed);
}

TEST(UnixSocket, DoesNotWaitForAFullQueue) {
  TempDir const folder = new_folder();
  std::string const path = folder.file("full");
  auto const listener = listen_unix(path, UnixKind::Stream, 0600, 1);
  std::vector<UniqueFd> clients;
  Result<UniqueFd> refused = connect_unix(path, UnixKind::Stream, Blocking::Yes);
  for (int i = 0; i < 100 && refused; ++i) {
    clients.push_back(std::move(*refused));
    refused = connect_unix(path, UnixKind::Stream, Blocking::Yes);
  }
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::Unreachable);
  EXPECT_TRUE(is_listening(path)) << "a full queue is somebody's";
}

TEST(UnixMessage, CarriesDescriptorsThatChildrenDoNotInherit) {
  auto const [left, right] = std::move(*unix_pair());
  auto const memory = Memfd::create("passed", 7);
  int const fds[] = {memory->fd()};
  ASSERT_EQ(send_with_fds(left.get(), "m", fds), 1U);
  Buffer buffer{};
  auto const received = receive_with_fds(right.get(), buffer, 1).value();
  ASSERT_TRUE(received);
  ASSERT_EQ(received->fds.size(), 1U);
  EXPECT_FALSE(received->fds_truncated);
  EXPECT_EQ(::fcntl(received->fds[0].get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

TEST(UnixMessage, TakesAsManyDescriptorsAsTheKernelAndNoMore) {
  auto const [left, right] = std::move(*unix_pair(UnixKind::Seqpacket));
  auto const memory = Memfd::create("passed", 1);
  std::size_t const before = count_own_fds();
  EXPECT_EQ(send_with_fds(left.get(), "m", repeated(memory->fd(), 253)), 1U);
  EXPECT_EQ(send_with_fds(left.get(), "m", repeated(memory->fd(), 254)).error().code(),
            ErrorCode::LimitReached);
  Buffer buffer{};
  {
    auto const received = receive_with_fds(right.get(), buffer, kFdsPerMessageMax).value();
    ASSERT_TRUE(received);
    EXPECT_EQ(received->fds.size(), 253U);
    EXPECT_EQ(count_own_fds(), before + 253);
  }
  EXPECT_EQ(count_own_fds(), before);
}

TEST(UnixMessage, ClosesAllDescriptorsIfMoreCameThanAskedFor) {
  auto const [left, right] = std::move(*unix_pair(UnixKind::Seqpacket));
  auto const memory = Memfd::create("passed", 1);
  std::size_t const before = count_own_fds();
  // 0 and 1 leave room in the buffer's padding: the kernel delivers more than was asked for.
  for (std::size_t asked : {0, 1, 2, 5, 100, 252}) {
    for (std::size_t sent : {asked + 1, asked + 2, std::size_t{253}}) {
      if (sent > kFdsPerMessageMax) continue;
      ASSERT_TRUE(send_with_fds(left.get(), "m", repeated(memory->fd(), sent)));
      Buffer buffer{};
      auto const received = receive_with_fds(right.get(), buffer, asked).value();
      ASSERT_TRUE(received);
      EXPECT_TRUE(received->fds_truncated) << sent << " for " << asked;
      EXPECT_TRUE(received->fds.empty());
      EXPECT_EQ(received->bytes, 1U);
      EXPECT_EQ(count_own_fds(), before);
    }
  }
}

TEST(UnixMessage, NoticesDescriptorsThatOurLimitKeptFromArriving) {
  EXPECT_TRUE(testing::in_own_process([] {
    auto const [left, right] = std::move(*unix_pair());
    auto const memory = Memfd::create("passed", 1);
    ASSERT_TRUE(send_with_fds(left.get(), "m", repeated(memory->fd(), 20)));
    std::size_t const before = count_own_fds();
    rlimit old{};
    ::getrlimit(RLIMIT_NOFILE, &old);
    rlimit const lowered{.rlim_cur = static_cast<rlim_t>(memory->fd()) + 5,
                         .rlim_max = old.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &lowered), 0);
    Buffer buffer{};
    auto const received = receive_with_fds(right.get(), buffer, 20).value();
    ::setrlimit(RLIMIT_NOFILE, &old);
    ASSERT_TRUE(received);
    EXPECT_TRUE(received->fds_truncated);
    EXPECT_EQ(count_own_fds(), before);
  }));
}

TEST(UnixMessage, TellsFromWhomADatagramCame) {
  TempDir const folder = new_folder();
  std::string const path = folder.file("notify");
  auto const socket = listen_unix(path, UnixKind::Datagram);
  ASSERT_TRUE(socket);
  ASSERT_TRUE(pass_credentials(socket->get()));
  SpawnSpec spec = testing::python(
      "import os, socket\n"
      "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
      "s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])\n"
      "s.sendto(b'', os.environ['NOTIFY_SOCKET'])\n"
      "s.sendto(b'x' * 65000, os.environ['NOTIFY_SOCKET'])\n");
  spec.environment.push_back("NOTIFY_SOCKET=" + path);
  testing::Program sender(std::move(spec));
  EXPECT_TRUE(sender.wait().success());  // dead when its words are read
  Buffer buffer{};
  auto received = receive_with_fds(socket->get(), buffer).value();
  ASSERT_TRUE(received && received->sender);
  EXPECT_EQ(received->sender->pid, sender.pid());
  EXPECT_EQ(received->sender->uid, ::getuid());
  EXPECT_EQ(std::string_view(buffer.data(), received->bytes), "READY=1");
  received = receive_with_fds(socket->get(), buffer).value();
  EXPECT_EQ(received->bytes, 0U);
  EXPECT_TRUE(received->sender) << "an empty datagram is one all the same";
  received = receive_with_fds(socket->get(), buffer).value();
  EXPECT_TRUE(received->bytes_truncated);
  EXPECT_EQ(receive_with_fds(socket->get(), buffer).value().has_value(), false);
}

TEST(UnixMessage, CarriesDescriptorsAndCredentialsTogether) {
  auto const [left, right] = std::move(*unix_pair(UnixKind::Datagram));
  ASSERT_TRUE(pass_credentials(right.get()));
  auto const memory = Memfd::create("passed", 1);
  ASSERT_TRUE(send_with_fds(left.get(), "m", repeated(memory->fd(), 253)));
  Buffer buffer{};
  auto const received = receive_with_fds(right.get(), buffer, kFdsPerMessageMax).value();
  ASSERT_TRUE(received);
  EXPECT_EQ(received->fds.size(), 253U);
  EXPECT_EQ(received->sender->pid, ::getpid());
}

TEST(UnixMessage, ToAPeerThatIsGoneIsUnreachableAndNoSignal) {
  auto [left, right] = std::move(*unix_pair());
  right.reset();
  EXPECT_EQ(send_with_fds(left.get(), "m").error().code(), ErrorCode::Unreachable);
  Buffer buffer{};
  auto const end = receive_with_fds(left.get(), buffer).value();
  ASSERT_TRUE(end);
  EXPECT_EQ(end->bytes, 0U);
}

TEST(UnixMessage, WaitsForNobody) {
  auto const [left, right] = std::move(*unix_pair(UnixKind::Stream, Blocking::Yes));
  Buffer buffer{};
  EXPECT_EQ(receive_with_fds(right.get(), buffer).value().has_value(), false);
  std::string const chunk(65'536, 'x');
  bool full = false;
  for (int i = 0; i < 1000 && !full; ++i) full = !send_with_fds(left.get(), chunk).value();
  EXPECT_TRUE(full);
}

TEST(UnixMessage, SurvivesGarbageWithDescriptorsInIt) {
  auto const [left, right] = std::move(*unix_pair(UnixKind::Seqpacket));
  auto const memory = Memfd::create("garbage", 1);
  std::size_t const before = count_own_fds();
  std::mt19937 random(20261121);
  for (int i = 0; i < 500; ++i) {
    std::string bytes(random() % 5000, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    ASSERT_TRUE(send_with_fds(left.get(), bytes, repeated(memory->fd(), random() % 6)));
    Buffer buffer{};
    auto const received = receive_with_fds(right.get(), buffer, random() % 6).value();
    ASSERT_TRUE(received);
    EXPECT_EQ(received->bytes_truncated, bytes.size() > buffer.size());
  }
  EXPECT_EQ(count_own_fds(), before);
}

}  // namespace
}  // namespace aether::os
