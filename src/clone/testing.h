// SPDX-License-Identifier: Apache-2.0
// For tests of copies: servers to copy, copies that end with their owner, and what can be seen of a
// process from outside.
#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "clone/mappings.h"
#include "clone/template.h"
#include "clone/threads.h"
#include "os/file.h"
#include "os/proc.h"
#include "os/testing.h"
#include "os/unique_fd.h"

namespace aether::clone::tests {

inline constexpr char const* kPythonServer = R"(
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

inline constexpr char const* kNodeServer = R"(
const server = require('http').createServer((q, a) => { a.setHeader('Connection', 'close'); a.end(String(require('fs').readlinkSync('/proc/self'))); });
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
)";

/// A whole answer of a server that closes after it; empty if there was none.
inline std::string ask(std::uint16_t port, std::string const& path = "/") {
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
  explicit Copy(Copied copied) : copied_(std::make_unique<Copied>(std::move(copied))) {}
  Copy(Copy&&) = default;
  ~Copy() {
    if (!copied_) return;
    (void)child().signal(SIGKILL);
    (void)child().reap_within(os::testing::kPatience);
  }
  [[nodiscard]] os::Child& child() { return copied_->child; }
  [[nodiscard]] pid_t pid() const { return copied_->child.pid(); }
  [[nodiscard]] std::vector<CopiedListener> const& listeners() const { return copied_->listeners; }
  [[nodiscard]] bool born_in_cgroup() const { return copied_->born_in_cgroup; }
  [[nodiscard]] std::uint16_t port() const { return copied_->listeners.at(0).port; }

 private:
  std::unique_ptr<Copied> copied_;
};

inline std::optional<Copy> make_copy(Template& original, CopyWishes const& wishes = {}) {
  auto made = original.copy(wishes);
  if (!made) {
    ADD_FAILURE() << made.error().describe();
    return std::nullopt;
  }
  return Copy(std::move(*made));
}

/// A server that has told its port and is at rest.
struct Server {
  explicit Server(os::SpawnSpec spec) : program(std::move(spec)) {
    port = static_cast<std::uint16_t>(std::atoi(program.read_line().c_str()));
    if (port != 0) EXPECT_NE(ask(port), "");  // Warm, and back in its wait.
  }
  os::testing::Program program;
  std::uint16_t port = 0;
};

inline os::SpawnSpec node(std::string script) {
  return {.argv = {"/usr/bin/env", "node", "-e", std::move(script)},
          .environment = os::testing::plain_environment()};
}

/// The server as the first process of a pid namespace of its own.
inline os::SpawnSpec in_own_namespace(os::SpawnSpec spec) {
  spec.new_pid_namespace = true;
  return spec;
}

/// Freezes, once it stands still.
inline Result<Template> freeze(pid_t pid, std::vector<std::string> const& reconnects = {}) {
  Result<Template> frozen = fail(ErrorCode::Internal, "never tried");
  os::testing::wait_until([&] {
    frozen = Template::freeze(pid, reconnects);
    return frozen.has_value();
  });
  return frozen;
}

/// Live or dead, whose parent this is.
inline std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> found;
  auto const all = os::list_pids();
  if (!all) return found;
  for (auto const pid : *all) {
    if (os::read_parent(pid) == parent) found.push_back(pid);
  }
  return found;
}

inline std::string line_of(std::string const& path, std::string const& key) {
  auto const text = os::read_file(path, 1 << 20).value_or("");
  auto const at = text.find("\n" + key);
  return at == std::string::npos ? "" : text.substr(at + 1, text.find('\n', at + 1) - at - 1);
}

/// "pipe:[123]" and the like are other files in a copy.
inline std::string without_number(std::string link) {
  auto const bracket = link.find(":[");
  return link.starts_with("anon_inode") || bracket == std::string::npos ? link
                                                                        : link.substr(0, bracket);
}

/// A watch that was spent (EPOLLONESHOT) hears of errors and of hanging up again in a copy: the
/// kernel adds these to whatever is registered (ep_insert in fs/eventpoll.c).
inline std::string watch_of(std::string line) {
  line = line.substr(0, line.find(" pos:"));
  if (auto const at = line.find(" 40000000 "); at != std::string::npos)
    line.replace(at, 10, " 40000018 ");
  return line;
}

inline std::vector<std::string> visible(pid_t pid) {
  std::vector<std::string> lines;
  auto const folder = "/proc/" + std::to_string(pid);
  for (auto const* key : {"SigIgn", "SigCgt", "ShdPnd", "Uid", "Gid", "Groups", "NoNewPrivs",
                          "Seccomp", "CapEff", "Umask", "TracerPid", "Threads"}) {
    lines.push_back(line_of(folder + "/status", key));
  }
  for (auto const fd : os::list_fds(pid)) {
    auto const info = folder + "/fdinfo/" + std::to_string(fd);
    lines.push_back(std::to_string(fd) + " " + without_number(os::read_fd_link(pid, fd)) + " " +
                    line_of(info, "flags") + " " + line_of(info, "pos"));
    std::istringstream text(os::read_file(info, 1 << 20).value_or(""));
    std::multiset<std::string> inside;  // An epoll lists its targets in no order.
    for (std::string one; std::getline(text, one);) {
      if (one.starts_with("tfd")) inside.insert(watch_of(one));
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
    auto const name = area.shared && area.writable ? std::string{} : area.name;
    lines.push_back(fmt::format("{:x}-{:x} {}{}{} {} {}", area.begin, area.end, area.readable,
                                area.writable, area.executable, area.absent_after_fork, name));
  }
  return lines;
}

/// Of what is to be seen of a process: what the one has and the other lacks.
inline std::vector<std::string> differences(std::vector<std::string> before,
                                            std::vector<std::string> after) {
  std::ranges::sort(before);
  std::ranges::sort(after);
  std::vector<std::string> gone;
  std::vector<std::string> come;
  std::ranges::set_difference(before, after, std::back_inserter(gone));
  std::ranges::set_difference(after, before, std::back_inserter(come));
  for (std::string& line : gone) line = "the original has: " + line;
  for (std::string const& line : come) gone.push_back("the copy has: " + line);
  return gone;
}

/// The zdtm way (criu.org/ZDTM_Test_Suite): what is visible before and after is the same.
inline void expect_a_copy_looks_like_its_original(Server& server) {
  std::vector<std::string> before;
  std::vector<std::string> after;
  // The server may still be closing what it was asked on before.
  os::testing::wait_until([&] {
    auto frozen = freeze(server.program.pid());
    if (!frozen || !frozen->thaw()) return false;
    before = visible(server.program.pid());
    frozen = freeze(server.program.pid());
    auto const copy = frozen ? make_copy(*frozen) : std::nullopt;
    if (copy) after = visible(copy->pid());
    return frozen && frozen->thaw() && after == before;
  });
  EXPECT_EQ(differences(before, after), std::vector<std::string>{});
}

}  // namespace aether::clone::tests
