// SPDX-License-Identifier: Apache-2.0
#include "daemon/counted_journal.h"

#include <string_view>
#include <utility>

namespace aether::daemon {
namespace {

/// Of a body of one of the kinds below. Bodies are canonical: the members before it in the order of
/// names hold texts only, in which no quote stands alone, so that the first one found is it.
std::string_view outcome_in(std::string_view body) {
  constexpr std::string_view kMember = R"("outcome":")";
  std::size_t const at = body.find(kMember);
  if (at == std::string_view::npos) return {};
  body.remove_prefix(at + kMember.size());
  return body.substr(0, body.find('"'));
}

void add_one(api::OutcomeCounts& counts, std::string_view outcome) {
  auto const found = counts.find(outcome);
  if (found != counts.end()) {
    ++found->second;
  } else {
    counts.emplace(outcome, 1);
  }
}

/// What a batch adds, before it is known whether it is recorded.
struct Gain {
  std::uint64_t events = 0, opened = 0;
  std::vector<std::string> closed{}, steps{}, calls{};
};

Gain gain_of(std::vector<journal::NewEvent> const& events) {
  Gain gain{.events = events.size()};
  for (journal::NewEvent const& event : events) {
    std::string_view const kind = event.kind;
    if (kind == "run.opened") {
      ++gain.opened;
    } else if (kind == "run.closed") {
      gain.closed.emplace_back(outcome_in(event.body));
    } else if (kind == "step.closed") {
      gain.steps.emplace_back(outcome_in(event.body));
    } else if (kind == "effect.settled" && event.mark == journal::Mark::Close) {
      gain.calls.emplace_back(outcome_in(event.body));
    }
  }
  return gain;
}

}  // namespace

CountedJournal::CountedJournal(std::unique_ptr<journal::Journal> inner, Clock const& clock)
    : clock_(clock), tally_(std::make_shared<Tally>()), inner_(std::move(inner)) {}

api::JobCounts CountedJournal::counts() const {
  std::lock_guard const lock(tally_->mutex);
  return tally_->counts;
}

void CountedJournal::append(journal::Batch batch, journal::Answer answer) {
  Gain gain = gain_of(batch.events);
  Instant const began = clock_.now();
  inner_->append(std::move(batch), [tally = tally_, clock = &clock_, began, gain = std::move(gain),
                                    answer = std::move(answer)](auto outcome) mutable {
    Duration const took = clock->now() - began;
    {
      std::lock_guard const lock(tally->mutex);
      api::JobCounts& counts = tally->counts;
      if (!outcome) ++counts.failures;
      bool const recorded = outcome && outcome->has_value();
      if (recorded) {
        counts.appends.add(took);
        counts.events += gain.events;
        counts.opened += gain.opened;
        for (std::string const& one : gain.closed) add_one(counts.closed, one);
        for (std::string const& one : gain.steps) add_one(counts.steps, one);
        for (std::string const& one : gain.calls) add_one(counts.calls, one);
      }
    }
    answer(std::move(outcome));
  });
}

}  // namespace aether::daemon
