// SPDX-License-Identifier: Apache-2.0
#include "api/job_request.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "config/suggest.h"
#include "jobs/graph.h"
#include "jobs/json_form.h"

namespace aether::api {
namespace {

namespace json = boost::json;

constexpr std::size_t kKeyBytesMax = 128;
constexpr std::size_t kSpaceBytesMax = 64;
constexpr std::size_t kNameBytesMax = 128;

Failure wrong(std::string message) {
  return fail(ErrorCode::RequestInvalid, std::move(message));
}

Status check_members(json::object const& object, std::string_view what,
                     std::span<std::string_view const> known) {
  for (auto const& member : object) {
    std::string_view const key = member.key();
    if (std::ranges::find(known, key) != known.end()) continue;
    return wrong(fmt::format("{}: unknown member \"{}\"{}", what, key.substr(0, 80),
                             config::did_you_mean(key, {known.begin(), known.end()})));
  }
  return {};
}

/// Absent and null are the same.
json::value const* member_of(json::object const& object, std::string_view key) {
  json::value const* const value = object.if_contains(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

Status read_text(json::object const& object, std::string_view key, std::size_t bytes_max,
                 std::string& text) {
  json::value const* const value = member_of(object, key);
  if (value == nullptr) return {};
  if (!value->is_string() || value->as_string().empty() || value->as_string().size() > bytes_max)
    return wrong(fmt::format("{} is not a text of 1 to {} bytes", key, bytes_max));
  text = value->as_string();
  return {};
}

/// Part of names in the journal.
Status read_word(json::object const& object, std::string_view key, std::string& word) {
  TRY(read_text(object, key, kSpaceBytesMax, word));
  bool const good = std::ranges::all_of(word, [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
  if (good) return {};
  return wrong(fmt::format("{} \"{}\" is not a name: 1 to {} of A-Z a-z 0-9 - _ .", key, word,
                           kSpaceBytesMax));
}

Result<std::optional<std::int64_t>> integer_of(json::object const& object, std::string_view key,
                                               std::int64_t min, std::int64_t max) {
  json::value const* const value = member_of(object, key);
  if (value == nullptr) return std::nullopt;
  boost::system::error_code ec;
  auto const number = value->is_number() ? value->to_number<std::int64_t>(ec) : 0;
  if (value->is_number() && !ec && number >= min && number <= max) return number;
  return wrong(fmt::format("{} is not a whole number from {} to {}", key, min, max));
}

/// Text with a unit ("30s"), or a number of seconds.
Result<Duration> duration_of(json::value const& value, std::string_view key) {
  constexpr double kSecondsMax = 366.0 * 24 * 3600;
  if (value.is_number()) {
    auto const seconds = value.to_number<double>();
    if (seconds > 0 && seconds <= kSecondsMax)
      return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
  }
  if (value.is_string()) {
    auto const duration = parse_duration(value.as_string());
    if (duration && *duration > Duration::zero()) return *duration;
  }
  return wrong(fmt::format("{} is not a duration like \"30s\" or \"2h\"", key));
}

/// A time, or how long from now.
Result<std::optional<WallTime>> time_of(json::object const& object, std::string_view key,
                                        WallTime now) {
  json::value const* const value = member_of(object, key);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) {
    if (auto const time = parse_rfc3339(value->as_string())) return *time;
  }
  auto const after = duration_of(*value, key);
  if (!after)
    return wrong(
        fmt::format("{} is neither a time like \"2026-01-31T12:00:00Z\" nor a duration "
                    "like \"30s\"",
                    key));
  return std::chrono::time_point_cast<WallTime::duration>(now + *after);
}

Status read_budget(json::object const& body, jobs::Budget& budget) {
  json::value const* const value = member_of(body, "budget");
  if (value == nullptr) return {};
  if (!value->is_object()) return wrong("budget is not an object like {\"calls\": 10}");
  constexpr std::array<std::string_view, 5> kKnown{"steps", "calls", "tokens", "cost", "time"};
  json::object const& object = value->as_object();
  TRY(check_members(object, "budget", kKnown));
  constexpr std::int64_t kMost = std::int64_t{1} << 53U;
  auto const count = [&](std::string_view key, std::optional<std::uint64_t>& target) -> Status {
    TRY_ASSIGN(auto const number, integer_of(object, key, 0, kMost));
    if (number) target = static_cast<std::uint64_t>(*number);
    return {};
  };
  TRY(count("steps", budget.steps));
  TRY(count("calls", budget.calls));
  TRY(count("tokens", budget.tokens));
  if (json::value const* const cost = member_of(object, "cost")) {
    if (!cost->is_number() || cost->to_number<double>() < 0)
      return wrong("budget.cost is not a number of at least 0");
    budget.cost = cost->to_number<double>();
  }
  if (json::value const* const time = member_of(object, "time")) {
    TRY_ASSIGN(budget.time, duration_of(*time, "budget.time"));
  }
  return {};
}

Status read_work(json::object const& body, FindAgent const& find_agent, jobs::RunSpec& spec) {
  json::value const* const graph = member_of(body, "graph");
  json::value const* const agent = member_of(body, "agent");
  json::value const* const goal = member_of(body, "goal");
  int const given = int{graph != nullptr} + int{agent != nullptr} + int{goal != nullptr};
  if (given != 1) return wrong("a job has exactly one of graph, agent and goal");
  if (graph != nullptr) {
    if (!graph->is_object() && !graph->is_array())
      return wrong("graph is not an object like {\"nodes\": [...]}");
    // Kept as they are today, whatever the configuration says tomorrow.
    spec.graph = jobs::with_agents(*graph, [&](std::string_view name) {
      auto declared = find_agent(name);
      return declared ? *declared : json::value();
    });
  }
  if (goal != nullptr) {
    if (!goal->is_string() || goal->as_string().empty()) return wrong("goal is not a text");
    spec.goal = goal->as_string();
  }
  if (agent == nullptr) return {};
  if (!agent->is_string()) return wrong("agent is not the name of one of agents:");
  spec.name = agent->as_string();
  TRY_ASSIGN(spec.agent, find_agent(spec.name));
  return {};
}

std::optional<int> digits(std::string_view text, std::size_t at, std::size_t count) {
  if (at + count > text.size()) return std::nullopt;
  int number = 0;
  for (char const c : text.substr(at, count)) {
    if (c < '0' || c > '9') return std::nullopt;
    number = number * 10 + (c - '0');
  }
  return number;
}

}  // namespace

Result<jobs::Submission> read_submission(json::value const& body, FindAgent const& find_agent,
                                         WallTime now) {
  constexpr std::array<std::string_view, 14> kKnown{
      "agent",      "graph",  "goal",      "input", "queue",           "priority",
      "deadline",   "budget", "namespace", "name",  "concurrency_key", "concurrency_limit",
      "not_before", "delay"};
  if (!body.is_object()) return wrong("the body is not an object like {\"graph\": {...}}");
  json::object const& object = body.as_object();
  TRY(check_members(object, "the job", kKnown));
  jobs::RunSpec spec;
  TRY(read_work(object, find_agent, spec));
  TRY(read_text(object, "name", kNameBytesMax, spec.name));
  TRY(read_word(object, "namespace", spec.space));
  TRY(read_word(object, "queue", spec.queue));
  TRY(read_text(object, "concurrency_key", kNameBytesMax, spec.concurrency_key));
  if (json::value const* const input = object.if_contains("input")) spec.input = *input;
  TRY_ASSIGN(auto const priority, integer_of(object, "priority", -1000, 1000));
  spec.priority = static_cast<int>(priority.value_or(0));
  TRY_ASSIGN(auto const limit, integer_of(object, "concurrency_limit", 1, 10000));
  spec.concurrency_limit = static_cast<int>(limit.value_or(1));
  TRY_ASSIGN(spec.deadline, time_of(object, "deadline", now));
  TRY_ASSIGN(spec.not_before, time_of(object, "not_before", now));
  if (json::value const* const delay = member_of(object, "delay")) {
    TRY_ASSIGN(Duration const after, duration_of(*delay, "delay"));
    spec.not_before = std::chrono::time_point_cast<WallTime::duration>(now + after);
  }
  TRY(read_budget(object, spec.budget));
  if (spec.name.empty() && spec.graph.is_object()) {
    json::value const* const name = member_of(spec.graph.as_object(), "name");
    if (name != nullptr && name->is_string())
      spec.name = std::string_view(name->as_string()).substr(0, kNameBytesMax);
  }
  if (spec.name.empty()) spec.name = spec.goal.empty() ? "graph" : spec.goal.substr(0, 60);
  return jobs::Submission{.spec = std::move(spec), .request_hash = jobs::value_hash(body)};
}

Status check_key(std::string_view key) {
  bool const printable = std::ranges::all_of(
      key, [](char c) { return c > 0x20 && c < 0x7F && c != '"' && c != '\\'; });
  if (printable && !key.empty() && key.size() <= kKeyBytesMax) return {};
  return wrong(
      fmt::format("the Idempotency-Key is not 1 to {} printable characters without "
                  "blanks, quotes and backslashes",
                  kKeyBytesMax));
}

Status check_numbers(json::value const& value) {
  constexpr std::int64_t kMost = std::int64_t{1} << 53U;
  if (auto const* const object = value.if_object()) {
    for (auto const& member : *object) TRY(check_numbers(member.value()));
  } else if (auto const* const array = value.if_array()) {
    for (json::value const& item : *array) TRY(check_numbers(item));
  }
  bool const is_beyond =
      value.is_uint64() ||
      (value.is_int64() && (value.get_int64() > kMost || value.get_int64() < -kMost));
  if (!is_beyond) return {};
  return wrong(
      fmt::format("the number {} is beyond 2^53 and would not stay what it is: send it as "
                  "a text",
                  json::serialize(value)));
}

Result<WallTime> parse_rfc3339(std::string_view text) {
  auto const year = digits(text, 0, 4);
  auto const month = digits(text, 5, 2);
  auto const day = digits(text, 8, 2);
  auto const hour = digits(text, 11, 2);
  auto const minute = digits(text, 14, 2);
  auto const second = digits(text, 17, 2);
  bool const formed = year && month && day && hour && minute && second && text[4] == '-' &&
                      text[7] == '-' && (text[10] == 'T' || text[10] == 't' || text[10] == ' ') &&
                      text[13] == ':' && text[16] == ':';
  if (!formed) return wrong("it is not a time like 2026-01-31T12:00:00Z");
  using namespace std::chrono;
  year_month_day const date{std::chrono::year(*year),
                            std::chrono::month(static_cast<unsigned>(*month)),
                            std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok() || *hour > 23 || *minute > 59 || *second > 60 || *year < 1970 || *year > 2200)
    return wrong("there is no such time");
  auto time = sys_days(date) + hours(*hour) + minutes(*minute) + seconds(*second) + milliseconds(0);
  std::string_view rest = text.substr(19);
  if (rest.starts_with('.')) {
    std::size_t const end = std::min(rest.find_first_not_of("0123456789", 1), rest.size());
    int scale = 100;
    for (std::size_t i = 1; i < end && scale > 0; ++i, scale /= 10)
      time += milliseconds((rest[i] - '0') * scale);
    rest.remove_prefix(end);
  }
  if (rest == "Z" || rest == "z") return WallTime(time);
  auto const offset_hours = digits(rest, 1, 2);
  auto const offset_minutes = digits(rest, 4, 2);
  bool const has_offset = rest.size() == 6 && (rest[0] == '+' || rest[0] == '-') &&
                          rest[3] == ':' && offset_hours && offset_minutes;
  if (!has_offset) return wrong("it has no time zone; end it with Z");
  auto const offset = hours(*offset_hours) + minutes(*offset_minutes);
  return WallTime(rest[0] == '+' ? time - offset : time + offset);
}

Result<std::reference_wrapper<jobs::WaitState const>> find_approval(jobs::RunState const& run,
                                                                    std::string& path) {
  jobs::WaitState const* found = nullptr;
  std::string open;
  for (auto const& [at, wait] : run.waits) {
    bool const asks =
        wait.open && wait.opening.kind == jobs::WaitKind::Human && wait.opening.effect.empty();
    if (!asks) continue;
    open += fmt::format("{}{}", open.empty() ? "" : ", ", at);
    if (path.empty() ? found != nullptr : at != path) continue;
    found = &wait;
  }
  if (open.empty()) return fail(ErrorCode::Conflict, run.id.text + " waits for no approval");
  bool const unclear = path.empty() && open.contains(',');
  if (found == nullptr || unclear)
    return wrong(fmt::format("name the step of the approval: {}", open));
  path = found->opening.path;
  return *found;
}

Status check_form(json::value const& schema, json::value const& form) {
  std::vector<std::string> const mistakes = jobs::form_mistakes(schema, form);
  if (mistakes.empty()) return {};
  return wrong(fmt::format("the form is not filled in as it asks: {}", fmt::join(mistakes, "; ")));
}

}  // namespace aether::api
