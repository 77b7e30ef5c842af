// SPDX-License-Identifier: Apache-2.0
#include "jobs/policy.h"

#include <array>
#include <span>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace aether::jobs {
namespace {

/// What an enumeration is called in a message, and its words in the order of its enumerators.
template <class E>
struct WordsOf;
template <>
struct WordsOf<RunOutcome> {
  static constexpr std::string_view kWhat = "an outcome of a run";
  static constexpr std::array<std::string_view, 4> kWords = {"succeeded", "failed", "cancelled",
                                                             "compensated"};
};
template <>
struct WordsOf<StepKind> {
  static constexpr std::string_view kWhat = "a kind of step";
  static constexpr std::array<std::string_view, 11> kWords = {
      "tool",  "model",    "wait", "approval", "condition",   "workflow",
      "agent", "function", "plan", "value",    "compensation"};
};
template <>
struct WordsOf<StepOutcome> {
  static constexpr std::string_view kWhat = "an outcome of a step";
  static constexpr std::array<std::string_view, 5> kWords = {"pure", "committed", "retryable",
                                                             "failed", "compensated"};
};
template <>
struct WordsOf<SettledBy> {
  static constexpr std::string_view kWhat = "a source of an outcome";
  static constexpr std::array<std::string_view, 5> kWords = {"tool", "lookup", "late", "person",
                                                             "recovery"};
};
template <>
struct WordsOf<WaitKind> {
  static constexpr std::string_view kWhat = "a kind of wait";
  static constexpr std::array<std::string_view, 4> kWords = {"timer", "signal", "human", "child"};
};
template <>
struct WordsOf<WaitEnd> {
  static constexpr std::string_view kWhat = "an end of a wait";
  static constexpr std::array<std::string_view, 5> kWords = {"answered", "approved", "rejected",
                                                             "timed_out", "cancelled"};
};
template <>
struct WordsOf<Control> {
  static constexpr std::string_view kWhat = "a control";
  static constexpr std::array<std::string_view, 6> kWords = {"lease",  "pause", "resume",
                                                             "cancel", "fork",  "stuck"};
};
template <>
struct WordsOf<RunStatus> {
  static constexpr std::string_view kWhat = "a status of a run";
  static constexpr std::array<std::string_view, 9> kWords = {"pending",   "running", "parked",
                                                             "retrying",  "stuck",   "paused",
                                                             "completed", "failed",  "cancelled"};
};

template <class E>
std::string_view word_of(E value) {
  return WordsOf<E>::kWords.at(static_cast<std::size_t>(value));
}

}  // namespace

std::string_view text_of(RunOutcome value) {
  return word_of(value);
}
std::string_view text_of(StepKind value) {
  return word_of(value);
}
std::string_view text_of(StepOutcome value) {
  return word_of(value);
}
std::string_view text_of(SettledBy value) {
  return word_of(value);
}
std::string_view text_of(WaitKind value) {
  return word_of(value);
}
std::string_view text_of(WaitEnd value) {
  return word_of(value);
}
std::string_view text_of(Control value) {
  return word_of(value);
}
std::string_view text_of(RunStatus value) {
  return word_of(value);
}

template <class E>
Result<E> parse_word(std::string_view text) {
  constexpr auto const& kWords = WordsOf<E>::kWords;
  for (std::size_t at = 0; at < kWords.size(); ++at) {
    if (kWords[at] == text) return static_cast<E>(at);
  }
  return fail(ErrorCode::RequestInvalid,
              fmt::format("'{}' is not {}: write one of {}", text.substr(0, 64), WordsOf<E>::kWhat,
                          fmt::join(kWords, ", ")));
}

template Result<RunOutcome> parse_word(std::string_view text);
template Result<StepKind> parse_word(std::string_view text);
template Result<StepOutcome> parse_word(std::string_view text);
template Result<SettledBy> parse_word(std::string_view text);
template Result<WaitKind> parse_word(std::string_view text);
template Result<WaitEnd> parse_word(std::string_view text);
template Result<Control> parse_word(std::string_view text);
template Result<RunStatus> parse_word(std::string_view text);

}  // namespace aether::jobs
