// SPDX-License-Identifier: Apache-2.0
#include "daemon/configured_tool.h"

#include <algorithm>
#include <utility>

#include <boost/json.hpp>

namespace aether::daemon {
namespace {

namespace json = boost::json;

tools::Policy policy_of(config::ToolPolicy policy) {
  switch (policy) {
    case config::ToolPolicy::Once:
      return tools::Policy::Once;
    case config::ToolPolicy::Read:
      return tools::Policy::Read;
    case config::ToolPolicy::Keyed:
      return tools::Policy::Keyed;
    case config::ToolPolicy::Lookup:
      return tools::Policy::Lookup;
  }
  return tools::Policy::Once;
}

class ConfiguredTool final : public tools::Tool {
 public:
  ConfiguredTool(std::unique_ptr<tools::Tool> inner, config::Tool told, std::string api_key)
      : inner_(std::move(inner)), told_(std::move(told)), api_key_(std::move(api_key)) {
    // It came from the configuration's own writer of JSON.
    if (!told_.defaults_json.empty()) defaults_ = json::parse(told_.defaults_json).as_object();
  }

  [[nodiscard]] std::string_view name() const override { return told_.name; }
  [[nodiscard]] tools::Policy default_policy() const override {
    return told_.policy ? policy_of(*told_.policy) : inner_->default_policy();
  }
  [[nodiscard]] std::string_view description() const override {
    return told_.description.empty() ? inner_->description() : told_.description;
  }
  [[nodiscard]] json::value schema() const override { return inner_->schema(); }
  [[nodiscard]] Status check(json::value const& args) const override {
    return inner_->check(completed(args));
  }
  [[nodiscard]] async::Task<tools::CallResult> call(tools::Call call) override {
    complete(call);
    return inner_->call(std::move(call));
  }
  [[nodiscard]] bool can_look_up(json::value const& args) const override {
    return inner_->can_look_up(completed(args));
  }
  [[nodiscard]] async::Task<tools::CallResult> look_up(tools::Call call) override {
    complete(call);
    return inner_->look_up(std::move(call));
  }

 private:
  void complete(tools::Call& call) const {
    call.args = completed(call.args);
    if (told_.timeout) call.timeout = std::min(call.timeout, *told_.timeout);
  }

  /// What the call says, then what the configuration says: members that the call has stay.
  [[nodiscard]] json::value completed(json::value const& args) const {
    if (!args.is_object() && !args.is_null()) return args;
    json::object whole = args.is_object() ? args.as_object() : json::object();
    for (auto const& member : defaults_) merge(whole, member.key(), member.value());
    if (told_.type == config::ToolType::Http) complete_http(whole);
    if (told_.type == config::ToolType::Function && !told_.function.empty())
      whole["function"] = told_.function;
    if (told_.type == config::ToolType::Process) {
      json::array command;
      for (std::string const& word : told_.command) command.emplace_back(word);
      whole["command"] = std::move(command);
      if (!told_.workdir.empty()) merge(whole, "cwd", json::value(told_.workdir));
      json::object env;
      for (auto const& [key, value] : told_.env) env[key] = value;
      if (!env.empty()) merge(whole, "env", env);
    }
    return whole;
  }

  void complete_http(json::object& whole) const {
    if (!told_.base_url.empty()) {
      json::value const* const url = whole.if_contains("url");
      if (url == nullptr) {
        whole["url"] = told_.base_url;
      } else if (url->is_string() && url->as_string().starts_with('/')) {
        whole["url"] = told_.base_url + std::string(url->as_string());
      }
    }
    if (!told_.lookup_url.empty()) merge(whole, "lookup", json::object{{"url", told_.lookup_url}});
    if (api_key_.empty()) return;
    json::object const headers{{"authorization", "Bearer " + api_key_}};
    merge(whole, "headers", headers);
  }

  /// Objects are completed member by member.
  static void merge(json::object& whole, std::string_view key, json::value const& value) {
    json::value* const had = whole.if_contains(key);
    if (had == nullptr) {
      whole[key] = value;
    } else if (had->is_object() && value.is_object()) {
      for (auto const& member : value.as_object())
        had->as_object().emplace(member.key(), member.value());
    }
  }

  std::unique_ptr<tools::Tool> inner_;
  config::Tool told_;
  std::string api_key_;
  json::object defaults_;
};

}  // namespace

std::unique_ptr<tools::Tool> make_configured_tool(std::unique_ptr<tools::Tool> inner,
                                                  config::Tool const& told, std::string api_key) {
  return std::make_unique<ConfiguredTool>(std::move(inner), told, std::move(api_key));
}

}  // namespace aether::daemon
