// SPDX-License-Identifier: Apache-2.0
#include "daemon/jobs_tools.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>

#include "daemon/configured_tool.h"
#include "http/url.h"
#include "tools/http_tool.h"
#include "tools/llm_tool.h"
#include "tools/process_tool.h"

namespace aether::daemon {
namespace {

Failure unusable(config::Config const& config, config::Tool const& tool, std::string_view why) {
  return fail(ErrorCode::ConfigInvalid,
              fmt::format("{}: the tool {}: {}", config.path, tool.name, why));
}

/// What programs get besides what the configuration gives them.
std::vector<std::string> usual_environment() {
  std::vector<std::string> environment;
  for (char const* const name : {"PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER"}) {
    if (char const* const value = std::getenv(name); value != nullptr)
      environment.push_back(fmt::format("{}={}", name, value));
  }
  return environment;
}

Result<std::string> key_of(config::Config const& config, config::Tool const& tool) {
  if (tool.api_key_env.empty()) return std::string();
  char const* const key = std::getenv(tool.api_key_env.c_str());
  if (key != nullptr && *key != '\0') return std::string(key);
  return unusable(config, tool, fmt::format("the variable {} is not set", tool.api_key_env));
}

/// With a key it goes nowhere but where the key belongs.
std::vector<std::string> hosts_of(config::Tool const& tool) {
  if (!tool.hosts.empty() || tool.base_url.empty()) return tool.hosts;
  auto const url = http::parse_web_url(tool.base_url);
  return url ? std::vector{url->host} : tool.hosts;
}

Result<std::unique_ptr<tools::Tool>> make_tool(config::Config const& config,
                                               config::Tool const& told, Clock const& clock,
                                               supervise::KnownChildren& known,
                                               tools::FunctionPorts const& ports) {
  TRY_ASSIGN(std::string key, key_of(config, told));
  std::unique_ptr<tools::Tool> inner;
  if (told.type == config::ToolType::Http) {
    std::vector<std::string> hosts = hosts_of(told);
    if (!key.empty() && hosts.empty())
      return unusable(config, told, "a key needs base_url or hosts, so that it goes nowhere else");
    inner = tools::make_http_tool({.hosts = std::move(hosts), .ca_file = {}});
  } else if (told.type == config::ToolType::Process) {
    inner = tools::make_process_tool(
        clock,
        {.environment = usual_environment(), .commands = {told.command.front()}, .known = &known});
  } else {
    inner = tools::make_function_tool(ports);
  }
  return make_configured_tool(std::move(inner), told, std::move(key));
}

Result<std::unique_ptr<tools::Tool>> make_llm(config::Config const& config) {
  tools::LlmOptions options;
  for (config::Tool const& told : config.tools) {
    if (told.type != config::ToolType::Llm) continue;
    if (told.policy && *told.policy == config::ToolPolicy::Read)
      options.policy = tools::Policy::Read;
    bool const is_builtin = told.model.empty() || told.model == tools::kBuiltinModel;
    if (told.base_url.empty() && !is_builtin)
      return unusable(config, told, "a model of a provider needs its base_url");
    TRY_ASSIGN(std::string key, key_of(config, told));
    options.models.push_back({.name = told.name,
                              .base_url = told.base_url,
                              .model = told.model.empty() ? told.name : told.model,
                              .api_key = std::move(key),
                              .input_price = told.prices.input,
                              .output_price = told.prices.output});
    if (told.name == "llm") options.default_model = told.name;
  }
  return tools::make_llm_tool(std::move(options));
}

}  // namespace

Result<std::unique_ptr<tools::ToolSet>> make_tools(config::Config const& config, Clock const& clock,
                                                   supervise::KnownChildren& known,
                                                   tools::FunctionPorts const& ports) {
  auto all = std::make_unique<tools::ToolSet>();
  auto const is_told = [&](std::string_view name) {
    return std::ranges::find(config.tools, name, &config::Tool::name) != config.tools.end();
  };
  for (config::Tool const& told : config.tools) {
    if (told.type == config::ToolType::Llm) continue;
    TRY_ASSIGN(std::unique_ptr<tools::Tool> tool, make_tool(config, told, clock, known, ports));
    TRY(all->add(std::move(tool)));
  }
  TRY_ASSIGN(std::unique_ptr<tools::Tool> llm, make_llm(config));
  TRY(all->add(std::move(llm)));
  if (!is_told("http")) TRY(all->add(tools::make_http_tool({.hosts = {}, .ca_file = {}})));
  if (!is_told("function")) TRY(all->add(tools::make_function_tool(ports)));
  return all;
}

}  // namespace aether::daemon
