// SPDX-License-Identifier: Apache-2.0
#include "relay/why_ended.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aether::relay {
namespace {

using supervise::event::Exited;
using ::testing::HasSubstr;
using ::testing::Not;

Exited failed(std::vector<std::string> lines) {
  Exited exited;
  exited.status = {.code = 1};
  exited.last_lines = std::move(lines);
  return exited;
}

TEST(WhyEnded, ShowsTheLastLinesOfAProgramThatFailed) {
  EXPECT_EQ(why_ended(failed({"Traceback", "KeyError: 'x'"}), {}),
            "exited with code 1\n  | Traceback\n  | KeyError: 'x'");
}

TEST(WhyEnded, ShowsThemAlsoAfterItWasReady) {
  Exited exited = failed({"KeyError: 'x'"});
  exited.was_ready = true;
  EXPECT_THAT(why_ended(exited, {}), HasSubstr("KeyError"));
}

TEST(WhyEnded, IsShortForAProgramThatServedAndEndedWell) {
  Exited exited;
  exited.was_ready = true;
  exited.last_lines = {"bye"};
  EXPECT_EQ(why_ended(exited, {}), "exited with code 0");
}

TEST(WhyEnded, KnowsAProgramThatBindsThePortThatAetherHolds) {
  auto const why = why_ended(failed({"OSError: [Errno 98] Address already in use"}),
                             {.listeners = EndSurroundings::Listeners::Held});
  EXPECT_THAT(why, HasSubstr("hint: it binds its port by itself, but Aether holds that port"));
  EXPECT_THAT(why, HasSubstr("{fd:NAME}"));
}

TEST(WhyEnded, KnowsAProgramThatBindsThePortOfTheRevisionBefore) {
  auto const why = why_ended(failed({"  code: 'EADDRINUSE',"}),
                             {.neighbour = EndSurroundings::Neighbour::OldRevision});
  EXPECT_THAT(why, HasSubstr("the old revision has that port still"));
  EXPECT_THAT(why, HasSubstr("mode: run"));
}

TEST(WhyEnded, NamesAStrangerWhoHasThePort) {
  auto const why = why_ended(failed({"bind: Address already in use"}), {});
  EXPECT_THAT(why, HasSubstr("another program has that port"));
}

TEST(WhyEnded, KnowsAnAgentInNodeThatImportsWhatIsOnlyOnNodePath) {
  auto const why = why_ended(failed({"Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'aetheris' "
                                     "imported from /srv/agent.mjs"}),
                             {});
  EXPECT_THAT(why, HasSubstr("hint: `import` does not look on NODE_PATH"));
}

TEST(WhyEnded, GivesNoHintWithoutASign) {
  EXPECT_THAT(why_ended(failed({"out of cheese"}), {}), Not(HasSubstr("hint")));
}

TEST(WhyEnded, KnowsAProgramThatWentToTheBackground) {
  Exited exited;
  exited.left_processes = true;
  EXPECT_THAT(why_ended(exited, {}), HasSubstr("hint: it went to the background"));
}

}  // namespace
}  // namespace aether::relay
