// SPDX-License-Identifier: Apache-2.0
#include "relay/judge.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/bytes.h"

namespace aether::relay {
namespace {

std::string_view times(int count) {
  return count == 1 ? "time" : "times";
}

}  // namespace

std::string_view rule_name(Judgement::Rule rule) {
  switch (rule) {
    case Judgement::Rule::HealthProbe:
      return "health probe";
    case Judgement::Rule::Watchdog:
      return "watchdog";
    case Judgement::Rule::Memory:
      return "memory";
    case Judgement::Rule::Readiness:
      return "readiness";
  }
  return "unknown rule";
}

std::string Judgement::text() const {
  return fmt::format("{} {}", rule_name(rule), figures);
}

Judge::Judge(JudgePolicy policy, Instant cutover) : policy_(policy), cutover_(cutover) {
  policy_.probe_failures_max = std::max(policy_.probe_failures_max, 1);
  policy_.memory_samples_max = std::max(policy_.memory_samples_max, 1);
}

std::optional<Judgement> Judge::observe(ProbeOutcome const& outcome, Instant now) {
  if (outcome.healthy) {
    probe_failures_ = 0;
    return {};
  }
  if (probe_failures_ == 0) first_failure_ = now;
  ++probe_failures_;
  if (probe_failures_ < policy_.probe_failures_max) return {};
  std::string const within =
      probe_failures_ == 1 ? std::string()
                           : fmt::format(" in a row within {}", humanize(now - first_failure_));
  return judge(Judgement::Rule::HealthProbe,
               fmt::format("failed {} {}{}: {}", probe_failures_, times(probe_failures_), within,
                           outcome.reason.empty() ? "no reason was given" : outcome.reason));
}

std::optional<Judgement> Judge::observe(WatchdogSilence silence, Instant /*now*/) {
  return judge(Judgement::Rule::Watchdog,
               fmt::format("missed: no sign of life for {}", humanize(silence.silent)));
}

std::optional<Judgement> Judge::observe(MemorySample sample, Instant /*now*/) {
  if (!policy_.memory_bytes_max || sample.bytes <= *policy_.memory_bytes_max) {
    memory_samples_ = 0;
    return {};
  }
  ++memory_samples_;
  if (memory_samples_ < policy_.memory_samples_max) return {};
  return judge(
      Judgement::Rule::Memory,
      fmt::format("over its limit in {} {}: {} used, {} allowed", memory_samples_,
                  memory_samples_ == 1 ? "sample" : "samples in a row",
                  humanize_bytes(sample.bytes), humanize_bytes(*policy_.memory_bytes_max)));
}

std::optional<Judgement> Judge::observe(StillNotReady, Instant now) {
  if (!policy_.ready_limit || now - cutover_ < *policy_.ready_limit) return {};
  return judge(Judgement::Rule::Readiness, fmt::format("not reported within {} of the cutover",
                                                       format_duration(*policy_.ready_limit)));
}

std::optional<Judgement> Judge::judge(Judgement::Rule rule, std::string figures) {
  if (judged_) return {};
  judged_ = true;
  return Judgement{rule, std::move(figures)};
}

}  // namespace aether::relay
