// SPDX-License-Identifier: Apache-2.0
// ProcessImages by a real CRIU: what comes out of them, and what is never used.
#include "clone/image.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/fault.h"
#include "clone/testing.h"
#include "os/cgroup.h"
#include "os/temp_dir.h"

namespace aether::clone {
namespace {

using os::testing::kPatience;
using os::testing::python;
using testing::HasSubstr;
using tests::ask;
using tests::Server;

/// The CRIU of this machine; tests without one skip.
class ProcessImages : public testing::Test {
 protected:
  void SetUp() override {
    auto folder = os::TempDir::create("aether-images", "/dev/shm");
    ASSERT_TRUE(folder) << folder.error().describe();
    folder_.emplace(std::move(*folder));
    auto criu = check_criu(folder_->file("criu"), spawn_plainly);
    if (!criu) GTEST_SKIP() << criu.error().message();
    criu_.emplace(std::move(*criu));
    ASSERT_TRUE(make_private_folder(shelf_folder()));
    shelf_.emplace(shelf_folder());
  }
  [[nodiscard]] std::string shelf_folder() const { return folder_->file("shelf"); }

  /// Of a Python server, which is ended by it.
  Result<Image> write(char const* source = tests::kPythonServer, ImageKey const& key = {"a key"}) {
    Server server(quiet(python(source)));
    port_ = server.port;
    // Its last connection may be in TIME_WAIT; it has none that is established.
    return shelf_->write(*criu_, {.pid = server.program.pid(), .port = port_}, key, spawn_plainly,
                         kPatience);
  }
  [[nodiscard]] Restore::Wishes wishes() const { return {.scratch = folder_->path()}; }

  /// Its standard error may be a terminal here, which no image can keep.
  os::SpawnSpec quiet(os::SpawnSpec spec) {
    if (!nothing_) nothing_.reset(::open("/dev/null", O_RDWR | O_CLOEXEC));
    spec.fds.push_back({.source = nothing_.get(), .target = 2});
    return spec;
  }
  static Result<std::uint16_t> free_port() {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof name;
    auto* const address = reinterpret_cast<sockaddr*>(&name);
    os::UniqueFd const fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::bind(fd.get(), address, size) != 0 || ::getsockname(fd.get(), address, &size) != 0)
      return fail(system_error("bind"));
    return ntohs(name.sin_port);
  }
  static bool wait(Restore const& restore) {
    pollfd fd{.fd = restore.pidfd(), .events = POLLIN, .revents = 0};
    return ::poll(&fd, 1, 30'000) == 1;
  }
  Result<Restored> restore(Image const& image) {
    TRY_ASSIGN(Restore prepared, Restore::prepare(*criu_, image, wishes(), spawn_plainly));
    TRY(prepared.begin(free_port));
    if (!wait(prepared)) return fail(ErrorCode::Timeout, "criu does not end");
    return prepared.finish();
  }
  std::optional<os::TempDir> folder_;
  std::optional<Criu> criu_;
  std::optional<ImageShelf> shelf_;
  std::uint16_t port_ = 0;
  os::UniqueFd nothing_;
};

/// A restored process, ended with its owner.
class Instance {
 public:
  explicit Instance(Restored restored) : restored_(std::move(restored)) {
    EXPECT_TRUE(restored_.awaken());
  }
  Instance(Instance&&) = delete;
  ~Instance() {
    (void)restored_.child.signal(SIGKILL);
    (void)restored_.child.reap_within(kPatience);
  }
  [[nodiscard]] std::uint16_t port() const { return restored_.listeners.at(0).port; }
  [[nodiscard]] pid_t pid() const { return restored_.child.pid(); }

 private:
  Restored restored_;
};

TEST_F(ProcessImages, AnswerWithNumbersAndPortsOfTheirOwnSeveralAtOnce) {
  auto const image = write();
  ASSERT_TRUE(image) << image.error().describe();
  std::vector<std::unique_ptr<Instance>> instances;
  for (int i = 0; i < 4; ++i) {
    auto restored = restore(*image);
    ASSERT_TRUE(restored) << restored.error().describe();
    instances.push_back(std::make_unique<Instance>(std::move(*restored)));
  }
  std::set<std::uint16_t> ports;
  for (auto const& instance : instances) {
    EXPECT_EQ(ask(instance->port()), std::to_string(instance->pid()));
    ports.insert(instance->port());
  }
  EXPECT_EQ(ports.size(), 4U);
  EXPECT_FALSE(ports.contains(port_));
}

TEST_F(ProcessImages, OfAProgramWithThreadsHaveNumbersThatItsLibraryKnows) {
  auto const image = write(R"(
import http.server, os, threading, ctypes, time, signal
libc = ctypes.CDLL(None)
def waits():
    while True: time.sleep(3600)
threads = [threading.Thread(target=waits, daemon=True) for _ in range(3)]
for one in threads: one.start()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        # pthread_kill() sends to the number that the library remembers.
        sent = [libc.pthread_kill(ctypes.c_ulong(one.ident), 0) for one in threads]
        body = f"{len(os.listdir('/proc/self/task'))} {sent}".encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
)");
  ASSERT_TRUE(image) << image.error().describe();
  auto restored = restore(*image);
  ASSERT_TRUE(restored) << restored.error().describe();
  Instance const instance(std::move(*restored));
  EXPECT_EQ(ask(instance.port()), "4 [0, 0, 0]");
}

TEST_F(ProcessImages, OfAnyAddressListenOnTheLoopbackOne) {
  auto const image = write(R"(
import http.server, socket
class Server(http.server.HTTPServer):
    address_family = socket.AF_INET6
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.socket.getsockname()[0].encode())
    def log_message(self, *a): pass
server = Server(('::', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
)");
  ASSERT_TRUE(image) << image.error().describe();
  auto restored = restore(*image);
  ASSERT_TRUE(restored) << restored.error().describe();
  Instance const instance(std::move(*restored));
  EXPECT_EQ(ask(instance.port()), "::ffff:127.0.0.1");
}

TEST_F(ProcessImages, TellAProgramByItsWipedMemoryThatItIsACopy) {
  auto const image = write(R"(
import http.server, mmap
page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
page.madvise(18)  # MADV_WIPEONFORK
page[0:4] = b'kept'
other = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
other[0:4] = b'kept'
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(repr((page[0:4], other[0:4])).encode())
    def log_message(self, *a): pass
server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
)");
  ASSERT_TRUE(image) << image.error().describe();
  auto restored = restore(*image);
  ASSERT_TRUE(restored) << restored.error().describe();
  Instance const instance(std::move(*restored));
  EXPECT_EQ(ask(instance.port()), R"((b'\x00\x00\x00\x00', b'kept'))");
}

TEST_F(ProcessImages, AreFoundAgainByTheirKeyAndByNoOther) {
  ASSERT_TRUE(write(tests::kPythonServer, {"kernel 1", "handler 2"}));
  EXPECT_TRUE(shelf_->find({"kernel 1", "handler 2"}));
  auto const other = shelf_->find({"kernel 1", "handler 3"});
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code(), ErrorCode::NotFound);
  shelf_->keep_only({{"kernel 1", "handler 3"}});
  EXPECT_FALSE(shelf_->find({"kernel 1", "handler 2"}));
  EXPECT_TRUE(std::filesystem::is_empty(shelf_folder()));
}

TEST_F(ProcessImages, ThatAreTornAreRemovedAndNotUsed) {
  struct Tear {
    char const* file;
    std::function<void(std::string const&)> how;
  };
  auto const flip = [](std::string const& path) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(20);
    char const byte = static_cast<char>(file.get());
    file.seekp(20);
    file.put(static_cast<char>(byte ^ 0x10));
  };
  auto const cut = [](std::string const& path) {
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  };
  auto const remove = [](std::string const& path) { std::filesystem::remove(path); };
  for (Tear const& tear :
       {Tear{"pages-1.img", flip}, Tear{"pages-1.img", cut}, Tear{"files.img", remove},
        Tear{"manifest", cut}, Tear{"manifest", flip}, Tear{"manifest", remove}}) {
    SCOPED_TRACE(tear.file);
    auto const image = write();
    ASSERT_TRUE(image) << image.error().describe();
    tear.how(fmt::format("{}/{}", image->folder, tear.file));
    auto const found = shelf_->find({"a key"});
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code(), ErrorCode::ChecksumMismatch);
    EXPECT_FALSE(std::filesystem::exists(image->folder));
  }
}

TEST_F(ProcessImages, ThatAreWrittenHalfAreNone) {
  ASSERT_TRUE(fault::configure("clone.image-seal:1:eio"));
  auto const image = write();
  ASSERT_TRUE(fault::configure(""));
  EXPECT_FALSE(image);
  EXPECT_FALSE(shelf_->find({"a key"}));
  EXPECT_TRUE(std::filesystem::is_empty(shelf_folder())) << "nothing of it is left";
}

TEST_F(ProcessImages, OfSeveralProcessesAreRefused) {
  auto const image = write(R"(
import http.server, os, time
if os.fork() == 0:
    while True: time.sleep(3600)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'x')
    def log_message(self, *a): pass
server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
)");
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().code(), ErrorCode::Unsupported);
  EXPECT_THAT(image.error().message(), HasSubstr("2 processes"));
}

TEST_F(ProcessImages, WithAConnectionAreRefusedInTheWordsOfCriu) {
  Server server(quiet(python(R"(
import socket
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
while True:
    peer, _ = listener.accept()
    peer.sendall(b'HTTP/1.0 200 OK\r\n\r\nheld')
    kept = peer
    peer.shutdown(socket.SHUT_WR)
    listener.settimeout(None)
    import os
    other = socket.create_connection(('127.0.0.1', listener.getsockname()[1]))
)")));
  auto const image =
      shelf_->write(*criu_, {.pid = server.program.pid()}, {"k"}, spawn_plainly, kPatience);
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().code(), ErrorCode::ImageFailed);
  EXPECT_THAT(image.error().message(), HasSubstr("CRIU's log says"));
}

TEST_F(ProcessImages, LeaveNothingWhenARestoreIsGivenUp) {
  auto const image = write();
  ASSERT_TRUE(image) << image.error().describe();
  for (auto const* point : {"clone.image-prepare", "clone.image-restore", "clone.image-awaken",
                            "not begun", "at once"}) {
    SCOPED_TRACE(point);
    std::string_view const name = point;
    bool const is_fault = name.starts_with("clone.");
    if (is_fault) ASSERT_TRUE(fault::configure(fmt::format("{}:1:eio", name)));
    {
      auto prepared = Restore::prepare(*criu_, *image, wishes(), spawn_plainly);
      EXPECT_EQ(prepared.has_value(), name != "clone.image-prepare");
      if (prepared && name != "not begun") {
        Status const begun = prepared->begin(free_port);
        EXPECT_EQ(begun.has_value(), name != "clone.image-restore");
        if (begun && name != "at once") EXPECT_TRUE(wait(*prepared));
        if (begun && is_fault) EXPECT_FALSE(prepared->finish());
      }
    }
    ASSERT_TRUE(fault::configure(""));
    EXPECT_TRUE(os::testing::wait_until([&] {
      while (::waitpid(-1, nullptr, WNOHANG) > 0) continue;
      return ::waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD;
    })) << "a child lives";
    for (auto const& entry : std::filesystem::directory_iterator(folder_->path()))
      EXPECT_FALSE(entry.path().filename().string().starts_with("restore."));
  }
  auto next = restore(*image);
  ASSERT_TRUE(next) << next.error().describe();
  Instance const instance(std::move(*next));
  EXPECT_EQ(ask(instance.port()), std::to_string(instance.pid())) << "the next one succeeds";
}

TEST_F(ProcessImages, OfWhichAFileIsGoneShowCriusLog) {
  auto const image = write();
  ASSERT_TRUE(image) << image.error().describe();
  std::filesystem::remove(image->folder + "/mm-" + std::to_string(image->manifest.threads[0]) +
                          ".img");
  auto const restored = restore(*image);
  ASSERT_FALSE(restored);
  EXPECT_EQ(restored.error().code(), ErrorCode::ImageFailed);
  EXPECT_THAT(restored.error().message(), HasSubstr("CRIU's log says"));
}

TEST(Criu, ThatDoesNotWorkIsRefusedWithItsReason) {
  auto const folder = os::TempDir::create("aether-criu", "/dev/shm");
  ASSERT_TRUE(folder);
  std::string const fake = folder->file("criu");
  std::ofstream(fake) << "#!/bin/sh\n"
                         "[ \"$1\" = --version ] && { echo 'Version: 3.17.1'; exit 0; }\n"
                         "while [ $# -gt 0 ]; do [ \"$1\" = -o ] && "
                         "echo 'Error (vdso.c): Unexpected rt vDSO area bounds' > \"$2\"; shift; "
                         "done\nexit 1\n";
  ::chmod(fake.c_str(), 0755);
  ::setenv("AETHER_CRIU", fake.c_str(), 1);
  auto const criu = check_criu(folder->file("own"), spawn_plainly);
  ::setenv("AETHER_CRIU", "/nonexistent/criu", 1);
  auto const none = check_criu(folder->file("own"), spawn_plainly);
  ::unsetenv("AETHER_CRIU");
  ASSERT_FALSE(criu);
  EXPECT_EQ(criu.error().code(), ErrorCode::ImageUnavailable);
  EXPECT_THAT(criu.error().message(), HasSubstr("Unexpected rt vDSO area bounds"));
  EXPECT_THAT(criu.error().message(), HasSubstr("3.17.1"));
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message(), HasSubstr("/nonexistent/criu"));
}

TEST(Criu, KeepsToFoldersThatOnlyItsUserMayWriteTo) {
  auto const folder = os::TempDir::create("aether-criu", "/dev/shm");
  ASSERT_TRUE(folder);
  EXPECT_TRUE(make_private_folder(folder->file("a/b")));
  EXPECT_TRUE(make_private_folder(folder->file("a/b")));
  ::chmod(folder->file("a/b").c_str(), 0777);
  auto const open = make_private_folder(folder->file("a/b"));
  ASSERT_FALSE(open);
  EXPECT_EQ(open.error().code(), ErrorCode::ImageUnavailable);
  ASSERT_EQ(::symlink(folder->path().c_str(), folder->file("link").c_str()), 0);
  EXPECT_FALSE(make_private_folder(folder->file("link")));
}

TEST(FreeNumbers, AreOfNobody) {
  auto const numbers = free_numbers(20);
  ASSERT_TRUE(numbers);
  std::set<pid_t> const different(numbers->begin(), numbers->end());
  EXPECT_EQ(different.size(), 20U);
  for (pid_t const number : *numbers) EXPECT_NE(::kill(number, 0), 0) << number;
}

}  // namespace
}  // namespace aether::clone
