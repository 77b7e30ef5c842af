// SPDX-License-Identifier: Apache-2.0
// Any bytes as a TaskGraph: no crash, no endless work; what is taken can be run, and what is
// refused is refused with places. Corpus: examples/jobs.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "jobs/graph.h"
#include "jobs/graph_driver.h"
#include "jobs/graph_text.h"
#include "jobs/plan_rules.h"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  using namespace aether;
  std::string_view const text(reinterpret_cast<char const*>(data), size);
  auto const graph = jobs::load_graph_text(text, "fuzz.yaml");
  if (!graph) {
    AETHER_CHECK(graph.error().code() == ErrorCode::RequestInvalid);
    AETHER_CHECK(graph.error().message().starts_with("fuzz.yaml:"));
  } else {
    auto parsed = jobs::parse_graph(*graph);
    AETHER_CHECK(parsed.has_value() && parsed->order.size() == parsed->nodes.size());
    jobs::RunState state;
    state.opening.spec.graph = *graph;
    AETHER_CHECK(!jobs::GraphDriver(std::move(*parsed)).decide(state).empty());
  }
  AETHER_CHECK(jobs::parse_graph(jobs::plan_by_rules(text, "")).has_value());
  return 0;
}
