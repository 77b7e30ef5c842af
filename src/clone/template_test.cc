// SPDX-License-Identifier: Apache-2.0
#include "clone/template.h"

#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <set>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "clone/testing.h"
#include "os/cgroup.h"
#include "os/process_tree.h"
#include "os/temp_dir.h"

namespace aether::clone {
namespace {

using os::testing::Program;
using os::testing::wait_until;
using tests::ask;
using tests::Copy;
using tests::expect_a_copy_looks_like_its_original;
using tests::freeze;
using tests::in_own_namespace;
using tests::kNodeServer;
using tests::kPythonServer;
using tests::make_copy;
using tests::node;
using tests::Server;
using tests::visible;

char const* const kNodeThreadNumbers = R"(
const server = require('http').createServer((q, a) => { a.setHeader('Connection', 'close'); a.end(String(process.pid)); });
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
)";

char const* const kJavaServer = R"(
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.nio.file.*;
import java.util.concurrent.Executors;
public class Server {
  public static void main(String[] arguments) throws Exception {
    var server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
    server.createContext("/", exchange -> {
      var body = Files.readSymbolicLink(Path.of("/proc/self")).toString().getBytes();
      exchange.getResponseHeaders().set("Connection", "close");
      exchange.sendResponseHeaders(200, body.length);
      exchange.getResponseBody().write(body);
      exchange.close();
    });
    server.setExecutor(Executors.newFixedThreadPool(4));
    server.start();
    System.out.println(server.getAddress().getPort());
  }
}
)";

char const* const kAsyncioServer = R"(
import asyncio, os
async def answer(reader, writer):
    await reader.readuntil(b'\r\n\r\n')
    await asyncio.sleep(0.001)
    writer.write(b'HTTP/1.0 200 OK\r\n\r\n' + str(os.getpid()).encode())
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(answer, '127.0.0.1', 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
)";

enum class Namespace : std::uint8_t { Shared, Own };

void expect_copies_answer(Server& server, int copies, Namespace where = Namespace::Shared) {
  auto const own = where == Namespace::Own;
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  std::set<std::string> expected;
  std::set<std::string> seen;
  std::vector<Copy> all;
  for (int i = 0; i < copies; ++i) {
    auto made = make_copy(*frozen);
    ASSERT_TRUE(made);
    expected.insert(own ? "1" : std::to_string(made->pid()));
    all.push_back(std::move(*made));
  }
  for (int i = 0; i < 50 * copies; ++i) {
    auto const answer = ask(server.port);
    ASSERT_TRUE(expected.contains(answer)) << "answered by '" << answer << "'";
    seen.insert(answer);
  }
  EXPECT_FALSE(seen.empty());
}

TEST(Template, CopiesOfAPythonServerAnswerInItsPlace) {
  Server server(os::testing::python(kPythonServer));
  expect_copies_answer(server, 4);
}

// asyncio asks for the process's number at each turn, to find out that it was forked.
TEST(Template, CopiesInPidNamespacesOfTheirOwnHaveTheNumberThatTheProgramKnows) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can make a pid namespace";
  Server server(in_own_namespace(os::testing::python(kAsyncioServer)));
  expect_copies_answer(server, 4, Namespace::Own);
}

TEST(Template, ThreadsOfACopyHaveTheNumbersThatTheProgramKnows) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can make a pid namespace";
  Server server(in_own_namespace(node(kNodeThreadNumbers)));
  expect_copies_answer(server, 4, Namespace::Own);
}

TEST(Template, CopiesOfANodeServerWithItsThreadsAnswerInItsPlace) {
  Server server(node(kNodeServer));
  expect_copies_answer(server, 4);
}

TEST(Template, CopiesOfAJavaServerWithItsThreadsAnswerInItsPlace) {
  os::TempDir const folder = os::TempDir::create("java").value();
  if (!os::testing::write_script(folder.path() + "/Server.java", kJavaServer)) FAIL();
  Server server({.argv = {"/usr/bin/env", "java", folder.path() + "/Server.java"},
                 .environment = os::testing::plain_environment()});
  if (server.port == 0) GTEST_SKIP() << "there is no Java here";
  expect_copies_answer(server, 4);
}

TEST(Template, TheOriginalRunsOnWhenItIsThawed) {
  Server server(os::testing::python(kPythonServer));
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  ASSERT_TRUE(frozen->thaw());
  EXPECT_EQ(ask(server.port), std::to_string(server.program.pid()));
}

// Memory grows under AddressSanitizer, which keeps what was freed for a while.
#ifdef __has_feature
constexpr bool kKeepsWhatWasFreed = __has_feature(address_sanitizer);
#else
constexpr bool kKeepsWhatWasFreed = false;
#endif

// ---- What can be seen of a process, before and after ------------------------------------------

/// Node closes what it was asked on a little later, for which it has no time while it is frozen.
void wait_until_it_only_listens(Server const& server) {
  wait_until([&] {
    auto const lines = visible(server.program.pid());
    auto const is_socket = [](std::string const& line) { return line.contains(" socket flags"); };
    return std::ranges::count_if(lines, is_socket) == 1;
  });
}

TEST(Template, ACopyOfAPythonServerLooksLikeItsOriginal) {
  Server server(os::testing::python(kPythonServer));
  expect_a_copy_looks_like_its_original(server);
}

TEST(Template, ACopyOfANodeServerLooksLikeItsOriginal) {
  Server server(node(kNodeServer));
  wait_until_it_only_listens(server);
  expect_a_copy_looks_like_its_original(server);
}

TEST(Template, ACopyOfAJavaServerLooksLikeItsOriginal) {
  os::TempDir const folder = os::TempDir::create("java").value();
  if (!os::testing::write_script(folder.path() + "/Server.java", kJavaServer)) FAIL();
  Server server({.argv = {"/usr/bin/env", "java", folder.path() + "/Server.java"},
                 .environment = os::testing::plain_environment()});
  if (server.port == 0) GTEST_SKIP() << "there is no Java here";
  expect_a_copy_looks_like_its_original(server);
}

TEST(Template, ACopyInAPidNamespaceLooksLikeItsOriginal) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can make a pid namespace";
  Server server(in_own_namespace(node(kNodeServer)));
  wait_until_it_only_listens(server);
  expect_a_copy_looks_like_its_original(server);
}

TEST(Template, FiveHundredCopiesLeaveNothingBehind) {
  Server server(os::testing::python(kPythonServer));
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  auto group = os::Cgroup::create(fmt::format("clone-test-many-{}", getpid()));
  CopyWishes const wishes{.files = {.listeners = TcpListeners::Own},
                          .cgroup = group ? group->fd() : -1};
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(make_copy(*frozen, wishes));
  auto const fds = os::count_own_fds();
  auto const mappings = visible(server.program.pid());
  auto const ours = os::read_rss_bytes(getpid());
  auto const its = os::read_rss_bytes(server.program.pid());
  for (int i = 0; i < 500; ++i) ASSERT_TRUE(make_copy(*frozen, wishes));
  EXPECT_EQ(os::count_own_fds(), fds);
  EXPECT_EQ(visible(server.program.pid()), mappings);
  std::uint64_t const bytes = std::uint64_t{kKeepsWhatWasFreed ? 256 : 4} << 20;
  EXPECT_LE(os::read_rss_bytes(getpid()), ours + bytes);
  EXPECT_LE(os::read_rss_bytes(server.program.pid()), its + bytes);
  EXPECT_EQ(tests::children_of(getpid()), std::vector<pid_t>{server.program.pid()});
  EXPECT_TRUE(tests::children_of(server.program.pid()).empty());
  if (group) EXPECT_TRUE(group->wait_empty(os::testing::kPatience));
}

TEST(Template, AProgramWithChildrenIsRefusedWithTheReason) {
  Program program(os::testing::python(R"(
import subprocess, time
child = subprocess.Popen(['sleep', '1000'])
print('ready', flush=True)
try: time.sleep(1000)
finally: child.kill()
)"));
  EXPECT_EQ(program.read_line(), "ready");
  auto const frozen = Template::freeze(program.pid());
  ASSERT_FALSE(frozen);
  EXPECT_EQ(frozen.error().code(), ErrorCode::Unsupported);
  EXPECT_THAT(frozen.error().message(), ::testing::HasSubstr("it has child processes (sleep (pid"));
  for (auto const child : os::descendants(program.pid()).value_or(std::vector<pid_t>{})) {
    kill(child, SIGKILL);
  }
}

TEST(Template, AProgramWithAConnectionIsRefusedWithTheReason) {
  Program program(os::testing::python(R"(
import socket, time
a = socket.socket(); a.bind(('127.0.0.1', 0)); a.listen()
b = socket.create_connection(a.getsockname())
print(b.fileno(), flush=True)
time.sleep(1000)
)"));
  auto const number = program.read_line();
  auto const reasons = why_not(program.pid());
  ASSERT_TRUE(reasons) << reasons.error().describe();
  EXPECT_THAT(*reasons,
              ::testing::Contains("descriptor " + number +
                                  " is a connection to another program over the network"));
}

TEST(Template, ItsProgramDiesWithIt) {
  Program program(os::testing::python("import time\nprint('x', flush=True)\ntime.sleep(1000)"));
  EXPECT_EQ(program.read_line(), "x");
  {
    auto const frozen = freeze(program.pid());
  }
  EXPECT_EQ(program.wait().signal, SIGKILL);
}

}  // namespace
}  // namespace aether::clone
