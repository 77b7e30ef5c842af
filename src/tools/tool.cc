// SPDX-License-Identifier: Apache-2.0
#include "tools/tool.h"

#include <utility>

#include <fmt/format.h>

namespace aether::tools {

async::Task<CallResult> Tool::look_up(Call call) {
  co_return CallResult{
      .outcome = EffectOutcome::Unknown,
      .error = fmt::format("the tool {} cannot be asked what became of the call with the key {}",
                           name(), call.key)};
}

Status ToolSet::add(std::unique_ptr<Tool> tool) {
  std::string name(tool->name());
  if (tools_.contains(name)) {
    return fail(ErrorCode::RequestInvalid,
                fmt::format("there is a tool of the name {} already: give one another name", name));
  }
  tools_.emplace(std::move(name), std::move(tool));
  return {};
}

Tool* ToolSet::find(std::string_view name) const {
  auto const found = tools_.find(name);
  return found == tools_.end() ? nullptr : found->second.get();
}

std::vector<std::string_view> ToolSet::names() const {
  std::vector<std::string_view> names;
  names.reserve(tools_.size());
  for (auto const& [name, tool] : tools_) names.emplace_back(name);
  return names;
}

}  // namespace aether::tools
