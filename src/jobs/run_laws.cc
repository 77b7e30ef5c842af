// SPDX-License-Identifier: Apache-2.0
#include "jobs/run_laws.h"

#include <optional>

#include <fmt/format.h>

#include "jobs/run_event_codec.h"

namespace aether::jobs {
namespace {

bool is_turn_allowed(EffectState const& last) {
  EffectSettled const& settled = last.settled;
  if (settled.outcome == EffectOutcome::NotExecuted) return true;
  Policy const policy = last.intent.policy;
  if (policy != Policy::Read && policy != Policy::Keyed) return false;
  return settled.outcome == EffectOutcome::Unknown ||
         (settled.outcome == EffectOutcome::Error && settled.retryable);
}

/// Of a turn after the first. What else it must obey, the fold looks at.
std::optional<EffectLaw> broken_by(RunState const& state, EffectIntended const& intent) {
  auto const found = state.effects.find(intent.effect);
  if (found == state.effects.end() || found->second.open) return {};
  EffectState const& last = found->second;
  if (!is_turn_allowed(last)) return EffectLaw::TurnAllowed;
  if (intent.policy != last.intent.policy) return EffectLaw::PolicyStays;
  if (intent.key != last.intent.key) return EffectLaw::KeyStays;
  return {};
}

/// Of a run that has ended only what late settlements are checked against stays in memory.
void forget_what_ended(RunState& state) {
  state.steps.clear();
  state.waits.clear();
  state.signals.clear();
  state.opening = {};
  std::erase_if(state.effects, [](auto const& effect) {
    return !effect.second.open && effect.second.settled.outcome != EffectOutcome::Unknown;
  });
}

}  // namespace

std::string_view text_of(EffectLaw law) {
  switch (law) {
    case EffectLaw::TurnAllowed:
      return "a call is made again only where its policy and its last outcome allow it";
    case EffectLaw::PolicyStays:
      return "each turn of a call has the same policy";
    case EffectLaw::KeyStays:
      break;
  }
  return "each turn of a call has the same Idempotency-Key";
}

std::string describe(RunFinding const& finding) {
  return fmt::format("position {}: run {}: {}", finding.position.value, finding.run, finding.what);
}

void RunLaws::take(journal::Event const& event, std::vector<RunFinding>& findings) {
  if (event.stream == kAuditStream) {
    Result<RunEvent> const note = decode_outline(event);
    if (note && std::holds_alternative<AuditNoted>(note->body)) return;
    findings.push_back(
        {event.position, event.stream,
         note ? "the audit holds something else than audit.noted" : note.error().message()});
    return;
  }
  auto found = runs_.find(event.stream);
  if (found == runs_.end()) {
    if (!parse_run_id(event.stream)) return;
    found = runs_.try_emplace(event.stream).first;
    found->second.state.id.text = event.stream;
  }
  if (!found->second.broken) take_run(event, found->second, findings);
}

void RunLaws::take_run(journal::Event const& event, Seen& seen, std::vector<RunFinding>& findings) {
  auto const tell = [&](std::string what) {
    findings.push_back({event.position, event.stream, std::move(what)});
    seen.broken = true;
  };
  Result<RunEvent> const decoded = decode_outline(event);
  if (!decoded) return tell(decoded.error().message());
  auto const* const intent = std::get_if<EffectIntended>(&decoded->body);
  if (intent != nullptr) {
    std::optional<EffectLaw> const law = broken_by(seen.state, *intent);
    if (law) {
      return tell(fmt::format("turn {} of effect {} ({} in '{}', policy {}) breaks a law: {}",
                              intent->turn, intent->effect, intent->tool, intent->path,
                              tools::text_of(intent->policy), text_of(*law)));
    }
    ++turns_;
    if (intent->turn == 1) ++effects_;
  }
  auto const* const control = std::get_if<RunControlled>(&decoded->body);
  if (control != nullptr && control->control == Control::Lease && !control->holder.empty()) {
    bool const another = !seen.lease_holder.empty() && seen.lease_holder != control->holder;
    if (another && event.fence <= seen.lease_fence) {
      return tell(fmt::format("the lease of {} after that of {} breaks a law: {}", control->holder,
                              seen.lease_holder, kLeaseLaw));
    }
    seen.lease_fence = event.fence;
    seen.lease_holder = control->holder;
  }
  Status const folded = fold(seen.state, *decoded);
  if (!folded) return tell(folded.error().message());
  if (seen.state.closing) forget_what_ended(seen.state);
}

RunLaws::Counts RunLaws::counts() const {
  Counts counts{.runs = runs_.size(), .effects = effects_, .turns = turns_};
  for (auto const& [name, seen] : runs_) {
    if (!seen.state.closing) ++counts.open_runs;
    for (auto const& [effect, known] : seen.state.effects) {
      bool const unknown = !known.open && known.settled.outcome == EffectOutcome::Unknown;
      if (unknown) ++counts.unknown;
    }
  }
  return counts;
}

}  // namespace aether::jobs
