// SPDX-License-Identifier: Apache-2.0
#include "api/function_routes.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/function_json.h"
#include "api/json_text.h"
#include "functions/sandbox_rules.h"

namespace aether::api {
namespace {

namespace json = boost::json;
using Answer = std::optional<http::Response>;

http::Response answer_with(json::value const& body) {
  return http::json_response(200, json_text(body));
}

functions::FunctionStatus status_of(ControlPlane const& control, std::string const& id) {
  std::vector<functions::FunctionStatus> const all = control.functions();
  auto const found = std::ranges::find(all, id, &functions::FunctionStatus::id);
  if (found != all.end()) return *found;
  throw Error(ErrorCode::FunctionUnknown, fmt::format("there is no function {}", id));
}

/// {"file": "/path"} names a file of this machine; all else is what such a file holds.
DeployCall deploy_call(http::Request const& request) {
  if (request.body.empty()) {
    throw Error(ErrorCode::RequestInvalid,
                R"(the body is neither {"file": "/path/of.yaml"} nor a configuration in YAML)");
  }
  boost::system::error_code ec;
  json::value const body = json::parse(request.body, ec);
  json::value const* const file =
      !ec && body.is_object() ? body.as_object().if_contains("file") : nullptr;
  if (file == nullptr) return {.file = "request.yaml", .yaml = request.body, .function = {}};
  if (!file->is_string() || !file->as_string().starts_with('/')) {
    throw Error(ErrorCode::RequestInvalid, "file is not an absolute path");
  }
  return {.file = std::string(file->as_string()), .yaml = {}, .function = {}};
}

async::Task<http::Response> deploy(ControlPlane* control, DeployCall call) {
  std::vector<DeployReport> const reports = co_await control->deploy(std::move(call));
  json::array all;
  for (DeployReport const& report : reports) all.push_back(deploy_json(report));
  co_return answer_with(json::object{{"deploys", std::move(all)}});
}

async::Task<http::Response> rollback(ControlPlane* control, std::string id) {
  DeployReport const report = co_await control->rollback_function(std::move(id));
  json::array one{deploy_json(report)};
  co_return answer_with(json::object{{"deploys", std::move(one)}});
}

async::Task<http::Response> remove(ControlPlane* control, std::string id) {
  std::string const name = id;
  co_await control->remove_function(std::move(id));
  co_return answer_with(json::object{{"removed", name}});
}

http::Response list(ControlPlane const& control) {
  json::array all;
  for (functions::FunctionStatus const& one : control.functions())
    all.push_back(function_json(one));
  return answer_with(json::object{{"functions", std::move(all)}});
}

http::Response inspect(ControlPlane const& control, std::string const& id) {
  functions::FunctionStatus const status = status_of(control, id);
  config::Function const told = or_throw(control.function_specification(id));
  json::array rules;
  for (std::string const& rule : functions::sandbox_rules(told)) rules.emplace_back(rule);
  return answer_with(json::object{{"function", function_json(status)},
                                  {"configuration", configuration_json(told)},
                                  {"sandbox_rules", std::move(rules)}});
}

}  // namespace

async::Task<Answer> answer_of_functions(ControlPlane* control, http::Request request,
                                        std::vector<std::string> path) {
  bool const get = request.method == "GET" || request.method == "HEAD";
  bool const post = request.method == "POST";
  bool const of_all = path.size() == 2;
  bool const of_one = path.size() == 3;
  std::string const action = path.size() == 4 ? path[3] : "";
  if (of_all && get) co_return list(*control);
  if (of_one && get) co_return answer_with(function_json(status_of(*control, path[2])));
  if (get && action == "inspect") co_return inspect(*control, path[2]);
  if (of_one && request.method == "DELETE") co_return co_await remove(control, path[2]);
  if (post && action == "rollback") co_return co_await rollback(control, path[2]);
  DeployCall call;
  if (post && action == "reload") {
    call.function = path[2];
  } else if (post && of_all) {
    call = deploy_call(request);
  } else {
    co_return std::nullopt;
  }
  co_return co_await deploy(control, std::move(call));
}

}  // namespace aether::api
