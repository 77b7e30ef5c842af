// SPDX-License-Identifier: Apache-2.0
#include "api/access.h"

#include <array>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "api/refusal_log.h"
#include "api/routes.h"
#include "base/time.h"

namespace aether::api {
namespace {

constexpr uid_t kOwn = 1000;
constexpr uid_t kOther = 1001;
constexpr uid_t kUnknown = static_cast<uid_t>(-1);
constexpr std::array kRoles{Role::Viewer, Role::Submitter, Role::Approver, Role::Operator,
                            Role::Auditor};

/// One token for each role; the token is the role's name with a suffix.
std::string secret_of(Role role) {
  return std::string(role_name(role)) + "-0123456789";
}
std::vector<KnownToken> tokens() {
  std::vector<KnownToken> all;
  for (Role const role : kRoles) {
    all.push_back(
        {.name = std::string(role_name(role)), .role = role, .digest = digest_of(secret_of(role))});
  }
  return all;
}

struct Caller {
  std::string what;
  http::Peer peer;
  http::Headers headers;
  std::string may;  ///< "all", "look" or "nothing", without a token.
};

http::Peer loopback(uid_t user) {
  return {.uid = user, .address = "127.0.0.1:5000", .loopback = true};
}

std::vector<Caller> callers() {
  std::vector<Caller> all{
      {"own socket", {.unix_socket = true, .pid = 7, .uid = kOwn, .address = "unix"}, {}, "all"},
      {"root on the socket", {.unix_socket = true, .uid = 0, .address = "unix"}, {}, "all"},
      {"another on the socket",
       {.unix_socket = true, .uid = kOther, .address = "unix"},
       {},
       "nothing"},
      {"own loopback", loopback(kOwn), {}, "all"},
      {"root on loopback", loopback(0), {}, "all"},
      {"another on loopback", loopback(kOther), {}, "look"},
      {"nobody knows who on loopback", loopback(kUnknown), {}, "look"},
      {"another machine", {.address = "192.0.2.1:5000"}, {}, "nothing"},
      {"another machine as root", {.uid = 0, .address = "192.0.2.1:5000"}, {}, "nothing"},
      {"by name", loopback(kOwn), {{"Host", "localhost:9090"}}, "all"},
      {"by address", loopback(kOwn), {{"Host", "127.0.0.1:9090"}}, "all"},
      {"by v6 address", loopback(kOwn), {{"Host", "[::1]:9090"}}, "all"},
      {"a name made to point here", loopback(kOwn), {{"Host", "evil.example:9090"}}, "nothing"},
      {"a person's browser", loopback(kOwn), {{"Sec-Fetch-Site", "none"}}, "all"},
  };
  std::vector<http::Headers::Field> const passed_on{
      {"Origin", "http://127.0.0.1:9090"}, {"Origin", "null"},
      {"Sec-Fetch-Site", "cross-site"},    {"Sec-Fetch-Site", "same-origin"},
      {"Forwarded", "for=192.0.2.1"},      {"Via", "1.1 proxy"},
      {"X-Forwarded-For", "192.0.2.1"},    {"X-Forwarded-Host", "a.example"},
      {"X-Forwarded-Proto", "https"},      {"X-Real-IP", "192.0.2.1"}};
  for (auto const& field : passed_on) {
    all.push_back({"passed on with " + field.first, loopback(kOwn), {field}, "nothing"});
  }
  return all;
}

http::Request request_of(RouteInfo const& route, Caller const& caller) {
  http::Request request;
  request.method = route.method;
  request.path = route.path;
  request.headers = caller.headers;
  request.peer = caller.peer;
  return request;
}

bool may(std::string_view what, Right right) {
  return right == Right::Open || what == "all" || (what == "look" && right == Right::Look);
}

/// By hand, so that no mistake in the code is a mistake here.
bool has(Role role, Right right) {
  switch (right) {
    case Right::Change:
    case Right::Operate:
      return role == Role::Operator;
    case Right::Submit:
      return role == Role::Submitter || role == Role::Operator;
    case Right::Approve:
      return role == Role::Approver;
    case Right::Audit:
      return role == Role::Auditor || role == Role::Operator;
    case Right::Work:
      return role == Role::Worker || role == Role::Operator;
    default:
      return true;
  }
}

std::string least_role_of(Right right) {
  if (right == Right::Submit) return "submitter";
  if (right == Right::Approve) return "approver";
  if (right == Right::Work) return "worker";
  return right == Right::Audit ? "auditor" : "operator";
}

/// Every route, asked by every caller.
struct Case {
  RouteInfo route;
  Caller caller;
  [[nodiscard]] std::string what() const {
    return std::string(route.method) + " " + std::string(route.path) + " from " + caller.what;
  }
};
std::vector<Case> cases() {
  std::vector<Case> all;
  for (RouteInfo const& route : routes()) {
    for (Caller const& caller : callers()) all.push_back({route, caller});
  }
  return all;
}

TEST(Access, OfEveryRouteToEveryCallerWithoutAToken) {
  for (Case const& one : cases()) {
    Right const right = one.route.right;
    http::Request const request = request_of(one.route, one.caller);
    Decision const plain = decide(request, right, {}, kOwn);
    Decision const guarded = decide(request, right, tokens(), kOwn);
    bool const allowed = may(one.caller.may, right);
    // Where there are tokens, one would help; where there are none, nothing does.
    EXPECT_EQ(plain.outcome, allowed ? Outcome::Allowed : Outcome::Forbidden) << one.what();
    EXPECT_EQ(guarded.outcome, allowed ? Outcome::Allowed : Outcome::Unauthorized) << one.what();
    EXPECT_EQ(guarded.challenge, allowed ? "" : R"(Bearer realm="aether")");
    EXPECT_EQ(plain.challenge, "");
  }
}

TEST(Access, OfEveryRouteToEveryCallerWithATokenIsTheTokensAlone) {
  for (Case const& one : cases()) {
    for (Role const role : kRoles) {
      http::Request request = request_of(one.route, one.caller);
      request.headers.set("Authorization", "Bearer " + secret_of(role));
      Decision const decision = decide(request, one.route.right, tokens(), kOwn);
      bool const allowed = has(role, one.route.right);
      EXPECT_EQ(decision.outcome, allowed ? Outcome::Allowed : Outcome::Forbidden)
          << one.what() << " as " << role_name(role);
      if (allowed) continue;
      EXPECT_EQ(decision.challenge,
                R"(Bearer realm="aether", error="insufficient_scope", scope=")" +
                    least_role_of(one.route.right) + '"');
    }
  }
}

TEST(Access, OfATokenWithNamespacesIsForJobsAlone) {
  std::vector<KnownToken> known = tokens();
  for (KnownToken& token : known) token.namespaces = {"blue", "green"};
  for (RouteInfo const& route : routes()) {
    http::Request request;
    request.method = route.method;
    request.path = route.path;
    request.headers.set("Authorization", "Bearer " + secret_of(Role::Operator));
    Decision const decision = decide(request, route.right, known, kOwn);
    bool const allowed = route.right != Right::Change && route.right != Right::ReadLogs &&
                         has(Role::Operator, route.right);
    EXPECT_EQ(decision.outcome, allowed ? Outcome::Allowed : Outcome::Forbidden) << route.path;
    bool const open = route.right == Right::Open;
    EXPECT_EQ(decision.namespaces.size(), allowed && !open ? 2U : 0U) << route.path;
    if (!open) EXPECT_EQ(decision.actor, "token:operator") << route.path;
  }
}

TEST(Access, OfEveryRouteWithAnUnknownTokenIsUnauthorizedAlsoForRoot) {
  std::vector<std::string> const wrong{"Bearer viewer-012345678",
                                       "Bearer viewer-01234567890",
                                       "Bearer",
                                       "Bearer ",
                                       "Basic dmlld2VyLTAxMjM0NTY3ODk=",
                                       "",
                                       "viewer-0123456789",
                                       "Bearer viewer-0123456789 x"};
  for (Case const& one : cases()) {
    bool const open = one.route.right == Right::Open;
    for (std::string const& field : wrong) {
      http::Request request = request_of(one.route, one.caller);
      request.headers.set("Authorization", field);
      Outcome const wanted = open ? Outcome::Allowed : Outcome::Unauthorized;
      EXPECT_EQ(decide(request, one.route.right, tokens(), kOwn).outcome, wanted) << one.what();
      EXPECT_EQ(decide(request, one.route.right, {}, kOwn).outcome, wanted) << one.what();
    }
  }
}

TEST(Access, TakesTheSchemeInAnyCase) {
  http::Request request;
  request.path = "/v1/status";
  for (std::string const scheme : {"Bearer ", "bearer ", "BEARER  "}) {
    request.headers.set("Authorization", scheme + secret_of(Role::Viewer));
    EXPECT_EQ(decide(request, Right::Look, tokens(), kOwn).outcome, Outcome::Allowed) << scheme;
  }
}

TEST(Access, IsNamedForTheLogWithoutTheToken) {
  http::Request request;
  request.path = "/v1/reload";
  request.peer = {.address = "192.0.2.1:9"};
  request.headers.set("Authorization", "Bearer " + secret_of(Role::Operator));
  Decision const decision = decide(request, Right::Change, tokens(), kOwn);
  EXPECT_EQ(decision.who, "token operator at 192.0.2.1:9");
  request.headers.set("Authorization", "Bearer secret-guess");
  Decision const refused = decide(request, Right::Change, tokens(), kOwn);
  EXPECT_EQ(refused.who, "192.0.2.1:9");
  EXPECT_FALSE(refused.why.contains("secret-guess"));
}

TEST(Access, OfRoutesThatChangeSomethingIsNeverForViewers) {
  for (RouteInfo const& route : routes()) {
    bool const changes = !grants(Role::Viewer, route.right) && route.right != Right::Audit;
    EXPECT_EQ(changes, route.method != "GET") << route.path;
  }
}

TEST(Digest, IsSha256) {
  // FIPS 180-4, appendix: "abc".
  Digest const digest = digest_of("abc");
  EXPECT_EQ(hex(digest), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(parse_digest(hex(digest)), digest);
  EXPECT_EQ(parse_digest(std::string(64, 'g')), std::nullopt);
  EXPECT_EQ(parse_digest("ba78"), std::nullopt);
}

/// A clock that stands still.
class Standing final : public Clock {
 public:
  [[nodiscard]] Instant now() const override { return at; }
  [[nodiscard]] WallTime wall() const override { return {}; }
  Instant at{};
};

TEST(RefusalLog, TellsABurstAndThenCountsWhatItLeavesOut) {
  Standing clock;
  RefusalLog log(clock);
  for (std::uint64_t i = 0; i < kRefusalBurst; ++i) EXPECT_EQ(log.next(), 0U);
  for (int i = 0; i < 7; ++i) EXPECT_EQ(log.next(), std::nullopt);
  clock.at += kRefusalPause;
  EXPECT_EQ(log.next(), 7U);
  EXPECT_EQ(log.next(), std::nullopt);
  clock.at += kRefusalPause * 1000;
  for (std::uint64_t i = 0; i < kRefusalBurst; ++i) EXPECT_TRUE(log.next()) << i;
  EXPECT_EQ(log.next(), std::nullopt);
}

}  // namespace
}  // namespace aether::api
