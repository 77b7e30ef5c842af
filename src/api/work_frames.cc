// SPDX-License-Identifier: Apache-2.0
#include "api/work_frames.h"

#include <algorithm>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/job_request.h"

namespace aether::api {
namespace {

namespace json = boost::json;

constexpr std::size_t kAgentsMax = 64;
constexpr std::size_t kRunsMax = 64;
constexpr std::size_t kWorkerNameMax = 128;
/// Proxies cut what is silent for half a minute.
constexpr std::int64_t kWaitMax = 25'000;

Failure wrong_frame(std::string message) {
  return fail(ErrorCode::RequestInvalid, std::move(message));
}

Result<std::string> text_of(json::object const& object, std::string_view key, std::size_t most) {
  auto const* const value = object.if_contains(key);
  bool const good = value != nullptr && value->is_string() && !value->get_string().empty() &&
                    value->get_string().size() <= most;
  if (!good) return wrong_frame(fmt::format("{} is not a text of 1 to {} bytes", key, most));
  return std::string(value->get_string());
}

Result<std::int64_t> number_of(json::object const& object, std::string_view key, std::int64_t least,
                               std::int64_t most, std::int64_t otherwise) {
  auto const* const value = object.if_contains(key);
  if (value == nullptr || value->is_null()) return otherwise;
  boost::system::error_code ec;
  auto const number = value->is_number() ? value->to_number<std::int64_t>(ec) : least - 1;
  if (!ec && number >= least && number <= most) return number;
  return wrong_frame(fmt::format("{} is not a whole number from {} to {}", key, least, most));
}

Status check_version(json::object const& object) {
  TRY_ASSIGN(std::int64_t const version, number_of(object, "v", 0, 1 << 20, 0));
  if (version == jobs::kWorkVersion) return {};
  return wrong_frame(
      fmt::format("v is {}, and this Aether speaks version {} of the worker protocol", version,
                  jobs::kWorkVersion));
}

Status check_agent(WorkPlane const& plane, std::string_view name) {
  TRY_ASSIGN(json::value const declared, plane.agent(name));
  auto const* const object = declared.if_object();
  auto const* const code = object == nullptr ? nullptr : object->if_contains("code");
  if (code != nullptr && code->is_bool() && code->get_bool()) return {};
  return wrong_frame(
      fmt::format("the agent {} has no code that a worker could run: write `code: true`, "
                  "or a command, under agents:",
                  name));
}

json::object json_of(jobs::ClaimedRun const& run) {
  using std::chrono::milliseconds;
  json::object made;
  made["run"] = run.run.text;
  made["token"] = run.token;
  made["fence"] = run.fence;
  made["lease_ms"] = std::chrono::duration_cast<milliseconds>(run.lease).count();
  made["agent"] = run.agent;
  made["name"] = run.name;
  made["namespace"] = run.space;
  made["input"] = run.input;
  made["steps"] = run.steps;
  return made;
}

struct ReadFrame {
  jobs::RunId run;
  std::string token;
  std::vector<jobs::WorkMessage> messages;
};

Result<ReadFrame> read_frame(WorkPlane const& plane, json::value const& value, WallTime now) {
  auto const* const object = value.if_object();
  if (object == nullptr) return wrong_frame("a frame is not an object");
  TRY(check_version(*object));
  TRY(check_numbers(value));
  ReadFrame frame;
  TRY_ASSIGN(std::string const run, text_of(*object, "run", 64));
  TRY_ASSIGN(frame.run, jobs::parse_run_id(run));
  TRY_ASSIGN(frame.token, text_of(*object, "token", 128));
  auto const read_job = [&plane, now](json::value const& job) -> Result<jobs::RunSpec> {
    auto const find = [&plane](std::string_view name) { return plane.agent(name); };
    TRY_ASSIGN(jobs::Submission submission, read_submission(job, find, now));
    return std::move(submission.spec);
  };
  auto const* const messages = object->if_contains("messages");
  json::value const none;
  TRY_ASSIGN(frame.messages,
             jobs::read_work_messages(messages == nullptr ? none : *messages, read_job));
  return frame;
}

}  // namespace

Result<ReadClaim> read_claim(WorkPlane const& plane, json::value const& value) {
  auto const* const object = value.if_object();
  if (object == nullptr) return wrong_frame("a claim is not an object");
  TRY(check_version(*object));
  ReadClaim read;
  TRY_ASSIGN(read.claim.worker, text_of(*object, "worker", kWorkerNameMax));
  TRY_ASSIGN(auto const runs, number_of(*object, "runs", 1, kRunsMax, 1));
  TRY_ASSIGN(auto const wait, number_of(*object, "wait_ms", 0, kWaitMax, kWaitMax));
  read.claim.runs = static_cast<std::size_t>(runs);
  read.wait = std::chrono::milliseconds(wait);
  auto const* const agents = object->if_contains("agents");
  bool const is_list = agents != nullptr && agents->is_array() && !agents->get_array().empty() &&
                       agents->get_array().size() <= kAgentsMax;
  if (!is_list)
    return wrong_frame(fmt::format("agents is not a list of 1 to {} names", kAgentsMax));
  for (json::value const& name : agents->get_array()) {
    if (!name.is_string()) return wrong_frame("agents has something that is not a name");
    TRY(check_agent(plane, name.get_string()));
    read.claim.agents.emplace_back(name.get_string());
  }
  return read;
}

async::Task<json::object> answer_claim(WorkPlane* plane, ReadClaim claim) {
  async::Task<std::vector<jobs::ClaimedRun>> claiming =
      plane->claim(std::move(claim.claim), claim.wait);
  std::vector<jobs::ClaimedRun> const claimed = co_await std::move(claiming);
  json::array runs;
  for (jobs::ClaimedRun const& run : claimed) runs.push_back(json_of(run));
  co_return json::object{{"runs", std::move(runs)}};
}

async::Task<json::object> answer_frame(WorkPlane* plane, json::value frame, WallTime now) {
  ReadFrame read = or_throw(read_frame(*plane, frame, now));
  async::Task<jobs::WorkAnswers> working =
      plane->work(std::move(read.run), std::move(read.token), std::move(read.messages));
  jobs::WorkAnswers answers = co_await std::move(working);
  json::array all;
  for (json::object& answer : answers) all.push_back(std::move(answer));
  co_return json::object{{"answers", std::move(all)}};
}

json::object refusal_of(Error const& error) {
  json::object told{{"type", info(error.code()).name}, {"detail", error.message()}};
  return json::object{{"error", std::move(told)}};
}

}  // namespace aether::api
