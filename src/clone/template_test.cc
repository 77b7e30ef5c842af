// SPDX-License-Identifier: Apache-2.0
#include "clone/template.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <set>
#include <sstream>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "clone/frozen_process.h"
#include "clone/mappings.h"
#include "os/file.h"
#include "os/proc.h"
#include "os/process_tree.h"
#include "os/temp_dir.h"
#include "os/testing.h"
#include "os/unique_fd.h"

namespace aether::clone {
namespace {

using os::testing::kPatience;
using os::testing::Program;
using os::testing::wait_until;

/// A whole answer of a server that closes after it; empty if there was none.
std::string ask(std::uint16_t port, std::string const& path = "/") {
  os::UniqueFd const fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  timeval const patience{.tv_sec = 20, .tv_usec = 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return {};
  auto const request = "GET " + path + " HTTP/1.0\r\n\r\n";
  if (write(fd.get(), request.data(), request.size()) < 0) return {};
  std::string answer;
  char buffer[4096];
  ssize_t got = 0;
  while ((got = read(fd.get(), buffer, sizeof buffer)) > 0) {
    answer.append(buffer, static_cast<std::size_t>(got));
  }
  auto const body = answer.find("\r\n\r\n");
  return body == std::string::npos ? std::string{} : answer.substr(body + 4);
}

/// Ended with its owner.
class Copy {
 public:
  explicit Copy(os::Child child) : child_(std::make_unique<os::Child>(std::move(child))) {}
  Copy(Copy&&) = default;
  ~Copy() {
    if (!child_) return;
    (void)child_->signal(SIGKILL);
    (void)child_->reap_within(kPatience);
  }
  [[nodiscard]] pid_t pid() const { return child_->pid(); }

 private:
  std::unique_ptr<os::Child> child_;
};

std::optional<Copy> make_copy(Template& original) {
  auto made = original.copy();
  if (!made) {
    ADD_FAILURE() << made.error().describe();
    return std::nullopt;
  }
  return Copy(std::move(made->child));
}

char const* const kPythonServer = R"(
import http.server, os, random
random.seed(1)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(os.getpid()).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
server = http.server.HTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
)";

char const* const kNodeServer = R"(
const server = require('http').createServer((q, a) => { a.setHeader('Connection', 'close'); a.end(String(require('fs').readlinkSync('/proc/self'))); });
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
)";

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

/// A server that has told its port and is at rest.
struct Server {
  explicit Server(os::SpawnSpec spec) : program(std::move(spec)) {
    port = static_cast<std::uint16_t>(std::atoi(program.read_line().c_str()));
    if (port != 0) EXPECT_NE(ask(port), "");  // Warm, and back in its wait.
  }
  Program program;
  std::uint16_t port = 0;
};

os::SpawnSpec node(std::string script) {
  return {.argv = {"/usr/bin/env", "node", "-e", std::move(script)},
          .environment = os::testing::plain_environment()};
}

/// The server as the first process of a pid namespace of its own.
os::SpawnSpec in_own_namespace(os::SpawnSpec spec) {
  std::vector<std::string> const wrapper{"/usr/bin/unshare", "--pid", "--fork", "--kill-child"};
  spec.argv.insert(spec.argv.begin(), wrapper.begin(), wrapper.end());
  return spec;
}

pid_t only_child_of(pid_t parent) {
  auto const all = os::descendants(parent);
  return all && !all->empty() ? all->front() : 0;
}

/// Freezes, once it stands still.
Result<Template> freeze(pid_t pid) {
  Result<Template> frozen = fail(ErrorCode::Internal, "never tried");
  wait_until([&] {
    frozen = Template::freeze(pid);
    return frozen.has_value();
  });
  return frozen;
}

enum class Namespace : std::uint8_t { Shared, Own };

void expect_copies_answer(Server& server, int copies, Namespace where = Namespace::Shared) {
  auto const own = where == Namespace::Own;
  auto frozen = freeze(own ? only_child_of(server.program.pid()) : server.program.pid());
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

// ---- What can be seen of a process, before and after ------------------------------------------

std::string line_of(std::string const& path, std::string const& key) {
  auto const text = os::read_file(path, 1 << 20).value_or("");
  auto const at = text.find("\n" + key);
  return at == std::string::npos ? "" : text.substr(at + 1, text.find('\n', at + 1) - at - 1);
}

/// "pipe:[123]" and the like are other files in a copy.
std::string without_number(std::string link) {
  auto const bracket = link.find(":[");
  return link.starts_with("anon_inode") || bracket == std::string::npos ? link
                                                                        : link.substr(0, bracket);
}

std::vector<std::string> visible(pid_t pid) {
  std::vector<std::string> lines;
  auto const folder = "/proc/" + std::to_string(pid);
  for (auto const* key : {"SigIgn", "SigCgt", "ShdPnd", "Uid", "Gid", "Groups", "NoNewPrivs"}) {
    lines.push_back(line_of(folder + "/status", key));
  }
  for (auto const fd : os::list_fds(pid)) {
    auto const info = folder + "/fdinfo/" + std::to_string(fd);
    lines.push_back(std::to_string(fd) + " " + without_number(os::read_fd_link(pid, fd)) + " " +
                    line_of(info, "flags") + " " + line_of(info, "pos"));
    std::istringstream text(os::read_file(info, 1 << 20).value_or(""));
    std::multiset<std::string> inside;  // An epoll lists its targets in no order.
    for (std::string one; std::getline(text, one);) {
      if (one.starts_with("tfd")) inside.insert(one.substr(0, one.find(" pos:")));
      if (one.starts_with("eventfd-count") || one.starts_with("sigmask")) inside.insert(one);
    }
    lines.insert(lines.end(), inside.begin(), inside.end());
  }
  for (auto const tid : list_threads(pid).value_or(std::vector<pid_t>{})) {
    auto const thread = folder + "/task/" + std::to_string(tid);
    lines.push_back(os::read_file(thread + "/comm", 64).value_or("") +
                    line_of(thread + "/status", "SigBlk"));
  }
  for (auto const& area : read_mappings(pid).value_or(std::vector<Mapping>{})) {
    lines.push_back(fmt::format("{:x}-{:x} {}{}{} {} {}", area.begin, area.end, area.readable,
                                area.writable, area.executable, area.absent_after_fork, area.name));
  }
  return lines;
}

void expect_a_copy_looks_like_its_original(Server& server) {
  std::vector<std::string> before;
  std::vector<std::string> after;
  // The server may still be closing what it was asked on before.
  wait_until([&] {
    auto frozen = freeze(server.program.pid());
    if (!frozen || !frozen->thaw()) return false;
    before = visible(server.program.pid());
    frozen = freeze(server.program.pid());
    auto const copy = frozen ? make_copy(*frozen) : std::nullopt;
    if (copy) after = visible(copy->pid());
    return frozen && frozen->thaw() && after == before;
  });
  EXPECT_EQ(after, before);
}

TEST(Template, ACopyOfAPythonServerLooksLikeItsOriginal) {
  Server server(os::testing::python(kPythonServer));
  expect_a_copy_looks_like_its_original(server);
}

TEST(Template, ACopyOfANodeServerLooksLikeItsOriginal) {
  Server server(node(kNodeServer));
  expect_a_copy_looks_like_its_original(server);
}

TEST(Template, ManyCopiesLeaveNothingBehind) {
  Server server(os::testing::python(kPythonServer));
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  ASSERT_TRUE(make_copy(*frozen));
  auto const fds = os::count_own_fds();
  auto const mappings = visible(server.program.pid());
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(make_copy(*frozen));
  EXPECT_EQ(os::count_own_fds(), fds);
  EXPECT_EQ(visible(server.program.pid()), mappings);
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
  EXPECT_THAT(frozen.error().message(), testing::HasSubstr("it has child processes (sleep (pid"));
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
  EXPECT_THAT(*reasons, testing::Contains("descriptor " + number +
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
