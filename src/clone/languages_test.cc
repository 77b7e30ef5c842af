// SPDX-License-Identifier: Apache-2.0
// Copies of compiled servers: what their runtimes do with threads, signals and pollers of their
// own.
#include <cstdlib>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "clone/template.h"
#include "clone/testing.h"
#include "os/temp_dir.h"

namespace aether::clone {
namespace {

using os::testing::plain_environment;
using tests::ask;
using tests::freeze;
using tests::make_copy;
using tests::Server;

char const* const kCppServer = R"(
#include <arpa/inet.h>
#include <cstdio>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
int main() {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  bind(fd, (sockaddr*)&at, sizeof at);
  listen(fd, 100);
  getsockname(fd, (sockaddr*)&at, &size);
  auto serve = [fd] {
    for (;;) {
      int one = accept(fd, nullptr, nullptr);
      char buffer[4096];
      if (read(one, buffer, sizeof buffer) < 0) return;
      auto text = "HTTP/1.0 200 OK\r\n\r\n" + std::to_string(getpid());
      if (write(one, text.data(), text.size()) < 0) return;
      close(one);
    }
  };
  std::thread other(serve);
  printf("%d\n", ntohs(at.sin_port));
  fflush(stdout);
  serve();
}
)";

char const* const kRustServer = R"(
use std::io::{Read, Write};
use std::net::TcpListener;
fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer);
        let _ = write!(stream, "HTTP/1.0 200 OK\r\n\r\n{}", std::process::id());
    }
}
)";

char const* const kGoServer = R"(
package main
import ("fmt"; "net"; "net/http"; "os"; "runtime")
func main() {
  listener, _ := net.Listen("tcp", "127.0.0.1:0")
  fmt.Println(listener.Addr().(*net.TCPAddr).Port)
  http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
    w.Header().Set("Connection", "close")
    runtime.GC()
    fmt.Fprint(w, os.Getpid())
  }))
}
)";

/// Where a compiler is: in the PATH of who runs the tests.
std::vector<std::string> our_environment() {
  auto environment = plain_environment();
  if (char const* path = std::getenv("PATH")) environment[0] = fmt::format("PATH={}", path);
  for (auto const* name : {"HOME", "CARGO_HOME", "RUSTUP_HOME"}) {
    if (char const* value = std::getenv(name)) {
      environment.push_back(fmt::format("{}={}", name, value));
    }
  }
  return environment;
}

void expect_copies_of(std::string const& file, char const* source, std::string const& command) {
  os::TempDir const folder = os::TempDir::create("languages").value();
  ASSERT_TRUE(os::write_file_atomically(folder.path() + "/" + file, source, 0600));
  auto const built = os::testing::run({.argv = {"/bin/sh", "-c", command + " 2>&1"},
                                       .environment = our_environment(),
                                       .workdir = folder.path()});
  // As a shell says that there is no such command; everything else is a mistake in the source.
  if (built.status.code == 127) GTEST_SKIP() << "no compiler here: " << built.text;
  ASSERT_TRUE(built.status.success()) << built.text;
  Server server({.argv = {folder.path() + "/server"}});
  ASSERT_NE(server.port, 0);
  tests::expect_a_copy_looks_like_its_original(server);
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  CopyWishes const wishes{.files = {.listeners = TcpListeners::Own}};
  auto const one = make_copy(*frozen, wishes);
  auto const other = make_copy(*frozen, wishes);
  ASSERT_TRUE(one && other);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(ask(one->port()), std::to_string(one->pid()));
    ASSERT_EQ(ask(other->port()), std::to_string(other->pid()));
  }
}

TEST(Languages, CopiesOfACppServerWithThreadsLookLikeItAndAnswer) {
  expect_copies_of("server.cc", kCppServer, "c++ -std=c++17 -pthread -o server server.cc");
}

TEST(Languages, CopiesOfARustServerLookLikeItAndAnswer) {
  expect_copies_of("server.rs", kRustServer, "rustc -o server server.rs");
}

TEST(Languages, CopiesOfAGoServerLookLikeItAndAnswer) {
  expect_copies_of("server.go", kGoServer, "go build -o server server.go");
}

}  // namespace
}  // namespace aether::clone
