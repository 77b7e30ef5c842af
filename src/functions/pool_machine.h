// SPDX-License-Identifier: Apache-2.0
// PoolMachine: decides which instances of one function live, and which of them take requests. Pure:
// no clock, no I/O, no randomness, no logging. A shell performs the actions and reports what
// happened.
//
// The way of a member:
//
//   Starting -+-> Warm -> Draining -+-> Parking -> Parked -> Thawing -> Warm
//             +-> Parking           +-> Warm (wanted again)
//
// and from each of them to Ending, and out. What is wanted is computed anew after each input, from
// who waits, who is busy and what the policy says; so there is no order of inputs to remember.
//
// What the shell owes:
// - Each Start is answered by Started or StartFailed, each Freeze by Frozen, each Thaw by Thawed,
//   each Withdraw by Drained, and each End by Gone, also when nothing of the instance lives (any
//   more). Where clients connect to instances themselves, a Freeze or a Withdraw may be answered by
//   Occupied. A member that ends by itself is told by Gone alone. Silence is met with deadlines
//   (Tick).
// - Inputs about members that are not known (any more) may come, and change nothing.
// - step() is called with Tick at next_due().
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "functions/function_status.h"

namespace aether::functions {

/// How instances of a revision are made, chosen once it is known what it is.
enum class Making : std::uint8_t { Spawn, Copy };

struct PoolPolicy {
  std::uint32_t concurrency = 1;
  std::uint32_t min_instances = 0;   ///< Warm at any time.
  std::uint32_t max_instances = 10;  ///< Warm, and starting to be warm.
  std::uint32_t parked = 10;  ///< Made ahead and frozen, with the warm ones at most max_instances.
  Duration idle_timeout = std::chrono::seconds(60);
  Making making = Making::Spawn;
  Duration start_limit = std::chrono::seconds(60);  ///< restore_timeout_ms for copies.
  /// For an instance that is spawned because a copy failed.
  Duration spawn_limit = std::chrono::seconds(60);
  bool cold_when_copy_fails = false;
  /// Who waits is refused no sooner than when the next start has to wait; not told why, they would
  /// rather wait for it.
  bool refuses_late = false;
  Duration freeze_limit = std::chrono::seconds(5);  ///< Of a Freeze or a Thaw.
  /// For the requests of a withdrawn member to end; beyond it, they are cut off.
  Duration drain_limit = std::chrono::seconds(30);
  Duration retry_first = std::chrono::milliseconds(100);  ///< After a failure; then twice as long.
  Duration retry_most = std::chrono::seconds(30);
  /// So many failed starts in a row within the window are the last, until a deploy. 0: they go on.
  std::uint32_t crash_loop = 0;
  Duration crash_loop_window = std::chrono::seconds(60);
  bool operator==(PoolPolicy const&) const = default;
};

enum class MemberState : std::uint8_t {
  Starting,
  Parking,
  Parked,
  Thawing,
  Warm,
  Draining,
  Ending
};
/// "starting", "parking", ...
[[nodiscard]] std::string_view member_state_name(MemberState state);

struct Member {
  MemberState state = MemberState::Starting;
  RevisionId revision;
  StartTier tier = StartTier::Cold;  ///< How it was made.
  bool for_demand = false;           ///< Starting, Parking: to be warm next; else it is parked.
  bool served = false;               ///< It had a request, ever.
  bool fresh = false;  ///< Offered to who waits, and not heard of since: they are with it.
  std::uint32_t in_flight = 0;
  Instant since{};             ///< In this state.
  Instant idle_since{};        ///< Warm with nothing to do.
  Instant begun{};             ///< Its start, or its thaw.
  Instant asked{};             ///< When it was wanted to be warm.
  std::optional<Instant> due;  ///< When this state has lasted too long.
  bool operator==(Member const&) const = default;
};

namespace pool {
// ---- Inputs
/// No backend has room, and so many wait; 0: nobody any more.
struct Wanted {
  std::uint32_t waiting = 0;
};
/// Ready to take requests, or to be frozen.
struct Started {
  InstanceId instance;
};
struct StartFailed {
  InstanceId instance;
  std::string why;
};
struct Frozen {
  InstanceId instance;
};
struct Thawed {
  InstanceId instance;
};
/// It has requests, or has none any more, although it had: then nobody waits.
struct Busy {
  InstanceId instance;
  std::uint32_t in_flight = 0;
};
struct Drained {
  InstanceId instance;
};
/// It lives, and is of no use: it hangs, cannot be reached, froze badly. It is withdrawn and ended.
struct Broken {
  InstanceId instance;
  std::string why;
  bool unreachable = false;  ///< It said that it listens, and does not: it did not start well.
};
/// It was to be drained or frozen, and has requests that the gateway did not give to it: it goes on
/// taking them.
struct Occupied {
  InstanceId instance;
  std::uint32_t in_flight = 1;
};
/// Its processes have ended.
struct Gone {
  InstanceId instance;
  std::string why = {};  ///< How, when nobody asked for it.
};
/// It serves from now on; what it needs to make instances is ready. The same revision again: only
/// the policy is new. The one before it is kept, to go back to.
struct Deployed {
  RevisionId revision;
  PoolPolicy policy;
  /// An instance that is ready already: the one by which the revision proved that it starts.
  std::optional<InstanceId> first = {};
};
/// The autoscaler's wish. Counts while there is load; who idles for long goes all the same.
struct Scale {
  std::uint32_t instances = 0;
};
struct Tick {};
/// Idle members end at once, busy ones when they are drained; said again: all at once.
struct StopAsked {};

// ---- Actions: each is safe to perform twice.
struct Start {
  InstanceId instance;
  RevisionId revision;
  Making making = Making::Spawn;
  Duration limit{};  ///< Kept by the machine too: it answers silence with End.
};
struct Freeze {
  InstanceId instance;
};
struct Thaw {
  InstanceId instance;
};
/// To the gateway.
struct Offer {
  InstanceId instance;
  StartTier tier = StartTier::Warm;  ///< Warm: nobody waited for it.
  Duration took{};                   ///< Since it was wanted.
};
/// From the gateway; Drained follows.
struct Withdraw {
  InstanceId instance;
};
/// Frozen or not; withdrawn from the gateway if it was offered. Gone follows.
struct End {
  InstanceId instance;
  std::string why = {};  ///< Empty: it is not needed.
};
/// Nothing can be started: who waits is refused.
struct FailWaiting {
  std::string why;
};
/// Nothing of it lives, and nobody goes back to it: its template may go.
struct DropRevision {
  RevisionId revision;
};
}  // namespace pool

using PoolInput =
    std::variant<pool::Wanted, pool::Started, pool::StartFailed, pool::Frozen, pool::Thawed,
                 pool::Busy, pool::Drained, pool::Occupied, pool::Broken, pool::Gone,
                 pool::Deployed, pool::Scale, pool::Tick, pool::StopAsked>;
using PoolAction = std::variant<pool::Start, pool::Freeze, pool::Thaw, pool::Offer, pool::Withdraw,
                                pool::End, pool::FailWaiting, pool::DropRevision>;
using PoolActions = std::vector<PoolAction>;

/// What an input about a member means in each state of it.
enum class Meaning : std::uint8_t {
  Moves,   ///< The member moves on, or something of it is noted.
  Late,    ///< The machine went on meanwhile, or it was said twice: nothing happens.
  Illegal  ///< A shell that keeps its promises never says it; nothing happens.
};

/// The next number of an instance; each is given once.
using NextInstance = std::function<InstanceId()>;

/// Failures one after another, and until when nothing is tried because of them.
struct Streak {
  std::uint32_t count = 0;
  Instant first{};
  Instant last{};
  Instant until{};  ///< The end of time: they were the last ones.
  std::string why;  ///< The last one.
  bool operator==(Streak const&) const = default;
};

class PoolMachine {
 public:
  /// Made ahead at once, so that they do not starve who serves.
  static constexpr std::uint32_t kRefillsAtOnce = 2;
  /// So many failed starts in a row are tried again as soon as somebody asks; then one waits.
  static constexpr std::uint32_t kFreeFailures = 2;
  /// Warm for so long without an end of its own: its revision is able to start.
  static constexpr Duration kProven = std::chrono::seconds(1);

  /// Moves on by one input; what is to be done, in this order.
  [[nodiscard]] PoolActions step(PoolInput const& input, Instant now, NextInstance const& next);
  /// When Tick is wanted.
  [[nodiscard]] std::optional<Instant> next_due() const;

  [[nodiscard]] std::map<InstanceId, Member> const& members() const { return members_; }
  [[nodiscard]] std::uint32_t count(MemberState state) const;
  [[nodiscard]] RevisionId serving() const { return serving_; }
  /// The one to go back to; 0: none.
  [[nodiscard]] RevisionId previous() const { return previous_; }
  [[nodiscard]] PoolPolicy const& policy() const { return policy_; }
  /// As far as is known: the gateway tells when it grows.
  [[nodiscard]] std::uint32_t waiting() const { return waiting_; }
  /// Starts that failed one after another.
  [[nodiscard]] Streak const& failures() const { return failures_; }
  [[nodiscard]] bool stopping() const { return stop_ != Stop::No; }
  /// Was asked to stop, and nothing lives.
  [[nodiscard]] bool over() const { return stopping() && members_.empty(); }
  [[nodiscard]] static Meaning meaning(MemberState state, PoolInput const& input);
  bool operator==(PoolMachine const&) const = default;

 private:
  enum class Stop : std::uint8_t { No, Drain, AtOnce };
  class Step;
  /// The members of the serving revision, by what they are to the demand.
  struct Census {
    std::uint32_t warm = 0;
    std::uint32_t coming = 0;    ///< To be warm next.
    std::uint32_t parked = 0;    ///< Frozen.
    std::uint32_t parking = 0;   ///< To be frozen next.
    std::uint32_t making = 0;    ///< Starting, to be frozen.
    std::uint32_t draining = 0;  ///< Then frozen, or ended.
    [[nodiscard]] std::uint32_t ahead() const { return parked + parking + making + draining; }
    [[nodiscard]] std::uint32_t all() const { return warm + coming + ahead(); }
  };
  [[nodiscard]] Census census() const;
  /// Members that take requests, of whatever revision, and those that have some.
  [[nodiscard]] std::uint32_t warm_of_any() const;
  [[nodiscard]] std::uint32_t busy_of_any() const;
  /// How many are to be warm, whoever waits.
  [[nodiscard]] std::uint32_t floor() const;
  /// How many are to be warm.
  [[nodiscard]] std::uint32_t needed() const;
  /// That starts succeed again: one from before the last failure shows nothing.
  [[nodiscard]] bool would_prove(Member const& member) const;
  [[nodiscard]] bool may_idle_go(Census const& now) const;

  std::map<InstanceId, Member> members_;
  RevisionId serving_;
  RevisionId previous_;
  std::set<RevisionId> kept_;  ///< Known, and not dropped yet.
  PoolPolicy policy_;
  std::uint32_t waiting_ = 0;
  std::uint32_t wish_ = 0;
  /// Of the serving revision, until so many are warm: the load that older ones have. 0: met.
  std::uint32_t hold_ = 0;
  Streak failures_;               ///< Starts, and ends before anything was served: all starts wait.
  Streak deaths_;                 ///< Ends that nobody asked for: what is made ahead waits.
  std::optional<Instant> retry_;  ///< Something is wanted that must wait until then.
  Stop stop_ = Stop::No;
};

}  // namespace aether::functions
