// SPDX-License-Identifier: Apache-2.0
#include "os/proc.h"

#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <random>

#include "os/file.h"
#include "os/temp_dir.h"
#include "os/testing.h"

namespace aether::os {
namespace {

using testing::Program;
using testing::wait_until;

TEST(Proc, ReadsNamesWithSpacesAndParentheses) {
  auto const process = parse_stat(
      "77 (a) R (b c) S 1 77 70 0 -1 4194560 9 0 0 0 1 2 0 0 20 0 1 0 4242 1000 5 "
      "18446744073709551615");
  ASSERT_TRUE(process);
  EXPECT_EQ(process->pid, 77);
  EXPECT_EQ(process->comm, "a) R (b c");
  EXPECT_EQ(process->state, 'S');
  EXPECT_EQ(process->parent, 1);
  EXPECT_EQ(process->group, 77);
  EXPECT_EQ(process->session, 70);
  EXPECT_EQ(process->start_ticks, 4242U);
  EXPECT_EQ(process->rss_bytes, 5U * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
}

TEST(Proc, RefusesLinesThatAreNoProcess) {
  for (char const* line : {"", "1", "1 (", "1 )a(", "(x) S", "1 (x) S 1 1", "x (x) S 1 1 1",
                           "1 (x) SS 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 1 1 1"})
    EXPECT_EQ(parse_stat(line), std::nullopt) << line;
}

TEST(Proc, SurvivesRandomBytes) {
  std::mt19937 random(20261121);
  std::string const letters = "0123456789() \n-SRxZ";
  for (int i = 0; i < 20'000; ++i) {
    std::string line(random() % 200, '\0');
    for (char& c : line) c = letters[random() % letters.size()];
    [[maybe_unused]] auto const process = parse_stat(line);
  }
}

TEST(Proc, KnowsThisProcess) {
  auto const us = read_process(::getpid());
  ASSERT_TRUE(us);
  EXPECT_EQ(us->parent, ::getppid());
  EXPECT_EQ(us->session, ::getsid(0));
  EXPECT_FALSE(us->ended());
  EXPECT_GT(read_rss_bytes(::getpid()), 0U);
  EXPECT_GT(read_start_ticks(::getpid()).value(), 0U);
  auto const all = read_all_processes().value();
  EXPECT_TRUE(std::ranges::any_of(all, [](auto const& one) { return one.pid == ::getpid(); }));
}

TEST(Proc, HasNothingToSayOfAProcessThatIsGone) {
  auto child = spawn({.argv = {"/bin/true"}});
  ASSERT_TRUE(child);
  ASSERT_TRUE(wait_until([&] { return read_process(child->pid())->ended(); }));
  ASSERT_TRUE(child->try_reap().value());
  EXPECT_EQ(read_process(child->pid()), std::nullopt);
  EXPECT_EQ(read_parent(child->pid()), std::nullopt);
  EXPECT_EQ(read_comm(child->pid()), "");
  EXPECT_EQ(read_rss_bytes(child->pid()), 0U);
  EXPECT_TRUE(list_fds(child->pid()).empty());
  EXPECT_FALSE(has_environment(child->pid(), "A=1"));
  EXPECT_EQ(read_disposition(child->pid(), SIGHUP), std::nullopt);
}

TEST(Proc, FindsAnEntryOfTheEnvironmentExactly) {
  SpawnSpec spec = testing::shell("echo ready; read line");
  spec.environment.emplace_back("MARK=12");
  Program program(std::move(spec));
  ASSERT_EQ(program.read_line(), "ready");
  EXPECT_TRUE(has_environment(program.pid(), "MARK=12"));
  for (char const* other : {"MARK=1", "MARK=123", "MARK", "ARK=12", ""})
    EXPECT_FALSE(has_environment(program.pid(), other)) << other;
}

TEST(Proc, TellsWhatAProgramWouldDoWithASignal) {
  Program program(testing::shell("trap '' USR1; trap 'true' HUP; echo ready; read line"));
  ASSERT_EQ(program.read_line(), "ready");
  EXPECT_EQ(read_disposition(program.pid(), SIGHUP), Disposition::Handled);
  EXPECT_EQ(read_disposition(program.pid(), SIGUSR1), Disposition::Ignored);
  EXPECT_EQ(read_disposition(program.pid(), SIGUSR2), Disposition::Default);
  EXPECT_EQ(read_disposition(program.pid(), 0), std::nullopt);
  EXPECT_EQ(read_disposition(program.pid(), 65), std::nullopt);
}

TEST(File, IsReadWholeOrNotAtAll) {
  auto const folder = TempDir::create();
  std::string const path = folder->file("content");
  std::string const content(50'000, 'x');
  ASSERT_TRUE(write_file_atomically(path, content, 0640));
  EXPECT_EQ(read_file(path, 50'000).value(), content);
  EXPECT_EQ(read_file(path, 49'999).error().code(), ErrorCode::LimitReached);
  EXPECT_EQ(read_file(folder->file("none"), 10).error().errno_value(), ENOENT);
  EXPECT_EQ(read_file(folder->path(), 10).error().errno_value(), EISDIR);
}

TEST(File, IsReplacedAtomicallyAndLeavesNothingBesideIt) {
  auto const folder = TempDir::create();
  std::string const path = folder->file("pid");
  ASSERT_TRUE(write_file_atomically(path, "1\n"));
  ASSERT_TRUE(write_file_atomically(path, "2\n", 0600));
  EXPECT_EQ(read_file(path, 10).value(), "2\n");
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600U);
  EXPECT_FALSE(write_file_atomically(folder->file("no/folder"), "x"));
  EXPECT_FALSE(write_file_atomically(folder->path(), "x")) << "a folder cannot be replaced";
  EXPECT_EQ(testing::run({.argv = {"/bin/ls", "-A", folder->path()}}).text, "pid\n");
}

TEST(TempDir, GoesAwayWithAllItContains) {
  std::string path;
  {
    auto folder = TempDir::create("aether-test");
    ASSERT_TRUE(folder);
    path = folder->path();
    struct stat status{};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0700U);
    ASSERT_EQ(::mkdir(folder->file("deep").c_str(), 0700), 0);
    ASSERT_TRUE(write_file_atomically(folder->file("deep/file"), "x"));
    TempDir const moved = std::move(*folder);
    EXPECT_EQ(moved.path(), path);
  }
  struct stat status{};
  EXPECT_NE(::stat(path.c_str(), &status), 0);
  EXPECT_FALSE(TempDir::create("aether-test", "/nowhere"));
}

}  // namespace
}  // namespace aether::os
