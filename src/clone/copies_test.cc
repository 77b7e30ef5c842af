// SPDX-License-Identifier: Apache-2.0
// What a copy has for itself: where it listens, what it writes to, what it is connected to.
#include <fcntl.h>
#include <sys/un.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "clone/template.h"
#include "clone/testing.h"
#include "os/cgroup.h"
#include "os/temp_dir.h"

namespace aether::clone {
namespace {

using os::testing::kPatience;
using os::testing::Pipe;
using os::testing::Program;
using os::testing::python;
using os::testing::wait_until;
using tests::ask;
using tests::Copy;
using tests::freeze;
using tests::in_own_namespace;
using tests::kNodeServer;
using tests::kPythonServer;
using tests::make_copy;
using tests::node;
using tests::Server;

CopyWishes own_listeners() {
  return {.files = {.listeners = TcpListeners::Own}};
}

/// A Python server whose answer to each request is what `answer` says, with `before` run first.
os::SpawnSpec python_that_answers(std::string const& answer, std::string const& before = "",
                                  std::string const& address = "127.0.0.1") {
  return python("import http.server, os, socket, sys\n" + before + R"(
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str()" +
                answer + R"().encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
class Server(http.server.HTTPServer):
    address_family = socket.AF_INET6 if ':' in ')" +
                address + R"(' else socket.AF_INET
server = Server((')" +
                address + R"(', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
)");
}

void expect_two_answer_for_themselves(Server& server) {
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  auto one = make_copy(*frozen, own_listeners());
  auto other = make_copy(*frozen, own_listeners());
  ASSERT_TRUE(one && other);
  ASSERT_EQ(one->listeners().size(), 1U);
  EXPECT_EQ(one->listeners()[0].original_port, server.port);
  EXPECT_EQ((std::set{server.port, one->port(), other->port()}.size()), 3U);
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(ask(one->port()), std::to_string(one->pid()));
    ASSERT_EQ(ask(other->port()), std::to_string(other->pid()));
  }
  auto const closed = one->port();
  one.reset();
  EXPECT_EQ(ask(closed), "");
  EXPECT_EQ(ask(other->port()), std::to_string(other->pid()));
}

TEST(Copies, OfAPythonServerAnswerEachOnItsOwnPort) {
  Server server(python(kPythonServer));
  expect_two_answer_for_themselves(server);
}

TEST(Copies, OfANodeServerAnswerEachOnItsOwnPort) {
  Server server(node(kNodeServer));
  expect_two_answer_for_themselves(server);
}

TEST(Copies, OfAListenerForBothFamiliesAreReachedAtTheUsualAddress) {
  Server server(python_that_answers("os.getpid()", "", "::"));
  expect_two_answer_for_themselves(server);
}

TEST(Copies, ShareTheListenerUnlessToldOtherwise) {
  Server server(python(kPythonServer));
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  auto const copy = make_copy(*frozen);
  ASSERT_TRUE(copy);
  ASSERT_EQ(copy->listeners().size(), 1U);
  EXPECT_EQ(copy->listeners()[0].port, server.port);
}

TEST(Copies, FiftyOfThemAreFiftyProcesses) {
  Server server(python(kPythonServer));
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  std::vector<Copy> all;
  std::set<std::string> answers;
  for (int i = 0; i < 50; ++i) {
    auto made = make_copy(*frozen, own_listeners());
    ASSERT_TRUE(made);
    all.push_back(std::move(*made));
  }
  for (auto const& copy : all) answers.insert(ask(copy.port()));
  EXPECT_EQ(answers.size(), 50U);
}

TEST(Copies, WriteToWhatTheyAreGiven) {
  Server server(
      python_that_answers("print('out', flush=True) or print('err', file=sys.stderr) "
                          "or os.write(extra, b'extra') and os.getpid()",
                          "extra = os.dup(1)"));
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  os::TempDir const folder = os::TempDir::create("copies").value();
  auto const errors = folder.path() + "/errors";
  Pipe output;
  auto wishes = own_listeners();
  wishes.files.replacements = {
      {.number = 1, .source = output.write_end.get()},
      {.number = 2, .path = "/dev/null", .flags = O_WRONLY},
  };
  ASSERT_TRUE(os::write_file_atomically(errors, "", 0600));
  wishes.files.replacements[1] = {.number = 2, .path = errors, .flags = O_WRONLY};
  auto const copy = make_copy(*frozen, wishes);
  ASSERT_TRUE(copy);
  output.write_end.reset();
  ASSERT_EQ(ask(copy->port()), std::to_string(copy->pid()));
  std::string text;
  while (text.size() < 9) {
    auto const byte = os::testing::read_byte(output.read_end.get());
    ASSERT_TRUE(byte);
    text.push_back(*byte);
  }
  EXPECT_EQ(text, "out\nextra") << "duplicates of a replaced number follow it";
  EXPECT_EQ(os::read_file(errors, 100).value(), "err\n");
}

/// A unix socket that waits for connections.
struct UnixListener {
  explicit UnixListener(std::string const& path)
      : fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(fd.get(), 100), 0);
  }
  [[nodiscard]] os::UniqueFd next() const {
    return os::UniqueFd(accept4(fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  os::UniqueFd fd;
};

TEST(Copies, ConnectAnewAndCanBeToldApart) {
  os::TempDir const folder = os::TempDir::create("copies").value();
  auto const path = folder.path() + "/aether.sock";
  UnixListener const listener(path);
  Server server(python_that_answers(
      "link.send(str(os.getpid()).encode())",
      "link = socket.socket(socket.AF_UNIX)\nlink.connect('" + path + "')\nlink.send(b'READY')"));
  auto const original = listener.next();
  auto frozen = freeze(server.program.pid(), {path});
  ASSERT_TRUE(frozen) << frozen.error().describe();
  auto wishes = own_listeners();
  wishes.files.reconnections = {{.path = path}};
  auto const copy = make_copy(*frozen, wishes);
  ASSERT_TRUE(copy);
  auto const connection = listener.next();
  ucred peer{};
  socklen_t size = sizeof peer;
  ASSERT_EQ(getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size), 0);
  EXPECT_EQ(peer.pid, copy->pid());
  EXPECT_NE(ask(copy->port()), "");
  std::string text(32, '\0');
  text.resize(static_cast<std::size_t>(read(connection.get(), text.data(), text.size())));
  EXPECT_EQ(text, std::to_string(copy->pid()));
}

TEST(Copies, LeadASessionIfTheOriginalDoes) {
  Server server(python(kPythonServer));
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  auto const copy = make_copy(*frozen);
  ASSERT_TRUE(copy);
  auto const process = os::read_process(copy->pid());
  ASSERT_TRUE(process);
  EXPECT_EQ(process->session, copy->pid());
  EXPECT_EQ(process->group, copy->pid());
}

TEST(Copies, DieWithTheThreadThatSpawnedTheOriginal) {
  std::optional<Server> server;
  std::optional<Copy> copy;
  std::thread([&] {
    server.emplace(python(kPythonServer));
    auto frozen = freeze(server->program.pid());
    ASSERT_TRUE(frozen) << frozen.error().describe();
    auto made = frozen->copy();
    ASSERT_TRUE(made) << made.error().describe();
    copy.emplace(std::move(*made));
    ASSERT_TRUE(frozen->thaw());  // It would not end but with us.
  }).join();
  ASSERT_TRUE(copy);
  auto const status = copy->child().reap_within(kPatience);
  ASSERT_TRUE(status && *status);
  EXPECT_EQ(**status, (os::ExitStatus{.signal = SIGKILL}));
}

TEST(Copies, AreBornInTheCgroupTheyAreGiven) {
  auto group = os::Cgroup::create(fmt::format("clone-test-{}", getpid()));
  if (!group) GTEST_SKIP() << group.error().describe();
  Server server(python(kPythonServer));
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  auto wishes = own_listeners();
  wishes.cgroup = group->fd();
  auto const files = os::list_fds(server.program.pid());
  {
    auto const copy = make_copy(*frozen, wishes);
    auto const other = make_copy(*frozen, wishes);
    ASSERT_TRUE(copy && other);
    EXPECT_THAT(group->members(), ::testing::UnorderedElementsAre(copy->pid(), other->pid()));
    // To be moved there is to wait for a grace period of the kernel's, 10 ms and more.
    EXPECT_TRUE(copy->born_in_cgroup() && other->born_in_cgroup());
    // No more than that: what the original was about to close, they close.
    EXPECT_THAT(os::list_fds(copy->pid()), ::testing::IsSubsetOf(files));
    EXPECT_EQ(ask(other->port()), std::to_string(other->pid()));
  }
  EXPECT_TRUE(group->wait_empty(kPatience));
}

TEST(Copies, OfAnotherUsersProgramEnterTheirCgroupToo) {
  auto group = os::Cgroup::create(fmt::format("clone-test-other-{}", getpid()));
  if (!group) GTEST_SKIP() << group.error().describe();
  if (geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  auto spec = python(kPythonServer);
  spec.user = os::Credentials{.uid = 65534, .gid = 65534, .groups = {}, .name = {}, .home = {}};
  Server server(spec);
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  auto wishes = own_listeners();
  wishes.cgroup = group->fd();
  for (int i = 0; i < 2; ++i) {
    auto const copy = make_copy(*frozen, wishes);
    ASSERT_TRUE(copy);
    EXPECT_THAT(group->members(), ::testing::ElementsAre(copy->pid()));
    EXPECT_EQ(ask(copy->port()), std::to_string(copy->pid()));
  }
}

// ---- The first process of a pid namespace ------------------------------------------------------

TEST(Copies, InPidNamespacesTellHowTheyEndedAndLeaveNoZombie) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can make a pid namespace";
  Server server(in_own_namespace(
      python_that_answers("self.path != '/end' and os.getpid() or os._exit(5)",
                          "import signal\nsignal.signal(signal.SIGCHLD, lambda *a: None)")));
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  EXPECT_TRUE(frozen->has_own_numbers());
  auto one = make_copy(*frozen, own_listeners());
  auto other = make_copy(*frozen, own_listeners());
  ASSERT_TRUE(one && other);
  EXPECT_EQ(ask(one->port()), "1");
  EXPECT_EQ(one->child().try_reap().value(), std::nullopt);
  EXPECT_EQ(ask(one->port(), "/end"), "");
  EXPECT_TRUE(other->child().signal(SIGKILL));
  auto const ended = one->child().reap_within(kPatience);
  if (!ended) GTEST_SKIP() << "this kernel keeps no status: " << ended.error().describe();
  EXPECT_EQ(*ended, (os::ExitStatus{.code = 5}));
  EXPECT_EQ(other->child().reap_within(kPatience).value(), (os::ExitStatus{.signal = SIGKILL}));
  EXPECT_TRUE(wait_until([&] { return tests::children_of(server.program.pid()).empty(); }));
  auto const caught =
      tests::line_of(fmt::format("/proc/{}/status", server.program.pid()), "SigCgt");
  ASSERT_TRUE(frozen->thaw());
  EXPECT_NE(tests::line_of(fmt::format("/proc/{}/status", server.program.pid()), "SigCgt"), caught)
      << "its own handler of SIGCHLD is back";
  EXPECT_EQ(ask(server.port), "1");
}

// ---- Memory and files ---------------------------------------------------------------------------

TEST(Copies, HaveSharedMemoryForThemselves) {
  Server server(
      python_that_answers("shared.seek(0) or shared.write_byte(shared[0] + 1) or shared[0]",
                          "import mmap\nshared = mmap.mmap(-1, 8192)"));
  auto frozen = freeze(server.program.pid());  // Its first request has made it 1.
  ASSERT_TRUE(frozen) << frozen.error().describe();
  auto const one = make_copy(*frozen, own_listeners());
  ASSERT_TRUE(one);
  EXPECT_EQ(ask(one->port()), "2");
  EXPECT_EQ(ask(one->port()), "3");
  auto const other = make_copy(*frozen, own_listeners());
  ASSERT_TRUE(other);
  EXPECT_EQ(ask(other->port()), "2");
}

TEST(Copies, HaveTheirOwnPositionInAFileAndOneForAllItsDuplicates) {
  os::TempDir const folder = os::TempDir::create("copies").value();
  Server server(python_that_answers("os.write(file, b'x') * 0 + os.lseek(again, 0, os.SEEK_CUR)",
                                    "file = os.open('" + folder.path() +
                                        "/file', os.O_RDWR | os.O_CREAT)\nagain = os.dup(file)"));
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  auto const one = make_copy(*frozen, own_listeners());
  auto const other = make_copy(*frozen, own_listeners());
  ASSERT_TRUE(one && other);
  EXPECT_EQ(ask(one->port()), "2");
  EXPECT_EQ(ask(one->port()), "3");
  EXPECT_EQ(ask(other->port()), "2");
}

TEST(Copies, OfAProgramThatMayOpenNothingHaveItsFilesToo) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  os::TempDir const folder = os::TempDir::create("copies").value();
  auto spec = python_that_answers("os.read(file, 1).decode()",
                                  "file = os.open('" + folder.path() +
                                      "/secret', os.O_RDONLY)\nos.setgroups([])\n"
                                      "os.setgid(65534)\nos.setuid(65534)");
  ASSERT_TRUE(os::write_file_atomically(folder.path() + "/secret", "abcdef", 0600));
  Server server(spec);
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  auto const one = make_copy(*frozen, own_listeners());
  auto const other = make_copy(*frozen, own_listeners());
  ASSERT_TRUE(one && other);
  EXPECT_EQ(ask(one->port()) + ask(one->port()) + ask(other->port()), "bcb");
}

}  // namespace
}  // namespace aether::clone
