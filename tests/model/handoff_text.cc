// SPDX-License-Identifier: Apache-2.0
// A world and its moves in words, for the story of a broken promise.
#include <fmt/format.h>

#include "handoff_world.h"

namespace aether::model {

using namespace relay;

namespace {

constexpr std::array kGates{"starting", "loading", "open", "quiesced", "released", "failed"};
constexpr std::array kExchanges{"-", "export", "reclaim", "deliver", "resume-state", "resume"};
constexpr std::array kMessages{
    "LOAD",         "EXPORT", "state",           "no-memory",  "ACK-state", "ERROR-state",
    "ERROR-export", "RESUME", "RESUME-attached", "ACK-resume", "RELEASE",   "garbage"};
constexpr std::array kMoves{"a client connects",
                            "a client sends on its connection to",
                            "accepts",
                            "reload",
                            "reload --force",
                            "rollback",
                            "the judge condemns the new one",
                            "preflight passes",
                            "preflight fails",
                            "asks for its memory",
                            "becomes ready",
                            "goes on without asking for memory",
                            "takes",
                            "takes, and answers badly,",
                            "notices that Aether closed the connection",
                            "ends as asked",
                            "connects again",
                            "dies",
                            "cuts its connection",
                            "Aether reads",
                            "Aether reads the end of the connection of",
                            "Aether sees the exit of",
                            "the queue is empty of",
                            "Aether retires the lane of",
                            "a limit of an exchange passes with",
                            "the swap's deadline passes",
                            "the deadline passes of the retiring"};

std::string text(Channel const& channel) {
  std::string found;
  for (std::size_t i = 0; i < channel.size; ++i) {
    Message const& message = channel.queue.at(i);
    found += fmt::format(" {}", kMessages.at(static_cast<std::size_t>(message.kind)));
    if (message.kind == Message::Kind::State) found += fmt::format("{:02b}", message.memory);
    if (message.damaged) found += "!";
  }
  return found;
}

}  // namespace

std::string HandoffWorld::describe(Move move) const {
  std::string what = kMoves.at(static_cast<std::size_t>(move.kind));
  if (move.revision == 0) return what;
  Process const& p = process(move.revision);
  using enum Move::Kind;
  bool const takes = move.kind == TakesMessage || move.kind == TakesMessageBadly;
  if (takes) what += fmt::format(" (way {}) [{} ]", move.way, text(p.in));
  if (move.kind == AetherReads) what += fmt::format(" [{} ] from", text(p.out));
  bool const aether = move.kind >= AetherReads || move.kind == ClientSendsOn;
  return aether ? fmt::format("{} {}", what, move.revision)
                : fmt::format("{} {}", move.revision, what);
}

std::string HandoffWorld::describe() const {
  std::string all = fmt::format("{}, steered {}, serving {}", phase(), steered_, serving_);
  if (restart_) all += ", restart";
  for (std::uint8_t revision = 1; revision <= revisions_; ++revision) {
    Process const& p = process(revision);
    Session const& s = session(revision);
    constexpr std::array kLives{"none", "runs", "dying", "gone"};
    all += fmt::format(
        " | {} {} {} memory {:02b}{}{} in[{}] out[{}] {} lane {:02b}", revision,
        kLives.at(static_cast<std::size_t>(p.life)), kGates.at(static_cast<std::size_t>(p.gate)),
        p.memory, p.owns ? "*" : "", p.late ? " late" : "", text(p.in), text(p.out),
        kExchanges.at(static_cast<std::size_t>(s.exchange)), lanes_.at(revision - 1U));
    auto const& retirement = retirements_.at(revision - 1U);
    if (retirement) all += fmt::format(" {}", stage_name(retirement->stage));
  }
  all += fmt::format(" | accepted {:02b} excused {:02b}", accepted_, excused_);
  if (memory_) all += fmt::format(" memory {:02b}", *memory_);
  if (reclaimed_) all += fmt::format(" reclaimed {:02b}", *reclaimed_);
  if (orphaned_) all += fmt::format(" orphaned {:02b}", *orphaned_);
  return all;
}

}  // namespace aether::model
