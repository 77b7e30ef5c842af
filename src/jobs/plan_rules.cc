// SPDX-License-Identifier: Apache-2.0
#include "jobs/plan_rules.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/time.h"
#include "jobs/expand.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;

constexpr std::size_t kClauseBytesMax = 4096;

std::string in_lower_case(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

std::string_view stripped(std::string_view text) {
  constexpr std::string_view around = " \t\r\n,;.";
  auto const begin = text.find_first_not_of(around);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(around) - begin + 1);
}

/// Where the next clause begins, and how long what lies between is.
std::pair<std::size_t, std::size_t> next_cut(std::string_view lower, std::size_t from) {
  constexpr std::array<std::string_view, 4> cuts{"\n", ";", " then ", ". then "};
  std::size_t best = std::string_view::npos;
  std::size_t length = 0;
  for (std::string_view const cut : cuts) {
    auto const at = lower.find(cut, from);
    if (at < best) {
      best = at;
      length = cut.size();
    }
  }
  return {best, length};
}

std::vector<std::string> clauses_of(std::string_view goal) {
  std::vector<std::string> clauses;
  std::string const lower = in_lower_case(goal);
  std::size_t from = 0;
  while (from < goal.size()) {
    auto [cut, length] = next_cut(lower, from);
    if (clauses.size() + 1 >= kPlanClausesMax) cut = std::string_view::npos;
    auto clause = stripped(goal.substr(from, cut == std::string_view::npos ? cut : cut - from));
    // "and" before a cut-off "then" belongs to neither side.
    if (in_lower_case(clause).ends_with(" and"))
      clause = stripped(clause.substr(0, clause.size() - 4));
    if (!clause.empty()) clauses.emplace_back(clause.substr(0, kClauseBytesMax));
    if (cut == std::string_view::npos) break;
    from = cut + length;
  }
  return clauses;
}

std::vector<std::string> words_of(std::string_view clause) {
  std::vector<std::string> words;
  std::string word;
  for (char const c : clause) {
    bool const space = c == ' ' || c == '\t' || c == ',';
    if (!space) word += c;
    if (space && !word.empty()) words.push_back(std::exchange(word, {}));
  }
  if (!word.empty()) words.push_back(word);
  return words;
}

/// One clause, as text and as words, in lower case as well.
struct Clause {
  std::string text;
  std::vector<std::string> words, lower;
  [[nodiscard]] bool has(std::initializer_list<std::string_view> any) const {
    return std::ranges::any_of(
        lower, [&](std::string const& word) { return std::ranges::find(any, word) != any.end(); });
  }
  [[nodiscard]] std::optional<std::string> word_after(std::string_view word) const {
    auto const found = std::ranges::find(lower, word);
    if (found == lower.end() || found + 1 == lower.end()) return std::nullopt;
    return words[static_cast<std::size_t>(found - lower.begin()) + 1];
  }
};

std::optional<json::object> http_node(Clause const& clause) {
  auto const is_url = [](std::string const& word) {
    return word.starts_with("http://") || word.starts_with("https://");
  };
  auto const found = std::ranges::find_if(clause.lower, is_url);
  if (found == clause.lower.end()) return std::nullopt;
  std::string method = "GET";
  for (std::string_view const verb : {"post", "put", "delete", "patch"}) {
    if (!clause.has({verb})) continue;
    method = verb;
    for (char& c : method) c = static_cast<char>(c - 'a' + 'A');
    break;
  }
  std::string const& url = clause.words[static_cast<std::size_t>(found - clause.lower.begin())];
  return json::object{{"type", "tool"},
                      {"tool", "http"},
                      {"policy", method == "GET" ? "read" : "once"},
                      {"with", json::object{{"method", method}, {"url", as_literal(url)}}}};
}

/// "10s", or a number and a unit in words.
std::optional<std::string> duration_in(Clause const& clause) {
  for (std::size_t i = 0; i < clause.lower.size(); ++i) {
    std::string const& word = clause.lower[i];
    if (word.empty() || word[0] < '0' || word[0] > '9') continue;
    if (parse_duration(word) && word != "0") return word;
    if (i + 1 == clause.lower.size()) continue;
    std::string const& unit = clause.lower[i + 1];
    for (std::string_view const known : {"second", "minute", "hour", "day"}) {
      std::string const together = word + known[0];
      if (unit.starts_with(known) && parse_duration(together)) return together;
    }
  }
  return std::nullopt;
}

std::optional<json::object> wait_node(Clause const& clause) {
  if (!clause.has({"wait", "sleep", "pause"})) return std::nullopt;
  if (auto const name = clause.word_after("signal"))
    return json::object{{"type", "wait"}, {"with", json::object{{"signal", as_literal(*name)}}}};
  if (auto const duration = duration_in(clause))
    return json::object{{"type", "wait"}, {"with", json::object{{"for", *duration}}}};
  return std::nullopt;
}

std::optional<json::object> approval_node(Clause const& clause) {
  bool const asks = clause.has({"approve", "approval", "approves", "confirm", "confirmation"});
  if (!asks) return std::nullopt;
  return json::object{{"type", "approval"},
                      {"with", json::object{{"title", as_literal(clause.text)}}}};
}

std::optional<json::object> function_node(Clause const& clause) {
  auto const name = clause.word_after("function");
  if (!name || !clause.has({"call", "run", "invoke"})) return std::nullopt;
  return json::object{{"type", "function"},
                      {"with", json::object{{"function", as_literal(*name)}}}};
}

json::object llm_node(Clause const& clause, std::string_view before, std::string_view model) {
  std::string prompt = as_literal(clause.text);
  if (!before.empty()) prompt += fmt::format("\n\n${{{}}}", before);
  json::object with{{"prompt", prompt}};
  if (!model.empty()) with["model"] = model;
  return json::object{{"type", "llm"}, {"with", std::move(with)}};
}

json::object node_of(Clause const& clause, std::string_view before, std::string_view model) {
  if (auto node = http_node(clause)) return std::move(*node);
  if (auto node = wait_node(clause)) return std::move(*node);
  if (auto node = approval_node(clause)) return std::move(*node);
  if (auto node = function_node(clause)) return std::move(*node);
  return llm_node(clause, before, model);
}

}  // namespace

json::value plan_by_rules(std::string_view goal, std::string_view model) {
  json::array nodes;
  std::string before;
  auto texts = clauses_of(goal);
  if (texts.empty()) texts.emplace_back("Say that there is nothing to do.");
  for (std::string const& text : texts) {
    Clause clause{text, words_of(text), words_of(in_lower_case(text))};
    std::string const id = fmt::format("step{}", nodes.size() + 1);
    json::object node = node_of(clause, before, model);
    node["id"] = id;
    node["description"] = text;
    if (!before.empty()) node["after"] = json::array{json::string(before)};
    nodes.push_back(std::move(node));
    before = id;
  }
  return json::object{{"nodes", std::move(nodes)}};
}

}  // namespace aether::jobs
