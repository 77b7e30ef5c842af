// SPDX-License-Identifier: Apache-2.0
// doctor: tries each thing that Aether uses of this machine, and says what is missing for what.
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <iterator>
#include <string>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "api/json_text.h"
#include "base/checksum.h"
#include "cli/commands.h"
#include "cli/terminal.h"
#include "functions/image_launcher.h"
#include "functions/template_worker.h"
#include "os/cgroup.h"
#include "os/file.h"
#include "os/memfd.h"
#include "os/oom_score.h"
#include "os/requirements.h"
#include "os/sandbox.h"
#include "steer/bpf_support.h"
#include "steer/listener.h"
#include "steer/rescue.h"
#include "supervise/limits.h"

namespace aether::cli {
namespace {

namespace json = boost::json;

enum class Grade : unsigned char { Good, Lacking, Missing };

struct Finding {
  std::string what;
  Grade grade;
  std::string found;
};

Finding kernel() {
  utsname name{};
  ::uname(&name);
  int major = 0;
  int minor = 0;
  // NOLINTNEXTLINE(cert-err34-c): the kernel's own number; 0.0 is graded as missing
  (void)std::sscanf(name.release, "%d.%d", &major, &minor);
  bool const enough = major > 5 || (major == 5 && minor >= 15);
  return {"Linux 5.15 or newer", enough ? Grade::Good : Grade::Missing, name.release};
}

Finding steering() {
  steer::ListenSpec spec{.name = "doctor",
                         .address = {.host = "127.0.0.1", .port = 0, .path = {}},
                         .mode = steer::ListenMode::Steered};
  auto group = steer::ListenerGroup::open(spec);
  Status steered = group ? Status{} : fail(group.error());
  for (std::uint64_t const revision : {1U, 2U}) {
    if (!steered) break;
    if (auto lane = group->lane_fd(RevisionId{revision}); !lane) steered = fail(lane.error());
  }
  if (steered) steered = group->steer_to(RevisionId{2});
  return {"steering of new connections (SO_ATTACH_REUSEPORT_CBPF)",
          steered ? Grade::Good : Grade::Missing,
          steered ? "works, and needs no privilege" : steered.error().message()};
}

Finding migration() {
  auto const on = steer::tcp_migrate_req();
  if (on && *on) return {"net.ipv4.tcp_migrate_req", Grade::Good, "1: the kernel moves queues"};
  return {"net.ipv4.tcp_migrate_req", Grade::Lacking,
          "0: what waits for a revision that dies is relayed by Aether instead of moved by the "
          "kernel (sysctl -w net.ipv4.tcp_migrate_req=1)"};
}

Finding trees() {
  auto const cgroup = os::Cgroup::create(fmt::format("aether-doctor-{}", ::getpid()));
  if (cgroup) return {"process trees by cgroup v2", Grade::Good, cgroup->path()};
  return {"process trees by cgroup v2", Grade::Lacking,
          fmt::format("{}; they are found by session, parents and environment instead",
                      cgroup.error().message())};
}

Finding limits() {
  auto const group = os::Cgroup::create(fmt::format("aether-doctor-limits-{}", ::getpid()));
  auto const set = supervise::LimitSet::create(
      {.memory = 1 << 20, .cpu = 1, .processes = 10, .open_files = {}, .core_size = {}},
      group ? &*group : nullptr, fmt::format("aether-doctor-limits-{}", ::getpid()));
  bool const all = set.warnings().empty();
  return {"limits of memory, processors and processes", all ? Grade::Good : Grade::Lacking,
          all ? "held" : fmt::format("{}", fmt::join(set.warnings(), "; "))};
}

Finding copies() {
  // What is made to try could not be ended without pidfds, either.
  Status const pidfds = os::check_pidfd();
  Status const made = pidfds ? functions::try_copying() : pidfds;
  return {"copies of handlers (ptrace)", made ? Grade::Good : Grade::Lacking,
          made ? "made" : fmt::format("each instance is spawned: {}", made.error().message())};
}

Finding images() {
  auto const tried = functions::try_images(config::Orchestrator{}.snapshot_dir);
  return {"images of handlers (CRIU)", tried ? Grade::Good : Grade::Lacking,
          tried ? fmt::format("CRIU {} dumps and restores", *tried)
                : fmt::format("launch: image is refused: {}", tried.error().message())};
}

std::vector<Finding> kernel_programs() {
  std::vector<Finding> findings;
  for (auto const& tried : steer::probe_bpf())
    findings.push_back({tried.what, tried.works ? Grade::Good : Grade::Lacking, tried.reason});
  return findings;
}

Finding sandbox() {
  // Of what only some kernels have: landlock (os/sandbox.h).
  auto const rules = os::describe_sandbox({.level = os::SandboxLevel::Strict});
  bool const files = std::ranges::any_of(
      rules, [](std::string const& rule) { return rule.contains("files to read"); });
  return {"sandbox: strict", files ? Grade::Good : Grade::Lacking,
          files ? "restricts files (landlock)" : "files are not restricted: no landlock"};
}

Finding pidfds() {
  Status const works = os::check_pidfd();
  return {"pidfd", works ? Grade::Good : Grade::Missing, works ? "works" : works.error().message()};
}

Finding processes() {
  Status const seen = os::check_proc();
  return {"/proc", seen ? Grade::Good : Grade::Missing,
          seen ? "shows this PID namespace" : seen.error().message()};
}

Finding memory_shortage() {
  Status const lowered = os::protect_from_oom();  // Of this short-lived process, to see whether.
  return {"first to die when memory runs out", lowered ? Grade::Good : Grade::Lacking,
          lowered ? "a service, not Aether" : lowered.error().message()};
}

Finding memory() {
  auto memfd = os::Memfd::create("doctor", 4096);
  Status const sealed = memfd ? memfd->seal() : fail(memfd.error());
  return {"sealed memory (memfd)", sealed ? Grade::Good : Grade::Missing,
          sealed ? "works" : sealed.error().message()};
}

Finding files() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  bool const enough = limit.rlim_cur >= 1024;
  return {"open files", enough ? Grade::Good : Grade::Lacking,
          fmt::format("{} (ulimit -n)", limit.rlim_cur)};
}

Finding backlog() {
  auto const text = os::read_file("/proc/sys/net/core/somaxconn", 64);
  std::string const value = text ? text->substr(0, text->find('\n')) : "unknown";
  bool const enough = text && std::atoi(value.c_str()) >= 1024;
  return {"accept queue (net.core.somaxconn)", enough ? Grade::Good : Grade::Lacking, value};
}

Finding first_process() {
  bool const first = ::getpid() == 1;
  return {"orphans", Grade::Good, first ? "reaped as PID 1" : "reaped as a subreaper"};
}

std::string_view grade_name(Grade grade) {
  switch (grade) {
    case Grade::Good:
      return "ok";
    case Grade::Lacking:
      return "lacking";
    case Grade::Missing:
      return "missing";
  }
  return "unknown";
}

void print(Finding const& finding) {
  Paint const paint = paint_for(stdout);
  std::string_view const colour = finding.grade == Grade::Good      ? paint.green
                                  : finding.grade == Grade::Lacking ? paint.yellow
                                                                    : paint.red;
  fmt::print("{}{:<8}{} {}: {}\n", colour, grade_name(finding.grade), paint.reset, finding.what,
             finding.found);
}

}  // namespace

Result<int> doctor(Globals const& globals) {
  std::vector<Finding> findings{
      kernel(),        steering(),
      migration(),     pidfds(),
      processes(),     memory_shortage(),
      trees(),         memory(),
      files(),         backlog(),
      limits(),        copies(),
      images(),        sandbox(),
      first_process(), Finding{"CRC-32C", Grade::Good, std::string(crc32c_implementation())}};
  std::ranges::move(kernel_programs(), std::back_inserter(findings));
  bool complete = true;
  json::array list;
  for (Finding const& finding : findings) {
    complete = complete && finding.grade != Grade::Missing;
    list.push_back(json::object{
        {"what", finding.what}, {"grade", grade_name(finding.grade)}, {"found", finding.found}});
    if (globals.output == Output::Text) print(finding);
  }
  if (globals.output == Output::Json) fmt::print("{}\n", api::json_text(list));
  return complete ? kDone : kFailed;
}

}  // namespace aether::cli
