// SPDX-License-Identifier: Apache-2.0
#include "api/work_routes.h"

#include <array>
#include <utility>

#include <boost/json.hpp>

#include "api/jobs_plane.h"
#include "api/json_text.h"
#include "api/work_frames.h"
#include "base/json.h"

namespace aether::api {
namespace {

namespace json = boost::json;

constexpr std::array kWorkRoutes{
    RouteInfo{"POST", "/v1/work:claim", "Wait for jobs of agents with code", Right::Work},
    RouteInfo{"POST", "/v1/work", "Say what is done of a claimed job, and ask what follows",
              Right::Work},
};

async::Task<void> write_claim(JobsPlane* jobs, ReadClaim claim, http::BodyWriter* writer) {
  async::Task<json::object> claiming = answer_claim(jobs, std::move(claim));
  json::object const answer = co_await std::move(claiming);
  co_await writer->write(json_text(answer));
}

/// As a stream: a worker that hangs up while it waits is given nothing.
http::Response claim_response(JobsPlane* jobs, ReadClaim claim) {
  http::Response response;
  response.headers.set("Content-Type", "application/json");
  response.endless = true;
  response.stream = [jobs, claim = std::move(claim)](http::BodyWriter& writer) {
    return write_claim(jobs, claim, &writer);
  };
  return response;
}

}  // namespace

std::span<RouteInfo const> work_routes() {
  return kWorkRoutes;
}

async::Task<std::optional<http::Response>> answer_of_work(ControlPlane* control,
                                                          http::Request request, Decision decision,
                                                          WallTime now) {
  JobsPlane* const jobs = control->jobs();
  if (jobs == nullptr) {
    throw Error(ErrorCode::NotFound,
                "this Aether runs no jobs; give its configuration a section agents:");
  }
  if (request.method != "POST") co_return std::nullopt;
  json::value body = or_throw(parse_json(request.body, "the body"));
  if (request.path == "/v1/work:claim") {
    ReadClaim claim = or_throw(read_claim(*jobs, body));
    claim.claim.spaces = decision.namespaces;
    co_return claim_response(jobs, std::move(claim));
  }
  if (request.path != "/v1/work") co_return std::nullopt;
  async::Task<json::object> answering = answer_frame(jobs, std::move(body), now);
  json::object const answer = co_await std::move(answering);
  co_return http::json_response(200, json_text(answer));
}

}  // namespace aether::api
