// SPDX-License-Identifier: Apache-2.0
// What an instance watches for as long as it lives: its end, its words, its deadlines, its pid
// file.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <string_view>

#include <fmt/format.h>

#include "async/offload.h"
#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/log.h"
#include "os/file.h"
#include "os/proc.h"
#include "supervise/instance_body.h"

namespace aether::supervise {
namespace {

/// How often is looked whether one that gives way starves, and whether a change is possible
/// again that the kernel refused for coming too soon (it takes ten a second).
constexpr Duration kPriorityPoll = std::chrono::milliseconds(100);
/// Looks for processes that were forked while their maker was put into a group.
constexpr int kWalksMax = 4;
/// Datagrams taken in one turn of the loop; the kernel's own queue holds a few dozen at most.
constexpr std::size_t kNotifyPerTurn = 256;
constexpr std::size_t kThreadStatMax = 1024;

/// Every thread of it has stopped (by SIGSTOP), or it has ended.
bool has_stopped(pid_t pid) {
  std::error_code ec;
  for (std::filesystem::directory_iterator task(fmt::format("/proc/{}/task", pid), ec), end;
       !ec && task != end; task.increment(ec)) {
    auto const line = os::read_file(task->path().string() + "/stat", kThreadStatMax);
    auto const thread = line ? os::parse_stat(*line) : std::nullopt;
    if (thread && thread->state != 'T' && thread->state != 't' && !thread->ended()) return false;
  }
  return true;
}

/// The number in a pid file. The program wrote it: it may be anything, a FIFO that blocks its
/// readers included.
std::optional<pid_t> read_pid_file(std::string const& path) {
  os::UniqueFd const file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
  struct stat status{};
  if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  std::array<char, 32> bytes{};
  ssize_t const count = ::read(file.get(), bytes.data(), bytes.size());
  if (count <= 0) return std::nullopt;
  std::string_view text(bytes.data(), static_cast<std::size_t>(count));
  std::size_t const begin = text.find_first_not_of(" \t\n");
  if (begin == std::string_view::npos) return std::nullopt;
  text.remove_prefix(begin);
  pid_t pid = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), pid);
  // A number that goes on to the buffer's end may have been cut, or is half written.
  bool const whole = end != text.data() + text.size() || count < std::ssize(bytes);
  return error == std::errc{} && whole && pid > 1 ? std::optional(pid) : std::nullopt;
}

}  // namespace

Duration longer(Duration poll, Duration last) {
  return std::min(poll * 5 / 4, last);
}

async::Task<void> Instance::Body::watch_main(os::Child* child) {
  int const pidfd = child->pidfd();
  co_await async::readable(pidfd);
  main_ended(*child);
}

async::Task<void> Instance::Body::watch_notify() {
  int const fd = parts_.notify->fd();
  while (true) {
    co_await async::readable(fd);
    hear(kNotifyPerTurn);
  }
}

async::Task<void> Instance::Body::watch_time() {
  while (machine_.phase() != InstanceMachine::Phase::Gone) {
    auto const due = machine_.due();
    if (!due) {
      co_await moved_.wait();
    } else if (parts_.world.clock.now() >= *due) {
      happen(input::Tick{});
    } else {
      co_await moved_.wait_until(*due);
    }
  }
}

async::Task<void> Instance::Body::watch_priority(BackgroundPatience patience) {
  while (priority_.is_low() && machine_.phase() != InstanceMachine::Phase::Gone) {
    co_await async::sleep_for(kPriorityPoll);
    std::vector<pid_t> const tree = parts_.tree.members();
    bool const over = patience.is_over(parts_.world.clock.now(), BackgroundPriority::share(tree));
    bool const serves = machine_.phase() == InstanceMachine::Phase::Ready;
    if (!over && !serves) continue;
    if (!serves)
      log::info(
          "{}: instance {} gave way to the serving one for long enough: from now on it has the "
          "usual priority",
          parts_.spec.service, parts_.spec.instance);
    priority_.restore(tree);
  }
}

async::Task<void> Instance::Body::join_groups(std::vector<std::string> folders) {
  async::ThreadPool thread(1);
  std::vector<pid_t> inside;
  for (int walk = 0; walk < kWalksMax; ++walk) {
    // Those that were forked by one that was not in yet are outside too.
    std::vector<pid_t> outside = parts_.tree.members();
    std::erase_if(outside,
                  [&](pid_t pid) { return std::ranges::find(inside, pid) != inside.end(); });
    if (outside.empty()) break;
    inside.insert(inside.end(), outside.begin(), outside.end());
    co_await async::offload(thread, [folders, outside = std::move(outside)] {
      for (std::string const& folder : folders) put_into(folder, outside);
    });
  }
  grouped_.set();
}

async::Task<void> Instance::Body::join_own_groups() {
  struct Groups {
    std::optional<os::Cgroup> cgroup;
    LimitSet limits;
  };
  std::string const name = group_name(parts_.spec);
  config::Limits const limits = parts_.spec.limits;
  os::Cgroup const* const own = parts_.tree.cgroup();  // Lives as long as this task.
  async::ThreadPool thread(1);
  auto making = async::offload(thread, [name, limits, own] {
    std::optional<os::Cgroup> cgroup;
    if (own == nullptr) {
      if (auto created = os::Cgroup::create(name)) cgroup = std::move(*created);
    }
    LimitSet set = LimitSet::create(limits, cgroup ? &*cgroup : own,
                                    fmt::format("aether-{}-{}", ::getpid(), name));
    return Groups{.cgroup = std::move(cgroup), .limits = std::move(set)};
  });
  Groups groups = co_await std::move(making);
  for (std::string const& warning : groups.limits.warnings())
    log::warn("{}: {}", parts_.spec.service, warning);
  std::vector<std::string> folders = groups.limits.folders();
  if (groups.cgroup) folders.insert(folders.begin(), groups.cgroup->path());
  parts_.limits.emplace(std::move(groups.limits));
  async::Task<void> joining = join_groups(std::move(folders));
  co_await std::move(joining);
  if (groups.cgroup) parts_.tree.join(std::move(*groups.cgroup));
}

async::Task<void> Instance::Body::watch_tree() {
  Duration poll = kPollFirst;
  while (!parts_.tree.is_empty()) {
    // Past its time: again and again, because it may fork while it is being killed.
    if (!machine_.due()) parts_.tree.kill_all();
    co_await async::sleep_for(poll);
    poll = longer(poll);
  }
  stdout_.finish();
  stderr_.finish();
  happen(input::TreeEmpty{});
}

void Instance::Body::follow_pid_file() {
  if (!parts_.spec.pid_file) return;
  auto const named = read_pid_file(*parts_.spec.pid_file);
  if (!named || !parts_.tree.owns(*named)) return;  // Not there yet, or of an instance before.
  pid_t const main = parts_.tree.main().pid();
  if (*named != main)
    adopt(*named, std::nullopt);
  else if (!machine_.awaits_successor())
    happen(input::MainAdopted{.from = main, .to = main});
}

/// Until it is known who stays, and again whenever a main process has ended: a program that
/// re-executes itself as a child (nginx, gunicorn) names its new main process there too.
async::Task<void> Instance::Body::watch_pid_file() {
  Duration poll = kPollFirst;
  while (machine_.phase() != InstanceMachine::Phase::Gone) {
    bool const wanted =
        machine_.phase() == InstanceMachine::Phase::Starting || machine_.awaits_successor();
    if (!wanted) {
      poll = kPollFirst;
      co_await moved_.wait();
      continue;
    }
    follow_pid_file();
    if (machine_.awaits_successor() && parts_.tree.is_empty()) happen(input::TreeEmpty{});
    co_await async::sleep_for(poll);
    poll = longer(poll);
  }
}

bool Instance::is_still() const {
  Tree const& tree = body_->parts_.tree;
  if (tree.cgroup() != nullptr && tree.cgroup()->is_frozen()) return true;
  return std::ranges::all_of(tree.members(), has_stopped);
}

}  // namespace aether::supervise
