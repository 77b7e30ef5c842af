// SPDX-License-Identifier: Apache-2.0
// What is left when a freeze or a copy fails in the middle: nothing, and the original goes on.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/fault.h"
#include "clone/template.h"
#include "clone/testing.h"
#include "os/temp_dir.h"

namespace aether::clone {
namespace {

using os::testing::kPatience;
using os::testing::Program;
using os::testing::python;
using os::testing::wait_until;
using tests::ask;
using tests::freeze;
using tests::in_own_namespace;
using tests::kNodeServer;
using tests::kPythonServer;
using tests::make_copy;
using tests::node;
using tests::Server;

/// What this process holds beside one original: to be the same before and after.
struct Held {
  std::size_t own_fds = os::count_own_fds();
  std::set<pid_t> traced;
  std::set<pid_t> children;  ///< Of ours and of the original, zombies too.
  std::vector<int> original_fds;
  std::size_t mappings = 0;
  bool operator==(Held const&) const = default;
};

Held look_at(pid_t original) {
  Held held{.original_fds = os::list_fds(original),
            .mappings = read_mappings(original).value_or(std::vector<Mapping>{}).size()};
  auto const all = os::list_pids();
  for (auto const pid : all.value_or(std::vector<pid_t>{})) {
    if (read_tracer(pid) == gettid()) held.traced.insert(pid);
    auto const parent = os::read_parent(pid);
    if (parent == getpid() || parent == original) held.children.insert(pid);
  }
  return held;
}

class Faults : public ::testing::Test {
 protected:
  void TearDown() override { EXPECT_TRUE(fault::configure("")); }
};

/// A copy with a fault at this place, which must be told.
void expect_a_failed_copy(Template& frozen, CopyWishes const& wishes, std::string const& fault) {
  ASSERT_TRUE(fault::configure(fault));
  auto const copied = frozen.copy(wishes);
  ASSERT_TRUE(fault::configure(""));
  ASSERT_FALSE(copied) << fault;
  EXPECT_EQ(copied.error().code(), ErrorCode::SystemCall) << copied.error().describe();
}

/// How many waits a copy takes.
std::uint64_t count_waits(Template& frozen, CopyWishes const& wishes) {
  EXPECT_TRUE(fault::configure("clone.thaw:1:eio"));  // Any fault: they are counted then.
  EXPECT_TRUE(make_copy(frozen, wishes));
  auto const waits = fault::hits(fault::Point::CloneWait);
  EXPECT_TRUE(fault::configure(""));
  return waits;
}

/// Everything that a copy can be asked for.
CopyWishes all_wishes(int output) {
  return {
      .files = {.replacements = {{.number = 2, .source = output}}, .listeners = TcpListeners::Own}};
}

void expect_each_step_of_a_copy_may_fail(Server& server) {
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  os::UniqueFd const output(open("/dev/null", O_WRONLY | O_CLOEXEC));
  auto const wishes = all_wishes(output.get());
  ASSERT_TRUE(make_copy(*frozen, wishes));
  auto const before = look_at(server.program.pid());
  for (auto const* point : {"clone.hand", "clone.fork", "clone.born", "clone.rebuild",
                            "clone.memory", "clone.thread", "clone.release"}) {
    bool const has_threads = frozen->threads() > 1;
    if (point == std::string_view("clone.thread") && !has_threads) continue;
    ASSERT_TRUE(fault::configure(fmt::format("{}:1:eio", point)));
    auto const copied = frozen->copy(wishes);
    ASSERT_FALSE(copied) << point;
    EXPECT_THAT(copied.error().message(), ::testing::HasSubstr(point));
    ASSERT_TRUE(fault::configure(""));
    auto const next = make_copy(*frozen, wishes);
    ASSERT_TRUE(next) << point;
    EXPECT_NE(ask(next->port()), "") << point;
  }
  EXPECT_TRUE(look_at(server.program.pid()) == before);
  EXPECT_TRUE(frozen->lives());
}

TEST_F(Faults, AtEachStepOfACopyLeaveNothingAndTheNextOneSucceeds) {
  Server server(python(kPythonServer));
  expect_each_step_of_a_copy_may_fail(server);
}

TEST_F(Faults, AtEachStepOfACopyWithThreadsLeaveNothing) {
  Server server(node(kNodeServer));
  expect_each_step_of_a_copy_may_fail(server);
}

TEST_F(Faults, AtEachStepOfACopyInANamespaceLeaveNothing) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can make a pid namespace";
  Server server(in_own_namespace(node(kNodeServer)));
  expect_each_step_of_a_copy_may_fail(server);
}

/// Whoever was to be waited for runs still when the fault is told, as if the time had been over.
void expect_each_wait_of_a_copy_may_be_in_vain(Server& server) {
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  os::UniqueFd const output(open("/dev/null", O_WRONLY | O_CLOEXEC));
  auto const wishes = all_wishes(output.get());
  ASSERT_TRUE(make_copy(*frozen, wishes));
  auto const before = look_at(server.program.pid());
  auto const waits = count_waits(*frozen, wishes);
  ASSERT_GE(waits, 4U);
  for (std::uint64_t n = 1; n <= waits; ++n) {
    auto const fault = fmt::format("clone.wait:{}:eio", n);
    expect_a_failed_copy(*frozen, wishes, fault);
    // What it speaks through went with the failed one, and has to be made again now.
    expect_a_failed_copy(*frozen, wishes, fault);
    auto const next = make_copy(*frozen, wishes);
    ASSERT_TRUE(next) << fault;
    EXPECT_NE(ask(next->port()), "") << fault;
  }
  EXPECT_TRUE(look_at(server.program.pid()) == before);
  EXPECT_TRUE(frozen->lives());
}

TEST_F(Faults, InAnyWaitOfACopyLeaveTheOriginalAsItWas) {
  Server server(python(kPythonServer));
  expect_each_wait_of_a_copy_may_be_in_vain(server);
}

TEST_F(Faults, InAnyWaitOfACopyWithThreadsLeaveTheOriginalAsItWas) {
  Server server(node(kNodeServer));
  expect_each_wait_of_a_copy_may_be_in_vain(server);
}

TEST_F(Faults, InAnyWaitOfACopyInANamespaceLeaveTheOriginalAsItWas) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can make a pid namespace";
  Server server(in_own_namespace(python(kPythonServer)));
  expect_each_wait_of_a_copy_may_be_in_vain(server);
}

TEST_F(Faults, ThatCannotBeUndoneEndTheOriginalAtOnce) {
  Server server(node(kNodeServer));
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  ASSERT_TRUE(fault::configure("clone.rebuild:1:eio,clone.undo:1:eio"));
  auto const copied = frozen->copy();
  ASSERT_TRUE(fault::configure(""));
  ASSERT_FALSE(copied);
  EXPECT_EQ(copied.error().code(), ErrorCode::NotRunning) << copied.error().describe();
  EXPECT_THAT(copied.error().message(), ::testing::HasSubstr("clone.rebuild"));
  EXPECT_FALSE(frozen->lives());
  EXPECT_EQ(server.program.wait(), (os::ExitStatus{.signal = SIGKILL}));
}

TEST_F(Faults, InAnyWaitOfAFreezeLetTheProgramRunOn) {
  Server server(node(kNodeServer));
  auto const answer = ask(server.port);
  bool was_frozen = false;
  for (std::uint64_t n = 1; !was_frozen;) {
    wait_until([&] { return is_at_rest(server.program.pid()); });
    ASSERT_TRUE(fault::configure(fmt::format("clone.wait:{}:eio", n)));
    auto frozen = Template::freeze(server.program.pid());
    bool const was_hit = fault::hits(fault::Point::CloneWait) >= n;
    ASSERT_TRUE(fault::configure(""));
    ASSERT_FALSE(frozen && was_hit) << "wait " << n << " was in vain and nobody told";
    was_frozen = frozen.has_value();
    if (frozen) ASSERT_TRUE(frozen->thaw());
    EXPECT_EQ(ask(server.port), answer) << n;
    if (was_hit) ++n;
  }
  EXPECT_TRUE(look_at(server.program.pid()).traced.empty());
}

TEST_F(Faults, AtEachStepOfAFreezeLetTheProgramRunOn) {
  Server server(node(kNodeServer));
  auto const answer = ask(server.port);
  auto const before = look_at(server.program.pid());
  for (auto const* point :
       {"clone.seize", "clone.capture", "clone.arena", "clone.ask", "clone.look"}) {
    ASSERT_TRUE(fault::configure(fmt::format("{}:1:eio", point)));
    auto const frozen = Template::freeze(server.program.pid());
    ASSERT_FALSE(frozen) << point;
    EXPECT_THAT(frozen.error().message(), ::testing::HasSubstr(point));
    ASSERT_TRUE(fault::configure(""));
    EXPECT_EQ(ask(server.port), answer) << point;
    wait_until([&] { return is_at_rest(server.program.pid()); });
  }
  auto const after = look_at(server.program.pid());
  EXPECT_EQ(after.own_fds, before.own_fds);
  EXPECT_EQ(after.children, before.children);
  EXPECT_TRUE(after.traced.empty());
}

TEST_F(Faults, AtTheThawAreToldAndTheProgramRunsOnAllTheSame) {
  Server server(node(kNodeServer));
  auto const answer = ask(server.port);
  wait_until([&] { return is_at_rest(server.program.pid()); });
  auto const before = look_at(server.program.pid());
  {
    auto frozen = freeze(server.program.pid());
    ASSERT_TRUE(frozen) << frozen.error().describe();
    ASSERT_TRUE(make_copy(*frozen));
    ASSERT_TRUE(fault::configure("clone.thaw:1:eio"));
    auto const thawed = frozen->thaw();
    ASSERT_FALSE(thawed);
    EXPECT_THAT(thawed.error().message(), ::testing::HasSubstr("clone.thaw"));
    EXPECT_EQ(ask(server.port), answer);
  }
  EXPECT_EQ(ask(server.port), answer);
  // Nothing is left of the first fault in the next freeze.
  ASSERT_TRUE(fault::configure(""));
  {
    auto again = freeze(server.program.pid());
    ASSERT_TRUE(again) << again.error().describe();
    ASSERT_TRUE(again->thaw());
  }
  EXPECT_EQ(ask(server.port), answer);
  auto const after = look_at(server.program.pid());
  EXPECT_EQ(after.own_fds, before.own_fds);
  EXPECT_EQ(after.children, before.children);
  EXPECT_EQ(after.mappings, before.mappings) << "what was lent to it for the copies is taken back";
  EXPECT_TRUE(after.traced.empty());
}

TEST_F(Faults, AtAStepOfAFreezeAndAtTheThawThatFollowsLetTheProgramRunOn) {
  Server server(python(kPythonServer));
  auto const answer = ask(server.port);
  for (auto const* point :
       {"clone.seize", "clone.capture", "clone.arena", "clone.ask", "clone.look"}) {
    ASSERT_TRUE(fault::configure(fmt::format("{}:1:eio,clone.thaw:1:eio", point)));
    EXPECT_FALSE(Template::freeze(server.program.pid())) << point;
    EXPECT_GT(fault::hits(fault::Point::CloneThaw), 0U) << point;
    ASSERT_TRUE(fault::configure(""));
    EXPECT_EQ(ask(server.port), answer) << point;
    wait_until([&] { return is_at_rest(server.program.pid()); });
  }
  EXPECT_TRUE(look_at(server.program.pid()).traced.empty());
}

// ---- What a copy waits for in vain --------------------------------------------------------------

/// A path that nobody reads: who opens it to write waits.
struct Fifo {
  Fifo() : folder(os::TempDir::create("faults").value()), path(folder.path() + "/fifo") {
    EXPECT_EQ(mkfifo(path.c_str(), 0600), 0);
  }
  [[nodiscard]] CopyWishes wishes(Duration patience) const {
    return {.files = {.replacements = {{.number = 2, .path = path, .flags = O_WRONLY}}},
            .patience = patience};
  }
  os::TempDir folder;
  std::string path;
};

TEST_F(Faults, ACopyThatIsNotReadyInTimeIsKilledAndTheNextOneSucceeds) {
  Server server(python(kPythonServer));
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  auto const before = look_at(server.program.pid());
  Fifo const fifo;
  auto const copied = frozen->copy(fifo.wishes(std::chrono::milliseconds(50)));
  ASSERT_FALSE(copied);
  EXPECT_EQ(copied.error().code(), ErrorCode::Timeout) << copied.error().describe();
  EXPECT_TRUE(look_at(server.program.pid()) == before);
  EXPECT_TRUE(make_copy(*frozen));
}

/// Runs `meddle` with the copy that waits at the fifo.
template <class Meddle>
Result<Copied> copy_and(Template& original, Fifo const& fifo, Meddle meddle) {
  auto const tracer = gettid();
  std::thread other([&, tracer] {
    pid_t copy = 0;
    wait_until([&] {
      for (auto const pid : os::list_pids().value_or(std::vector<pid_t>{})) {
        auto const process = os::read_process(pid);
        auto const waits = process && process->state == 'S' && pid != original.pid();
        if (waits && read_tracer(pid) == tracer) copy = pid;
      }
      return copy != 0;
    });
    meddle(copy);
  });
  auto copied = original.copy(fifo.wishes(kPatience));
  other.join();
  return copied;
}

TEST_F(Faults, ACopyKilledInTheMiddleIsToldAndTheNextOneSucceeds) {
  Server server(python(kPythonServer));
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  auto const before = look_at(server.program.pid());
  Fifo const fifo;
  auto const copied = copy_and(*frozen, fifo, [](pid_t copy) { kill(copy, SIGKILL); });
  ASSERT_FALSE(copied);
  EXPECT_EQ(copied.error().code(), ErrorCode::ExitedEarly) << copied.error().describe();
  EXPECT_TRUE(look_at(server.program.pid()) == before);
  EXPECT_TRUE(make_copy(*frozen));
}

TEST_F(Faults, AnOriginalThatWasKilledIsToldAndItsStatusIsItsOwners) {
  Server server(node(kNodeServer));  // Its threads' ends are ours to take.
  auto frozen = freeze(server.program.pid());
  ASSERT_TRUE(frozen) << frozen.error().describe();
  EXPECT_TRUE(frozen->lives());
  EXPECT_TRUE(server.program.child().signal(SIGKILL));
  EXPECT_TRUE(wait_until([&] { return !frozen->lives(); }));
  auto const copied = frozen->copy();
  ASSERT_FALSE(copied);
  EXPECT_EQ(copied.error().code(), ErrorCode::NotRunning) << copied.error().describe();
  EXPECT_EQ(server.program.wait(), (os::ExitStatus{.signal = SIGKILL}));
}

TEST_F(Faults, AnOriginalKilledAtAnyMomentLeavesNoCopyBehind) {
  constexpr int kRounds = 25;
  std::mt19937 random(7);
  std::size_t const fds = os::count_own_fds();
  for (int round = 0; round < kRounds; ++round) {
    Program program(python("import time\nprint('x', flush=True)\ntime.sleep(1000)"));
    ASSERT_EQ(program.read_line(), "x");
    {
      auto frozen = freeze(program.pid());
      ASSERT_TRUE(frozen) << frozen.error().describe();
      auto const after = std::chrono::microseconds(random() % 3000);
      std::thread killer([&] {
        std::this_thread::sleep_for(after);  // Any moment will do.
        (void)program.child().signal(SIGKILL);
      });
      Result<Copied> copied = fail(ErrorCode::Internal, "never tried");
      do {
        copied = frozen->copy();
        if (!copied) break;
        tests::Copy const ended(std::move(*copied));
      } while (true);
      killer.join();
      EXPECT_EQ(copied.error().code(), ErrorCode::NotRunning) << copied.error().describe();
    }
    EXPECT_EQ(program.wait(), (os::ExitStatus{.signal = SIGKILL}));
    auto const held = look_at(program.pid());
    EXPECT_TRUE(held.traced.empty());
    EXPECT_TRUE(held.children.empty()) << "round " << round;
  }
  EXPECT_EQ(os::count_own_fds(), fds);
}

}  // namespace
}  // namespace aether::clone
