// SPDX-License-Identifier: Apache-2.0
#include "jobs/views.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "base/json.h"
#include "jobs/body_text.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;

constexpr int kPriorityMax = 1000;

std::int64_t milliseconds(WallTime time) {
  return std::chrono::floor<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

/// Texts of the same length, so that they order as the times do.
std::string time_key(WallTime time) {
  return fmt::format("{:013}", std::max<std::int64_t>(milliseconds(time), 0));
}

std::string_view cut_text(std::string_view text) {
  if (text.size() <= kDetailBytesMax) return text;
  std::size_t end = kDetailBytesMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  return text.substr(0, end);
}

std::string describe_wait(WaitState const& wait) {
  WaitOpened const& opening = wait.opening;
  std::string text = fmt::format("{} {}", text_of(opening.kind), opening.path);
  if (!opening.name.empty()) text += fmt::format(": {}", opening.name);
  if (opening.deadline) text += fmt::format(" (until {})", format_rfc3339(*opening.deadline));
  return text;
}

/// The wait that stands for a parked run: that of a person before others, who must be told.
std::string describe_waits(RunState const& state) {
  WaitState const* first = nullptr;
  for (std::string const& path : state.open_waits) {
    WaitState const& wait = state.waits.find(path)->second;
    bool const is_human = wait.opening.kind == WaitKind::Human;
    bool const better = first == nullptr || (is_human && first->opening.kind != WaitKind::Human);
    if (better) first = &wait;
  }
  if (first == nullptr) return {};
  std::string text = describe_wait(*first);
  if (state.open_waits.size() > 1) text += fmt::format(" and {} more", state.open_waits.size() - 1);
  return text;
}

std::string detail_of(RunState const& state, RunStatus status) {
  if (state.closing) return state.closing->error;
  if (status == RunStatus::Stuck) return state.stuck;
  bool const waits = status == RunStatus::Parked || status == RunStatus::Retrying;
  return waits ? describe_waits(state) : std::string();
}

Row run_row(RunState const& state) {
  RunSummary const line = summary_of(state);
  return {
      .view = kRunView,
      .key = run_row_key(line.run),
      .value = fmt::format(
          R"({{"detail":{},"name":{},"opened":{},"queue":{},"space":{},"status":"{}","updated":{}}})",
          quoted(line.detail), quoted(line.name), milliseconds(line.opened), quoted(line.queue),
          quoted(line.space), text_of(line.status), milliseconds(line.updated))};
}

Row work_row(std::string_view view, RunState const& state) {
  RunSpec const& spec = state.opening.spec;
  int const rank = kPriorityMax - std::clamp(spec.priority, -kPriorityMax, kPriorityMax);
  return {
      .view = view,
      .key = fmt::format("{}/{:04}/{}/{}", spec.queue, rank, time_key(state.opened), state.id.text),
      .value = fmt::format(R"({{"concurrency_key":{},"concurrency_limit":{},"priority":{},)"
                           R"("queue":{},"run":"{}","since":{},"space":{}}})",
                           quoted(spec.concurrency_key), spec.concurrency_limit, spec.priority,
                           quoted(spec.queue), state.id.text, milliseconds(state.opened),
                           quoted(spec.space))};
}

bool waits_to_begin(RunState const& state) {
  return state.opening.spec.not_before && state.steps_used == 0 && state.lease_holder.empty() &&
         !state.cancel_requested;
}

/// The members of a row's value, one after the other; the first that is not as it should be spoils
/// all.
class RowReader {
 public:
  explicit RowReader(journal::Record const& row) : row_(row) {
    Result<json::value> parsed = parse_json(row.value, "row");
    if (parsed) value_ = std::move(*parsed);
    good_ = value_.is_object();
  }
  std::string text(std::string_view name) {
    json::value const* const found = member(name);
    good_ = good_ && found->is_string();
    return good_ ? std::string(found->get_string().data(), found->get_string().size()) : "";
  }
  std::int64_t number(std::string_view name) {
    json::value const* const found = member(name);
    good_ = good_ && found->is_int64();
    return good_ ? found->get_int64() : 0;
  }
  WallTime time(std::string_view name) { return WallTime(std::chrono::milliseconds(number(name))); }
  int small(std::string_view name) {
    std::int64_t const found = number(name);
    good_ = good_ && found >= std::numeric_limits<int>::min() &&
            found <= std::numeric_limits<int>::max();
    return good_ ? static_cast<int>(found) : 0;
  }
  void require(bool good) { good_ = good_ && good; }
  [[nodiscard]] Status end() const {
    if (good_) return {};
    return fail(ErrorCode::StoreDamaged,
                fmt::format("the row '{}' of an index of runs is not one that Aether writes; "
                            "`aether fsck` makes the indexes again",
                            row_.key));
  }

 private:
  json::value const* member(std::string_view name) {
    good_ = good_ && value_.get_object().contains({name.data(), name.size()});
    return good_ ? value_.get_object().if_contains({name.data(), name.size()}) : nullptr;
  }
  journal::Record const& row_;
  json::value value_;
  bool good_ = false;
};

}  // namespace

std::string run_row_key(RunId const& run) {
  std::string key = run.text;
  for (char& digit : key) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::size_t const at = kDigits.find(digit);
    if (at != std::string_view::npos) digit = kDigits[15 - at];
  }
  return key;
}

std::string due_row_end(WallTime now) {
  // "0" follows "/": every key of that millisecond is below.
  return time_key(now) + '0';
}

RunSummary summary_of(RunState const& state) {
  RunSpec const& spec = state.opening.spec;
  RunStatus const status = state.status();
  return {.run = state.id,
          .name = spec.name,
          .space = spec.space,
          .queue = spec.queue,
          .status = status,
          .opened = state.opened,
          .updated = state.status_since,
          .detail = std::string(cut_text(detail_of(state, status)))};
}

bool wants_turn(RunState const& state) {
  if (state.closing) return false;
  if (state.cancel_requested) return true;
  if (state.paused || !state.stuck.empty()) return false;
  if (state.has_active_step()) return true;
  if (state.open_steps.empty() && state.open_waits.empty()) return true;
  return std::ranges::any_of(state.open_waits, [&state](std::string const& path) {
    WaitOpened const& wait = state.waits.find(path)->second.opening;
    return wait.kind == WaitKind::Signal && state.pending_signal(wait.name) != nullptr;
  });
}

std::optional<WallTime> next_due(RunState const& state) {
  std::optional<WallTime> first;
  auto const consider = [&first](std::optional<WallTime> const& time) {
    if (time && (!first || *time < *first)) first = time;
  };
  if (state.closing) return first;
  RunSpec const& spec = state.opening.spec;
  consider(spec.deadline);
  if (spec.budget.time) consider(state.opened + *spec.budget.time);
  if (state.paused || !state.stuck.empty()) return first;
  if (waits_to_begin(state)) consider(spec.not_before);
  for (std::string const& path : state.open_waits) {
    consider(state.waits.find(path)->second.opening.deadline);
  }
  return first;
}

std::vector<Row> rows_of(RunState const& state) {
  std::vector<Row> rows;
  rows.push_back(run_row(state));
  bool const busy = !state.closing && !state.open_effects.empty();
  if ((busy || wants_turn(state)) && !waits_to_begin(state)) {
    rows.push_back(work_row(state.lease_holder.empty() ? kReadyView : kHeldView, state));
  }
  if (std::optional<WallTime> const due = next_due(state)) {
    rows.push_back({.view = kDueView,
                    .key = time_key(*due) + '/' + state.id.text,
                    .value = '"' + state.id.text + '"'});
  }
  return rows;
}

void change_rows(std::vector<Row> const& before, std::vector<Row> const& after,
                 std::vector<journal::RecordChange>& changes) {
  for (Row const& row : before) {
    bool const stays = std::ranges::any_of(
        after, [&row](Row const& other) { return other.view == row.view && other.key == row.key; });
    if (!stays) changes.push_back({std::string(row.view), row.key, std::nullopt});
  }
  for (Row const& row : after) {
    if (std::ranges::find(before, row) == before.end()) {
      changes.push_back({std::string(row.view), row.key, row.value});
    }
  }
}

Result<RunSummary> parse_run_row(journal::Record const& row) {
  RowReader reader(row);
  RunSummary line;
  // The complement of the complement.
  line.run.text = run_row_key(RunId{row.key});
  reader.require(parse_run_id(line.run.text).has_value());
  line.name = reader.text("name");
  line.space = reader.text("space");
  line.queue = reader.text("queue");
  line.opened = reader.time("opened");
  line.updated = reader.time("updated");
  line.detail = reader.text("detail");
  Result<RunStatus> const status = parse_word<RunStatus>(reader.text("status"));
  reader.require(status.has_value());
  if (status) line.status = *status;
  TRY(reader.end());
  return line;
}

Result<ReadyRun> parse_ready_row(journal::Record const& row) {
  RowReader reader(row);
  ReadyRun ready;
  ready.run.text = reader.text("run");
  reader.require(parse_run_id(ready.run.text).has_value());
  ready.space = reader.text("space");
  ready.queue = reader.text("queue");
  ready.priority = reader.small("priority");
  ready.since = reader.time("since");
  ready.concurrency_key = reader.text("concurrency_key");
  ready.concurrency_limit = reader.small("concurrency_limit");
  TRY(reader.end());
  return ready;
}

Result<DueRun> parse_due_row(journal::Record const& row) {
  std::string_view const key = row.key;
  std::size_t const slash = key.find('/');
  std::uint64_t at = 0;
  bool good = slash == 13;
  for (char const digit : key.substr(0, good ? slash : 0)) {
    good = good && digit >= '0' && digit <= '9';
    at = at * 10 + static_cast<std::uint64_t>(digit - '0');
  }
  Result<RunId> run = good ? parse_run_id(key.substr(slash + 1)) : parse_run_id("");
  if (run) return DueRun{.at = WallTime(std::chrono::milliseconds(at)), .run = std::move(*run)};
  return fail(ErrorCode::StoreDamaged,
              fmt::format("the row '{}' of the index of times is not one that Aether writes; "
                          "`aether fsck` makes the indexes again",
                          row.key));
}

}  // namespace aether::jobs
