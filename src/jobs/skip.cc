// SPDX-License-Identifier: Apache-2.0
#include "jobs/skip.h"

#include <boost/json.hpp>

#include "base/json.h"
#include "jobs/ids.h"

namespace aether::jobs {
namespace {

std::string hash_of(std::string_view reason) {
  return content_hash(canonical_json(skip_input(reason)));
}

}  // namespace

boost::json::value skip_input(std::string_view reason) {
  return boost::json::object{{"skipped", reason}};
}

std::string_view skip_reason(StepState const& step) {
  static std::string const by_when = hash_of(kSkippedByWhen);
  static std::string const by_parents = hash_of(kSkippedByParents);
  if (step.open || step.outcome != StepOutcome::Pure) return {};
  if (step.input_hash == by_when) return kSkippedByWhen;
  return step.input_hash == by_parents ? kSkippedByParents : std::string_view();
}

}  // namespace aether::jobs
