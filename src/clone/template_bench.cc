// SPDX-License-Identifier: Apache-2.0
// What the steps cost: to freeze a server (and to let it go again), to make a copy of it that runs,
// to end one and take its status. Of a Python and a Node server.
#include <signal.h>

#include <chrono>
#include <optional>
#include <string>

#include <benchmark/benchmark.h>

#include "clone/template.h"
#include "os/file.h"
#include "os/process.h"
#include "os/temp_dir.h"

namespace aether::clone {
namespace {

using Seconds = std::chrono::duration<double>;
constexpr Duration kPatience = std::chrono::seconds(30);

char const* const kPython =
    "import http.server, sys\n"
    "s = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n"
    "print('x', file=open(sys.argv[1], 'w'))\ns.serve_forever()\n";
char const* const kNode =
    "require('http').createServer((q, a) => a.end('x')).listen(0, '127.0.0.1',"
    " () => require('fs').writeFileSync(process.argv[1], 'x'))";

os::SpawnSpec spec_of(std::string const& language, std::string const& ready) {
  std::vector<std::string> const environment{"PATH=/usr/local/bin:/usr/bin:/bin"};
  if (language == "node") {
    return {.argv = {"/usr/bin/env", "node", "-e", kNode, ready}, .environment = environment};
  }
  return {.argv = {"/usr/bin/python3", "-S", "-E", "-c", kPython, ready},
          .environment = environment};
}

/// Ended with its owner.
struct Server {
  explicit Server(std::string const& language)
      : folder(os::TempDir::create("bench").value()),
        child(os::spawn(spec_of(language, folder.path() + "/ready")).value()) {
    auto const end = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < end) {
      auto const said = os::read_file(folder.path() + "/ready", 10);
      if (said && !said->empty() && is_at_rest(child.pid())) break;
    }
  }
  Server(Server const&) = delete;
  Server& operator=(Server const&) = delete;
  ~Server() {
    (void)child.signal(SIGKILL);
    (void)child.reap_within(kPatience);
  }
  /// Frozen as soon as it stands still.
  [[nodiscard]] std::optional<Template> freeze() const {
    auto const end = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < end) {
      if (auto frozen = Template::freeze(child.pid())) return std::move(*frozen);
    }
    return std::nullopt;
  }
  os::TempDir folder;
  os::Child child;
};

void freeze_and_thaw(benchmark::State& state, std::string const& language) {
  Server const server(language);
  for (auto _ : state) {
    auto frozen = server.freeze();
    if (!frozen || !frozen->thaw()) return state.SkipWithError("it could not be frozen");
  }
}

enum class Timed : std::uint8_t { Copy, End };

void copy_and_end(benchmark::State& state, std::string const& language, Timed timed) {
  Server const server(language);
  auto frozen = server.freeze();
  if (!frozen) return state.SkipWithError("it could not be frozen");
  CopyWishes const wishes{.files = {.listeners = TcpListeners::Own}};
  for (auto _ : state) {
    auto const start = std::chrono::steady_clock::now();
    auto copied = frozen->copy(wishes);
    if (!copied) return state.SkipWithError(copied.error().message().c_str());
    auto const made = std::chrono::steady_clock::now();
    (void)copied->child.signal(SIGKILL);
    (void)copied->child.reap_within(kPatience);
    auto const ended = std::chrono::steady_clock::now();
    state.SetIterationTime(Seconds(timed == Timed::Copy ? made - start : ended - made).count());
  }
}

int const kRegistered = [] {
  for (std::string const language : {"python", "node"}) {
    auto const named = [&](std::string const& step) { return step + "/" + language; };
    benchmark::RegisterBenchmark(named("freeze_and_thaw").c_str(), freeze_and_thaw, language)
        ->Unit(benchmark::kMicrosecond);
    benchmark::RegisterBenchmark(named("copy").c_str(), copy_and_end, language, Timed::Copy)
        ->Unit(benchmark::kMicrosecond)
        ->UseManualTime();
    benchmark::RegisterBenchmark(named("end").c_str(), copy_and_end, language, Timed::End)
        ->Unit(benchmark::kMicrosecond)
        ->UseManualTime();
  }
  return 0;
}();

}  // namespace
}  // namespace aether::clone
