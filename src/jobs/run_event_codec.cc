// SPDX-License-Identifier: Apache-2.0
#include "jobs/run_event_codec.h"

#include <algorithm>
#include <array>
#include <iterator>

#include <fmt/format.h>

#include "jobs/body_text.h"
#include "jobs/run_event_members.h"

namespace aether::jobs {
namespace {

using journal::Mark;

/// The kinds in the order of the alternatives of RunEventBody.
constexpr std::array<std::string_view, 11> kKinds = {
    "run.opened",      "run.closed",     "step.opened", "step.closed",
    "effect.intended", "effect.settled", "wait.opened", "wait.closed",
    "signal.received", "run.controlled", "audit.noted"};
static_assert(kKinds.size() == std::variant_size_v<RunEventBody>);

template <std::size_t... I>
RunEventBody body_at(std::size_t index, std::index_sequence<I...> /*all*/) {
  using Make = RunEventBody (*)();
  constexpr std::array<Make, sizeof...(I)> kMake = {
      []() -> RunEventBody { return std::variant_alternative_t<I, RunEventBody>(); }...};
  return kMake.at(index)();
}

struct SpanName {
  std::string operator()(RunOpened const& /*run*/) const { return "run"; }
  std::string operator()(RunClosed const& /*run*/) const { return "run"; }
  std::string operator()(StepOpened const& step) const { return attempt_of(step); }
  std::string operator()(StepClosed const& step) const { return attempt_of(step); }
  std::string operator()(EffectIntended const& effect) const { return turn_of(effect); }
  std::string operator()(EffectSettled const& effect) const { return turn_of(effect); }
  std::string operator()(WaitOpened const& wait) const { return "wait/" + wait.path; }
  std::string operator()(WaitClosed const& wait) const { return "wait/" + wait.path; }
  std::string operator()(auto const& /*point*/) const { return {}; }

 private:
  static std::string attempt_of(auto const& step) {
    return "step/" + step.path + '#' + std::to_string(step.attempt);
  }
  static std::string turn_of(auto const& effect) {
    return "effect/" + effect.effect + '#' + std::to_string(effect.turn);
  }
};

Mark mark_of(RunEventBody const& body) {
  if (auto const* const settled = std::get_if<EffectSettled>(&body)) {
    return settled->amends ? Mark::Point : Mark::Close;
  }
  std::string_view const kind = kind_of(body);
  if (kind.ends_with(".opened") || kind.ends_with(".intended")) return Mark::Open;
  return kind.ends_with(".closed") ? Mark::Close : Mark::Point;
}

std::string key_name(std::string_view what, std::string_view owner, std::string_view key) {
  std::string name = fmt::format("{}:{}:{}", what, owner, key);
  // A key that begins with "~" is replaced as well, so that none can be taken for another's hash.
  if (journal::is_name(name) && !key.starts_with('~')) return name;
  return fmt::format("{}:{}:~{}", what, owner, content_hash(key));
}

/// The key that the event takes; empty: none.
std::string key_of(RunEventBody const& body, std::string_view stream, std::string_view space) {
  if (auto const* const opened = std::get_if<RunOpened>(&body)) {
    if (opened->idempotency_key.empty()) return {};
    return idempotency_journal_key(opened->spec.space, opened->idempotency_key);
  }
  if (auto const* const intended = std::get_if<EffectIntended>(&body)) {
    // The next turns of an effect are the same effect: the first has the key.
    if (intended->business_key.empty() || intended->turn != 1) return {};
    return business_journal_key(space, intended->business_key);
  }
  auto const* const signal = std::get_if<SignalReceived>(&body);
  if (signal == nullptr || signal->idempotency_key.empty()) return {};
  return signal_journal_key(stream, signal->idempotency_key);
}

WallTime to_milliseconds(WallTime time) {
  return std::chrono::floor<std::chrono::milliseconds>(time);
}
void cut(std::optional<WallTime>& time) {
  if (time) time = to_milliseconds(*time);
}

Failure damaged(journal::Event const& event, std::string_view what) {
  return fail(
      ErrorCode::StoreDamaged,
      fmt::format("the event {} at position {} (stream {}, number {}) is not one that "
                  "Aether writes: {}",
                  event.kind, event.position.value, event.stream, event.sequence.value, what));
}

/// A copy in a fork has no keys; of a business key the namespace is not in the event.
bool keys_fit(journal::Event const& event, RunEventBody const& body) {
  if (event.keys.empty()) return true;
  std::string space;
  if (auto const* const intended = std::get_if<EffectIntended>(&body)) {
    constexpr std::string_view kPrefix = "business:";
    if (!event.keys[0].starts_with(kPrefix)) return false;
    std::string_view const rest = std::string_view(event.keys[0]).substr(kPrefix.size());
    space = rest.substr(0, rest.find(':'));
    if (intended->turn != 1) return false;
  }
  return event.keys.size() == 1 && event.keys[0] == key_of(body, event.stream, space);
}

Result<RunEvent> decode(journal::Event const& event, BlobSource const* blobs, Values values) {
  auto const found = std::ranges::find(kKinds, event.kind);
  if (found == kKinds.end()) return damaged(event, "its kind is unknown; is Aether too old?");
  auto const index = static_cast<std::size_t>(std::distance(kKinds.begin(), found));
  RunEvent run_event{
      .at = event.at,
      .actor = event.actor,
      .body = body_at(index, std::make_index_sequence<std::variant_size_v<RunEventBody>>())};
  BodyReader reader(event, blobs, values);
  std::visit([&reader](auto& body) { members(reader, body); }, run_event.body);
  TRY(reader.end());
  if (event.mark != mark_of(run_event.body) || event.span != span_of(run_event.body)) {
    return damaged(event, "its span or mark is not that of its body");
  }
  if (!keys_fit(event, run_event.body)) return damaged(event, "its keys are not those of its body");
  return run_event;
}

}  // namespace

BlobSource blobs_of(journal::Journal& journal) {
  return [&journal](journal::BlobHash const& hash) { return journal.blob(hash); };
}

std::string_view kind_of(RunEventBody const& body) {
  return kKinds.at(body.index());
}

std::string span_of(RunEventBody const& body) {
  return std::visit(SpanName(), body);
}

std::string idempotency_journal_key(std::string_view space, std::string_view key) {
  return key_name("idem", space, key);
}
std::string business_journal_key(std::string_view space, std::string_view key) {
  return key_name("business", space, key);
}
std::string signal_journal_key(std::string_view run, std::string_view key) {
  return key_name("signal", run, key);
}

Status append_event(journal::Batch& batch, EventTarget target, RunEvent const& event,
                    SaltSource const& salts) {
  auto const* const opened = std::get_if<RunOpened>(&event.body);
  std::string_view const space =
      opened != nullptr ? std::string_view(opened->spec.space) : target.space;
  if (space.contains(':')) {
    return fail(ErrorCode::RequestInvalid,
                fmt::format("the namespace '{}' has a colon in its name", space));
  }
  std::size_t const blobs_before = batch.blobs.size();
  BodyWriter writer(batch, salts);
  std::visit([&writer](auto const& body) { members(writer, body); }, event.body);
  journal::NewEvent out;
  out.stream = target.stream;
  out.kind = kind_of(event.body);
  out.mark = mark_of(event.body);
  out.span = span_of(event.body);
  out.at = to_milliseconds(event.at);
  out.actor = event.actor;
  out.blobs = writer.blobs();
  std::string key = target.takes_keys ? key_of(event.body, target.stream, space) : std::string();
  if (!key.empty()) out.keys.push_back(std::move(key));
  Result<std::string> body = std::move(writer).end();
  Status good = body ? Status() : Status(Failure(body.error()));
  if (good) {
    out.body = std::move(*body);
    good = journal::check_event(out);
  }
  if (!good) {
    batch.blobs.resize(blobs_before);
    return good;
  }
  batch.events.push_back(std::move(out));
  return {};
}

RunEvent as_recorded(RunEvent event) {
  event.at = to_milliseconds(event.at);
  if (auto* const opened = std::get_if<RunOpened>(&event.body)) {
    cut(opened->spec.not_before);
    cut(opened->spec.deadline);
  }
  if (auto* const wait = std::get_if<WaitOpened>(&event.body)) cut(wait->deadline);
  if (auto* const control = std::get_if<RunControlled>(&event.body)) cut(control->until);
  return event;
}

Result<RunEvent> decode_event(journal::Event const& event, BlobSource const& blobs) {
  return decode(event, &blobs, Values::Read);
}

Result<RunEvent> decode_outline(journal::Event const& event) {
  return decode(event, nullptr, Values::Skip);
}

Result<std::vector<RunEvent>> decode_events(std::span<journal::Event const> events,
                                            BlobSource const& blobs) {
  std::vector<RunEvent> decoded;
  decoded.reserve(events.size());
  for (journal::Event const& event : events) {
    TRY_ASSIGN(RunEvent one, decode_event(event, blobs));
    decoded.push_back(std::move(one));
  }
  return decoded;
}

Status fold_recorded(RunState& state, journal::Event const& event, BlobSource const& blobs) {
  if (state.id.text.empty()) state.id.text = event.stream;
  if (event.stream != state.id.text || event.sequence.value != state.sequence + 1) {
    return damaged(event, fmt::format("number {} of stream {} was expected", state.sequence + 1,
                                      state.id.text));
  }
  TRY_ASSIGN(RunEvent const decoded, decode_event(event, blobs));
  Status folded = fold(state, decoded);
  if (!folded)
    return fail(
        std::move(folded.error()).while_doing(fmt::format("position {}", event.position.value)));
  state.fence = event.fence.value;
  return {};
}

Result<RunState> load_run(journal::Journal& journal, RunId const& run) {
  constexpr std::size_t kPage = 1000;
  BlobSource const blobs = blobs_of(journal);
  RunState state;
  state.id = run;
  while (true) {
    auto const next = journal::Sequence{state.sequence + 1};
    TRY_ASSIGN(std::vector<journal::Event> const page, journal.read_stream(run.text, next, kPage));
    for (journal::Event const& event : page) TRY(fold_recorded(state, event, blobs));
    if (page.size() < kPage) break;
  }
  if (state.sequence > 0) return state;
  return fail(ErrorCode::NotFound, fmt::format("there is no run {}", run.text));
}

}  // namespace aether::jobs
