// SPDX-License-Identifier: Apache-2.0
#include "api/access.h"

#include <algorithm>
#include <array>
#include <cctype>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/check.h"

namespace aether::api {
namespace {

constexpr std::string_view kRealm = R"(Bearer realm="aether")";

bool same_user(http::Peer const& peer, uid_t own_user) {
  return peer.uid == 0 || peer.uid == own_user;
}

/// A loopback peer that only passes on what others ask: a browser for a web page (Origin, or a name
/// of somebody's own that was made to point here), or a reverse proxy.
bool came_from_elsewhere(http::Headers const& headers) {
  static constexpr std::array<std::string_view, 7> kPassedOn{
      "Origin",           "Forwarded",         "Via",      "X-Forwarded-For",
      "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP"};
  for (std::string_view const name : kPassedOn) {
    if (headers.find(name) != nullptr) return true;
  }
  // Browsers say whether a page or a person asks (W3C Fetch Metadata); `none` is a person.
  std::string const* const site = headers.find("Sec-Fetch-Site");
  if (site != nullptr && *site != "none") return true;
  std::string_view host = headers.get("Host");
  if (host.starts_with('[')) return false;  // An IPv6 address.
  host = host.substr(0, host.find(':'));
  bool const address =
      host.find_first_not_of("0123456789.") == std::string_view::npos;  // IPv4, or none (HTTP/1.0)
  return !address && host != "localhost";
}

/// What follows "Bearer "; empty for another scheme; nothing without the field.
std::optional<std::string_view> bearer_of(http::Headers const& headers) {
  std::string const* const field = headers.find("Authorization");
  if (field == nullptr) return std::nullopt;
  constexpr std::string_view kScheme = "bearer ";
  std::string_view const text = *field;
  bool const bearer =
      text.size() > kScheme.size() &&
      std::ranges::equal(text.substr(0, kScheme.size()), kScheme,
                         [](unsigned char a, char b) { return std::tolower(a) == b; });
  if (!bearer) return "";
  std::string_view token = text.substr(kScheme.size());
  token.remove_prefix(std::min(token.find_first_not_of(' '), token.size()));
  return token;
}

std::string describe(http::Peer const& peer) {
  bool const known = peer.uid != static_cast<uid_t>(-1);
  return known ? fmt::format("{} (uid {})", peer.address, peer.uid) : peer.address;
}

Decision allowed(std::string who) {
  return {.outcome = Outcome::Allowed, .who = std::move(who), .why = {}, .challenge = {}};
}

/// What a token that is for some namespaces of jobs may not do at all.
bool is_beyond_jobs(Right right) {
  return right == Right::Change || right == Right::ReadLogs;
}

std::string actor_of(http::Peer const& peer) {
  bool const known = peer.uid != static_cast<uid_t>(-1);
  return known ? fmt::format("uid:{}", peer.uid) : std::string();
}

Decision by_token(http::Request const& request, Right right, KnownToken const* token) {
  std::string const asked = fmt::format("{} {}", request.method, request.path);
  if (token == nullptr) {
    return {.outcome = Outcome::Unauthorized,
            .who = describe(request.peer),
            .why = fmt::format("{} came with a token that is not known", asked),
            .challenge = fmt::format("{}, error=\"invalid_token\"", kRealm)};
  }
  std::string who = fmt::format("token {} at {}", token->name, request.peer.address);
  std::string actor = "token:" + token->name;
  bool const is_too_far = !token->namespaces.empty() && is_beyond_jobs(right);
  if (grants(token->role, right) && !is_too_far) {
    Decision decision = allowed(std::move(who));
    decision.actor = std::move(actor);
    decision.namespaces = token->namespaces;
    return decision;
  }
  if (grants(token->role, right)) {
    return {.outcome = Outcome::Forbidden,
            .who = std::move(who),
            .why = fmt::format("{} is for tokens without namespaces, and the token {} is for jobs "
                               "in {} only",
                               asked, token->name, fmt::join(token->namespaces, ", ")),
            .challenge = {},
            .actor = std::move(actor)};
  }
  return {.outcome = Outcome::Forbidden,
          .who = std::move(who),
          .why = fmt::format("{} needs the role {}, and the token {} has the role {}", asked,
                             role_needed(right), token->name, role_name(token->role)),
          .challenge = fmt::format("{}, error=\"insufficient_scope\", scope=\"{}\"", kRealm,
                                   role_needed(right)),
          .actor = std::move(actor)};
}

/// Whether this machine's kernel vouches for the caller.
bool may_as_local(http::Request const& request, Right right, uid_t own_user) {
  http::Peer const& peer = request.peer;
  if (peer.unix_socket) return same_user(peer, own_user);
  if (!peer.loopback || came_from_elsewhere(request.headers)) return false;
  return right == Right::Look || same_user(peer, own_user);
}

}  // namespace

std::string_view role_name(Role role) {
  switch (role) {
    case Role::Viewer:
      return "viewer";
    case Role::Submitter:
      return "submitter";
    case Role::Approver:
      return "approver";
    case Role::Operator:
      return "operator";
    case Role::Auditor:
      return "auditor";
    case Role::Worker:
      return "worker";
  }
  return "unknown";
}

bool grants(Role role, Right right) {
  switch (right) {
    case Right::Open:
    case Right::Look:
    case Right::ReadLogs:
    case Right::ReadJobs:
      return true;
    case Right::Change:
    case Right::Operate:
      return role == Role::Operator;
    case Right::Submit:
      return role == Role::Submitter || role == Role::Operator;
    case Right::Approve:  // Not the operator: who runs a machine does not approve what it does.
      return role == Role::Approver;
    case Right::Audit:
      return role == Role::Auditor || role == Role::Operator;
    case Right::Work:
      return role == Role::Worker || role == Role::Operator;
  }
  return false;
}

std::string_view role_needed(Right right) {
  switch (right) {
    case Right::Open:
    case Right::Look:
    case Right::ReadLogs:
    case Right::ReadJobs:
      return role_name(Role::Viewer);
    case Right::Submit:
      return role_name(Role::Submitter);
    case Right::Approve:
      return role_name(Role::Approver);
    case Right::Audit:
      return role_name(Role::Auditor);
    case Right::Work:
      return role_name(Role::Worker);
    case Right::Change:
    case Right::Operate:
      break;
  }
  return role_name(Role::Operator);
}

Digest digest_of(std::string_view token) {
  Digest digest{};
  unsigned size = 0;
  int const done =
      ::EVP_Digest(token.data(), token.size(), digest.data(), &size, ::EVP_sha256(), nullptr);
  AETHER_CHECK(done == 1 && size == digest.size(), "OpenSSL has no SHA-256");
  return digest;
}

std::string hex(Digest const& digest) {
  std::string text;
  for (unsigned char const byte : digest) text += fmt::format("{:02x}", byte);
  return text;
}

std::optional<Digest> parse_digest(std::string_view text) {
  Digest digest{};
  if (text.size() != digest.size() * 2) return std::nullopt;
  auto const value = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  for (std::size_t i = 0; i < digest.size(); ++i) {
    int const high = value(text[2 * i]);
    int const low = value(text[2 * i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    digest[i] = static_cast<unsigned char>(high * 16 + low);
  }
  return digest;
}

KnownToken const* find_token(std::vector<KnownToken> const& tokens, std::string_view bearer) {
  Digest const asked = digest_of(bearer);
  KnownToken const* found = nullptr;
  for (KnownToken const& token : tokens) {
    // Each is compared, in constant time, although the digests tell little about the token.
    bool const same = ::CRYPTO_memcmp(token.digest.data(), asked.data(), asked.size()) == 0;
    if (same) found = &token;
  }
  return found;
}

Decision decide(http::Request const& request, Right right, std::vector<KnownToken> const& tokens,
                uid_t own_user) {
  if (right == Right::Open) return allowed(describe(request.peer));
  // A token that was sent decides, also on this machine: nothing else would tell that it is wrong.
  if (auto const bearer = bearer_of(request.headers)) {
    return by_token(request, right, find_token(tokens, *bearer));
  }
  if (may_as_local(request, right, own_user)) {
    Decision decision = allowed(describe(request.peer));
    decision.actor = actor_of(request.peer);
    return decision;
  }
  std::string why = fmt::format("{} {} is for this machine's programs of the same user and root",
                                request.method, request.path);
  bool const a_token_helps = !tokens.empty();
  why += a_token_helps ? fmt::format(", or a token with the role {}", role_needed(right))
                       : "; use the control socket, or name a token under api.tokens";
  return {.outcome = a_token_helps ? Outcome::Unauthorized : Outcome::Forbidden,
          .who = describe(request.peer),
          .why = std::move(why),
          .challenge = a_token_helps ? std::string(kRealm) : std::string(),
          .actor = actor_of(request.peer)};
}

}  // namespace aether::api
