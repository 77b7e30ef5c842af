// SPDX-License-Identifier: Apache-2.0
#include "os/oom_score.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "os/file.h"
#include "os/process.h"
#include "os/testing.h"

namespace aether::os {
namespace {

int score_of(std::string const& process) {
  return std::stoi(or_throw(read_file(fmt::format("/proc/{}/oom_score_adj", process), 16)));
}

/// What the check gives in a process of its own: the score stays lowered.
template <class Check>
int answer_of_a_process(Check check) {
  pid_t const child = ::fork();
  if (child == 0) ::_exit(check());
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void set_own_score(int score) {
  std::ofstream("/proc/self/oom_score_adj") << score;
}

// Edge: F12
TEST(OomScore, OfThisProcessIsLowerThanThatOfItsChildren) {
  // What a process was given is read once, and other tests may have done so in this one.
  if (std::getenv("AETHER_TEST_FRESH") == nullptr) {
    auto environment = testing::plain_environment();
    environment.emplace_back("AETHER_TEST_FRESH=1");
    auto const fresh =
        testing::run({.argv = {"/proc/self/exe",
                               "--gtest_filter=OomScore.OfThisProcessIsLowerThanThatOfItsChildren"},
                      .environment = environment});
    EXPECT_TRUE(fresh.status.success()) << fresh.text;
    return;
  }
  int const result = answer_of_a_process([] {
    set_own_score(500);  // Needs no right, and may be taken back without one.
    if (!protect_from_oom() || score_of("self") >= 500) return 1;
    auto child = spawn({.argv = {"/bin/sleep", "600"}});
    if (!child) return 2;
    bool const as_given = score_of(std::to_string(child->pid())) == 500;
    (void)child->signal(9);
    if (!as_given) return 3;
    return score_of("self") < 500 ? 0 : 4;
  });
  EXPECT_EQ(result, 0);
}

TEST(OomScore, OfAProcessThatWasNotProtectedIsLeftAlone) {
  int const before = score_of("self");
  {
    GivenOomScore const given;
  }
  EXPECT_EQ(score_of("self"), before);
}

}  // namespace
}  // namespace aether::os
