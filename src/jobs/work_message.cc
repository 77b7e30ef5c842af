// SPDX-License-Identifier: Apache-2.0
#include "jobs/work_message.h"

#include <algorithm>
#include <array>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

namespace aether::jobs {
namespace {

namespace json = boost::json;

constexpr std::size_t kWordMax = 256;
constexpr std::size_t kErrorMax = 8192;
constexpr std::int64_t kAttemptsMax = 100;
constexpr std::int64_t kMillisecondsMax = 366LL * 24 * 3600 * 1000;

struct VerbWord {
  std::string_view text;
  WorkVerb verb;
};
constexpr std::array kVerbs{
    VerbWord{"beat", WorkVerb::Beat},        VerbWord{"step.begin", WorkVerb::StepBegin},
    VerbWord{"step.end", WorkVerb::StepEnd}, VerbWord{"call", WorkVerb::Call},
    VerbWord{"wait", WorkVerb::Wait},        VerbWord{"close", WorkVerb::Close},
    VerbWord{"release", WorkVerb::Release},  VerbWord{"stuck", WorkVerb::Stuck},
};

Failure wrong(std::string message) {
  return fail(ErrorCode::RequestInvalid, std::move(message));
}

/// Reads members of one message; the first mistake is kept.
class Members {
 public:
  explicit Members(json::object const& object) : object_(object) {}

  /// Absent and null are the same.
  [[nodiscard]] json::value const* find(std::string_view key) const {
    auto const* const value = object_.if_contains(key);
    return value == nullptr || value->is_null() ? nullptr : value;
  }
  [[nodiscard]] json::value value(std::string_view key) const {
    auto const* const value = find(key);
    return value == nullptr ? json::value() : *value;
  }
  std::string text(std::string_view key, std::size_t most = kWordMax) {
    auto const* const value = find(key);
    if (value == nullptr) return {};
    if (value->is_string() && value->get_string().size() <= most)
      return std::string(value->get_string());
    mistake(fmt::format("{} is not a text of at most {} bytes", key, most));
    return {};
  }
  std::string needed(std::string_view key) {
    std::string found = text(key);
    if (found.empty()) mistake(fmt::format("{} is missing", key));
    return found;
  }
  bool flag(std::string_view key) {
    auto const* const value = find(key);
    if (value == nullptr) return false;
    if (!value->is_bool()) mistake(fmt::format("{} is neither true nor false", key));
    return value->is_bool() && value->get_bool();
  }
  std::optional<std::int64_t> number(std::string_view key, std::int64_t most) {
    auto const* const value = find(key);
    if (value == nullptr) return std::nullopt;
    boost::system::error_code ec;
    auto const found = value->is_number() ? value->to_number<std::int64_t>(ec) : -1;
    if (!ec && found >= 0 && found <= most) return found;
    mistake(fmt::format("{} is not a whole number from 0 to {}", key, most));
    return std::nullopt;
  }
  std::optional<Duration> milliseconds(std::string_view key) {
    auto const found = number(key, kMillisecondsMax);
    if (!found) return std::nullopt;
    return std::chrono::milliseconds(*found);
  }
  /// One of the words of an enumeration; absent: `otherwise`.
  template <class T, class Parse>
  T word(std::string_view key, T otherwise, Parse const& parse) {
    std::string const found = text(key);
    if (found.empty()) return otherwise;
    auto parsed = parse(found);
    if (parsed) return *parsed;
    mistake(fmt::format("{}: {}", key, parsed.error().message()));
    return otherwise;
  }
  void mistake(std::string message) {
    if (mistake_.empty()) mistake_ = std::move(message);
  }
  [[nodiscard]] std::string const& mistake() const { return mistake_; }

 private:
  json::object const& object_;
  std::string mistake_;
};

/// A name that becomes part of names in the journal, where / ~ and # say what belongs to what.
void read_path(Members& members, WorkMessage& message) {
  message.path = members.needed("path");
  bool const is_good = std::ranges::none_of(message.path, [](unsigned char c) {
    return c < 0x20 || c == 0x7F || c == '/' || c == '~' || c == '#';
  });
  if (!is_good || message.path.size() > kStepPathMax)
    members.mistake(
        fmt::format("path is not a name of at most {} bytes without / ~ #", kStepPathMax));
}

void read_call(Members& members, WorkMessage& message) {
  read_path(members, message);
  message.tool = members.needed("tool");
  message.args = members.value("args");
  std::string const policy = members.text("policy");
  message.is_pure = policy == "pure";
  if (!policy.empty() && !message.is_pure)
    message.policy = members.word("policy", Policy::Once, &tools::parse_policy);
  message.is_model = members.text("kind") == "model";
  message.business_key = members.text("business_key");
  message.timeout = members.milliseconds("timeout_ms");
  message.attempts = static_cast<std::uint32_t>(
      std::max<std::int64_t>(members.number("attempts", kAttemptsMax).value_or(1), 1));
  message.pause = members.milliseconds("pause_ms").value_or(Duration(std::chrono::seconds(1)));
  message.is_strict = members.flag("strict");
}

void read_step_begin(Members& members, WorkMessage& message) {
  read_call(members, message);
  if (message.policy == Policy::Lookup)
    members.mistake(
        "policy: a function of a worker's own code cannot be looked up; once, read, "
        "keyed and pure are there");
}

void read_step_end(Members& members, WorkMessage& message) {
  message.is_pure = members.text("policy") == "pure";
  if (message.is_pure)
    read_call(members, message);
  else
    read_path(members, message);
  message.outcome = members.word("outcome", EffectOutcome::Ok, &tools::parse_effect_outcome);
  message.result = members.value("result");
  message.error = members.text("error", kErrorMax);
  message.is_retryable = members.flag("retryable");
  message.comes_again = members.flag("again");
  if (message.is_pure) return;
  message.effect = members.needed("effect");
  message.token = members.needed("token");
  message.turn = static_cast<std::uint32_t>(members.number("turn", 1 << 20).value_or(1));
}

void read_wait(Members& members, WorkMessage& message, ReadJob const& read_job) {
  read_path(members, message);
  message.wait = members.word("for", WaitKind::Timer, &parse_word<WaitKind>);
  message.name = members.text("name", kErrorMax);
  message.after = members.milliseconds("after_ms");
  message.schema = members.value("schema");
  message.may_give_back = members.flag("give_back");
  message.is_strict = members.flag("strict");
  if (message.wait == WaitKind::Timer && !message.after) members.mistake("after_ms is missing");
  if (message.wait == WaitKind::Signal && message.name.empty()) members.mistake("name is missing");
  if (message.wait != WaitKind::Child) return;
  message.args = members.value("job");
  Result<RunSpec> spec = read_job(message.args);
  if (spec)
    message.child = std::move(*spec);
  else
    members.mistake(fmt::format("job: {}", spec.error().message()));
}

void read_close(Members& members, WorkMessage& message) {
  message.end = members.word("outcome", RunOutcome::Succeeded, &parse_word<RunOutcome>);
  if (message.end != RunOutcome::Succeeded && message.end != RunOutcome::Failed)
    members.mistake("outcome is neither succeeded nor failed");
  message.result = members.value("output");
  message.error = members.text("error", kErrorMax);
}

}  // namespace

std::string_view text_of(WorkVerb verb) {
  return std::ranges::find(kVerbs, verb, &VerbWord::verb)->text;
}

Result<WorkMessage> read_work_message(json::value const& value, ReadJob const& read_job) {
  auto const* const object = value.if_object();
  if (object == nullptr) return wrong("a message is not an object like {\"do\": \"beat\"}");
  Members members(*object);
  std::string const verb = members.text("do");
  auto const known = std::ranges::find(kVerbs, verb, &VerbWord::text);
  if (known == kVerbs.end()) {
    return wrong(fmt::format("do: there is no \"{}\" in version {} of the worker protocol", verb,
                             kWorkVersion));
  }
  WorkMessage message;
  message.verb = known->verb;
  switch (message.verb) {
    case WorkVerb::Beat:
      break;
    case WorkVerb::StepBegin:
      read_step_begin(members, message);
      break;
    case WorkVerb::StepEnd:
      read_step_end(members, message);
      break;
    case WorkVerb::Call:
      read_call(members, message);
      if (message.is_pure) members.mistake("policy: pure is for functions of a worker's own code");
      break;
    case WorkVerb::Wait:
      read_wait(members, message, read_job);
      break;
    case WorkVerb::Close:
      read_close(members, message);
      break;
    case WorkVerb::Release:
    case WorkVerb::Stuck:
      message.why = members.text("why", kErrorMax);
      break;
  }
  if (!members.mistake().empty())
    return wrong(fmt::format("{} {}: {}", verb, message.path, members.mistake()));
  return message;
}

Result<std::vector<WorkMessage>> read_work_messages(json::value const& value,
                                                    ReadJob const& read_job) {
  auto const* const all = value.if_array();
  if (all == nullptr || all->empty() || all->size() > kWorkMessagesMax)
    return wrong(fmt::format("messages is not a list of 1 to {}", kWorkMessagesMax));
  std::vector<WorkMessage> messages;
  for (json::value const& each : *all) {
    TRY_ASSIGN(WorkMessage message, read_work_message(each, read_job));
    messages.push_back(std::move(message));
  }
  return messages;
}

std::string own_tool(std::string_view function) {
  return fmt::format("code:{}", function);
}

std::string_view text_of(GiveBack why) {
  switch (why) {
    case GiveBack::Parked:
      return "parked";
    case GiveBack::Paused:
      return "paused";
    case GiveBack::Stuck:
      return "stuck";
    case GiveBack::Cancelled:
      return "cancelled";
    case GiveBack::Closed:
      return "closed";
    case GiveBack::Lost:
      return "lost";
    case GiveBack::Released:
      break;
  }
  return "released";
}

json::object give_back(GiveBack why, std::string_view detail) {
  json::object answer{{"is", "give_back"}, {"why", text_of(why)}};
  if (!detail.empty()) answer["detail"] = detail;
  return answer;
}

bool is_give_back(json::object const& answer) {
  auto const* const is = answer.if_contains("is");
  return is != nullptr && is->is_string() && is->get_string() == "give_back";
}

}  // namespace aether::jobs
