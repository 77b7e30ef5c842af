// SPDX-License-Identifier: Apache-2.0
// For the tests of the pool machine: it, with a clock, and its actions as text.
#pragma once
#include <cstdint>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "functions/pool_machine.h"

namespace aether::functions::testing {

inline std::string text_of(PoolAction const& action) {
  return std::visit(
      [](auto const& a) -> std::string {
        using Action = std::remove_cvref_t<decltype(a)>;
        if constexpr (std::is_same_v<Action, pool::Start>)
          return fmt::format("{} {} of r{}", a.making == Making::Copy ? "copy" : "spawn",
                             a.instance, a.revision);
        else if constexpr (std::is_same_v<Action, pool::Freeze>)
          return fmt::format("freeze {}", a.instance);
        else if constexpr (std::is_same_v<Action, pool::Thaw>)
          return fmt::format("thaw {}", a.instance);
        else if constexpr (std::is_same_v<Action, pool::Offer>)
          return fmt::format("offer {} {}", a.instance, tier_name(a.tier));
        else if constexpr (std::is_same_v<Action, pool::Withdraw>)
          return fmt::format("withdraw {}", a.instance);
        else if constexpr (std::is_same_v<Action, pool::End>)
          return fmt::format("end {}{}{}", a.instance, a.why.empty() ? "" : ": ", a.why);
        else if constexpr (std::is_same_v<Action, pool::FailWaiting>)
          return fmt::format("refuse: {}", a.why);
        else
          return fmt::format("drop r{}", a.revision);
      },
      action);
}

using Texts = std::vector<std::string>;

class PoolRig {
 public:
  static constexpr RevisionId kFirst{1};
  static constexpr RevisionId kSecond{2};

  Texts tell(PoolInput const& input) {
    Texts texts;
    for (PoolAction const& action : machine.step(input, now, [this] { return InstanceId{++ids}; }))
      texts.push_back(text_of(action));
    return texts;
  }
  Texts deploy(PoolPolicy const& policy, RevisionId revision = kFirst) {
    return tell(pool::Deployed{.revision = revision, .policy = policy});
  }
  Texts want(std::uint32_t waiting) { return tell(pool::Wanted{waiting}); }
  Texts started(std::uint64_t id) { return tell(pool::Started{InstanceId{id}}); }
  Texts failed(std::uint64_t id, std::string why = "no memory") {
    return tell(pool::StartFailed{.instance = InstanceId{id}, .why = std::move(why)});
  }
  Texts frozen(std::uint64_t id) { return tell(pool::Frozen{InstanceId{id}}); }
  Texts thawed(std::uint64_t id) { return tell(pool::Thawed{InstanceId{id}}); }
  Texts busy(std::uint64_t id, std::uint32_t in_flight = 1) {
    return tell(pool::Busy{.instance = InstanceId{id}, .in_flight = in_flight});
  }
  Texts idle(std::uint64_t id) { return busy(id, 0); }
  Texts drained(std::uint64_t id) { return tell(pool::Drained{InstanceId{id}}); }
  Texts gone(std::uint64_t id) { return tell(pool::Gone{.instance = InstanceId{id}}); }
  /// The clock goes on; Tick is told whenever it is due.
  Texts wait(Duration time) {
    Texts all;
    Instant const until = now + time;
    while (machine.next_due() && *machine.next_due() <= until) {
      Instant const due = std::max(now, *machine.next_due());
      // Whatever is due now must be done by one tick, or the shell would spin.
      if (due == now) ++spins;
      now = due;
      for (std::string& text : tell(pool::Tick{})) all.push_back(std::move(text));
      if (spins > 100) return {"spins"};
    }
    now = until;
    return all;
  }
  [[nodiscard]] MemberState state(std::uint64_t id) const {
    return machine.members().at(InstanceId{id}).state;
  }
  /// Its parked members are ready: 1 to `parked`.
  void fill(PoolPolicy const& policy) {
    (void)deploy(policy);
    for (std::uint64_t id = 1; id <= policy.parked; ++id) {
      (void)started(id);
      (void)frozen(id);
    }
  }

  PoolMachine machine;
  Instant now{std::chrono::seconds(1)};
  std::uint64_t ids = 0;
  int spins = 0;
};

}  // namespace aether::functions::testing
