// SPDX-License-Identifier: Apache-2.0
#include "jobs/effect_rules.h"

#include <array>
#include <map>

#include <gtest/gtest.h>

namespace aether::jobs {
namespace {

using enum TurnKnown;
constexpr Policy kPolicies[] = {Policy::Once, Policy::Read, Policy::Keyed, Policy::Lookup};
constexpr TurnKnown kTurns[] = {None, InFlight, Lost, Ok, Error, ErrorToPass, NotExecuted, Unknown};

/// Written down by hand, one row for each turn: what a driver that asks for the call is answered.
/// Order of policies: once, read, keyed, lookup with a query, lookup without or asked in vain.
using Row = std::array<EffectMove, 5>;
constexpr EffectMove kCall = EffectMove::Call;
constexpr EffectMove kNo = EffectMove::RefuseToDriver;
constexpr EffectMove kPerson = EffectMove::AskPerson;
std::map<TurnKnown, Row> const kForDriver = {
    {None, {kCall, kCall, kCall, kCall, kCall}},
    {InFlight,
     {EffectMove::Wait, EffectMove::Wait, EffectMove::Wait, EffectMove::Wait, EffectMove::Wait}},
    {Lost,
     {EffectMove::SettleUnknown, EffectMove::SettleUnknown, EffectMove::SettleUnknown,
      EffectMove::SettleUnknown, EffectMove::SettleUnknown}},
    {Ok, {kNo, kNo, kNo, kNo, kNo}},
    {Error, {kNo, kNo, kNo, kNo, kNo}},
    {ErrorToPass, {kNo, kCall, kCall, kNo, kNo}},
    {NotExecuted, {kCall, kCall, kCall, kCall, kCall}},
    {Unknown, {kPerson, kCall, kCall, EffectMove::LookUp, kPerson}},
};

EffectMove move_in_column(TurnKnown turn, AskedBy by, int column) {
  if (column < 4) return next_move(kPolicies[column], turn, by, true, false);
  EXPECT_EQ(next_move(Policy::Lookup, turn, by, false, false),
            next_move(Policy::Lookup, turn, by, true, true));
  return next_move(Policy::Lookup, turn, by, false, false);
}

TEST(EffectRules, AnswerADriverAsTheTableSays) {
  ASSERT_EQ(kForDriver.size(), std::size_t{kTurnKnownCount});
  for (auto const& [turn, row] : kForDriver) {
    for (int column = 0; column < 5; ++column) {
      EXPECT_EQ(move_in_column(turn, AskedBy::Driver, column), row[column])
          << "turn " << static_cast<int>(turn) << ", column " << column;
    }
  }
}

TEST(EffectRules, GiveBackWhatIsKnownWhenAProcessBegins) {
  for (auto const& [turn, row] : kForDriver) {
    bool const is_open = turn == InFlight || turn == Lost || turn == Unknown;
    for (int column = 0; column < 5; ++column) {
      EXPECT_EQ(move_in_column(turn, AskedBy::Recovery, column),
                is_open ? row[column] : EffectMove::GiveBack);
    }
  }
}

TEST(EffectRules, NeverRepeatAOnceCallThatMayHaveHappened) {
  for (TurnKnown const turn : kTurns) {
    for (bool const can : {false, true}) {
      for (bool const looked : {false, true}) {
        for (AskedBy const by : {AskedBy::Driver, AskedBy::Recovery}) {
          bool const calls = next_move(Policy::Once, turn, by, can, looked) == EffectMove::Call;
          bool const safe = turn == None || turn == NotExecuted;
          EXPECT_TRUE(!calls || safe) << static_cast<int>(turn);
        }
      }
    }
  }
}

TEST(EffectRules, AllowARepeatExactlyWhereTheDriverIsAnsweredWithACall) {
  for (auto const& [turn, row] : kForDriver) {
    for (int column = 0; column < 4; ++column) {
      EXPECT_EQ(may_repeat(kPolicies[column], turn), row[column] == EffectMove::Call);
    }
  }
}

TEST(EffectRules, NameEachOutcome) {
  EXPECT_EQ(known_of(EffectOutcome::Ok, true), Ok);
  EXPECT_EQ(known_of(EffectOutcome::Error, false), Error);
  EXPECT_EQ(known_of(EffectOutcome::Error, true), ErrorToPass);
  EXPECT_EQ(known_of(EffectOutcome::NotExecuted, true), NotExecuted);
  EXPECT_EQ(known_of(EffectOutcome::Unknown, true), Unknown);
}

}  // namespace
}  // namespace aether::jobs
