// SPDX-License-Identifier: Apache-2.0
// For tests only: tells the swap machine a story, event by event, and reads its actions as words.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "relay/swap_machine.h"

namespace aether::relay {

using Words = std::vector<std::string>;

/// A service whose revision 1 serves; a swap leads to revision 2.
class SwapMachine : public testing::Test {
 protected:
  /// Tells the machine and returns its actions as words: "steer-to 2", "kill 2", "succeed".
  Words tell(SwapEvent const& event) {
    actions_ = step(state_, event, clock_.now(), policy_);
    Words words;
    for (SwapAction const& action : actions_) {
      auto const revision = revision_of(action);
      std::string word(action_name(action));
      auto const* retire = std::get_if<action::Retire>(&action);
      if (retire != nullptr && retire->farewell == Farewell::AtOnce) word += "-at-once";
      if (revision) word += fmt::format(" {}", *revision);
      if (auto const* resume = std::get_if<action::Resume>(&action)) {
        word += resume->with_reclaimed_memory ? " reclaimed" : " own";
      }
      if (auto const* split = std::get_if<action::Split>(&action))
        word += fmt::format(" {}%", split->percent);
      words.push_back(std::move(word));
    }
    return words;
  }
  /// Turns the clock to the deadline and ticks.
  Words too_late() {
    clock_.advance(*due(state_) - clock_.now());
    return tell(event::Tick{});
  }
  [[nodiscard]] std::string_view phase() const { return phase_name(state_); }
  [[nodiscard]] std::string why() const {
    for (SwapAction const& action : actions_) {
      if (auto const* fail = std::get_if<action::Fail>(&action)) return fail->why;
    }
    return {};
  }
  [[nodiscard]] RevisionId serving() const { return std::get<Idle>(state_).serving; }

  void launched(bool old_alive = true) {
    tell(event::ReloadRequested{RevisionId{2}, old_alive});
    tell(event::PreflightPassed{});
  }
  void exporting() {
    launched();
    tell(event::NextAskedMemory{});
    tell(event::QueueEmpty{});
  }
  void delivering() {
    exporting();
    tell(event::Exported{});
  }
  void soaking_with_memory() {
    delivering();
    tell(event::Delivered{});
    tell(event::NextReady{});
  }
  void soaking() {
    launched();
    tell(event::NextReady{});
  }

  SwapPolicy policy_;
  SwapState state_ = Idle{RevisionId{1}};
  SwapActions actions_;
  ManualClock clock_;
};

}  // namespace aether::relay
