// SPDX-License-Identifier: Apache-2.0
#include "explorer.h"

#include <deque>
#include <tuple>
#include <unordered_map>
#include <vector>

#include <fmt/format.h>

namespace aether::model {
namespace {

/// Two hashes of a key: with some millions of states, one of 64 bits would nearly do.
struct Digest {
  std::uint64_t one = 0xcbf29ce484222325;
  std::uint64_t two = 0x9e3779b97f4a7c15;
  bool operator==(Digest const&) const = default;
};
struct DigestHash {
  std::size_t operator()(Digest const& digest) const { return digest.one; }
};

Digest digest(std::string const& key) {
  Digest made;
  for (char const byte : key) {
    made.one = (made.one ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
    made.two = (made.two + static_cast<unsigned char>(byte) + 1) * 0xff51afd7ed558ccd;
    made.two ^= made.two >> 29;
  }
  made.one ^= made.one >> 32;
  return made;
}

Broken const kNeverEnds{"everything ends by itself, even if nobody answers"};

/// How a state was reached first.
struct Step {
  std::uint32_t from;
  Move by;
};

class Explorer {
 public:
  Explorer(Setup const& setup, std::size_t states_max) : setup_(setup), states_max_(states_max) {}

  Findings run() {
    std::ignore = add(HandoffWorld(&setup_), {0, {}});
    for (std::uint32_t at = 0; !frontier_.empty() && !findings_.counterexample; ++at) {
      if (steps_.size() >= states_max_) {
        findings_.complete = false;
        break;
      }
      HandoffWorld const world = std::move(frontier_.front());
      frontier_.pop_front();
      expand(world, at);
    }
    findings_.states = steps_.size();
    if (findings_.complete && !findings_.counterexample) everything_ends();
    return findings_;
  }

 private:
  void expand(HandoffWorld const& world, std::uint32_t at) {
    std::optional<std::uint32_t> in_silence;
    if (world.at_rest()) ++findings_.at_rest;
    for (Move const move : world.moves()) {
      ++findings_.moves;
      HandoffWorld after = world;
      try {
        after.make(move);
      } catch (Broken const& broken) {
        findings_.counterexample = story(at, move, broken);
        return;
      }
      std::uint32_t const to = add(std::move(after), {at, move});
      if (!in_silence && HandoffWorld::by_itself(move)) in_silence = to;
    }
    if (!in_silence && !world.over()) {
      findings_.counterexample = story(at, std::nullopt, kNeverEnds);
    }
    in_silence_.push_back(in_silence.value_or(at));
  }

  /// From every state, if nobody ever answers again, Aether's own limits lead to an end.
  void everything_ends() {
    enum Mark : std::uint8_t { Unknown, OnPath, Ends };
    std::vector<std::uint8_t> marks(in_silence_.size(), Unknown);
    for (std::uint32_t from = 0; from < in_silence_.size(); ++from) {
      std::uint32_t at = from;
      for (; marks.at(at) == Unknown && in_silence_.at(at) != at; at = in_silence_.at(at)) {
        marks.at(at) = OnPath;
      }
      if (marks.at(at) == OnPath) {
        findings_.counterexample = story(at, std::nullopt, kNeverEnds);
        return;
      }
      marks.at(at) = Ends;
      for (at = from; marks.at(at) == OnPath; at = in_silence_.at(at)) marks.at(at) = Ends;
    }
  }

  std::uint32_t add(HandoffWorld world, Step step) {
    auto const number = static_cast<std::uint32_t>(steps_.size());
    auto const [known, is_new] = seen_.try_emplace(digest(world.key()), number);
    if (!is_new) return known->second;
    steps_.push_back(step);
    frontier_.push_back(std::move(world));
    return number;
  }

  [[nodiscard]] std::string story(std::uint32_t at, std::optional<Move> last,
                                  Broken const& broken) const {
    std::vector<Move> path;
    if (last) path.push_back(*last);
    for (; at != 0; at = steps_.at(at).from) path.push_back(steps_.at(at).by);
    std::string text = fmt::format("broken: {}\n", broken.promise);
    HandoffWorld world(&setup_);
    for (std::size_t i = path.size(); i-- > 0;) {
      text += fmt::format("  {}\n", world.describe(path.at(i)));
      try {
        world.make(path.at(i));
      } catch (Broken const&) {
        text += "  ^ here\n";
      }
      text += fmt::format("      [{}]\n", world.describe());
    }
    return text;
  }

  Setup setup_;
  std::size_t states_max_;
  std::deque<HandoffWorld> frontier_;
  std::vector<Step> steps_;
  std::unordered_map<Digest, std::uint32_t, DigestHash> seen_;
  std::vector<std::uint32_t> in_silence_;  ///< Where time alone leads; itself: nowhere.
  Findings findings_;
};

}  // namespace

Findings explore(Setup const& setup, std::size_t states_max) {
  return Explorer(setup, states_max).run();
}

}  // namespace aether::model
