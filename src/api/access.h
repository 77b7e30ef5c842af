// SPDX-License-Identifier: Apache-2.0
// Access: who may ask what. Pure: a caller, the tokens and what a route needs give a decision.
//
// Everybody may read the open pages. A caller on this machine is known by the kernel (SO_PEERCRED,
// or the owner of the other end of a loopback connection): the same user and root may do
// everything, other users may look. Everybody else needs a token, and its role decides. A web page
// and a proxy are never taken for their own user, who did not ask.
#pragma once
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "http/message.h"

namespace aether::api {

using config::Role;
[[nodiscard]] std::string_view role_name(Role role);

/// What a route needs. Each role grants a set of these; Open needs none.
enum class Right : std::uint8_t {
  Open,      ///< /health and /metrics.
  Look,      ///< How things stand, and what happens.
  ReadLogs,  ///< What the programs wrote: it may hold what is not for every user of this machine.
  Change,    ///< Reload, roll back, stop.
  // Of jobs, each in the namespaces that the token is for:
  ReadJobs,  ///< Inputs and outputs, too.
  Submit,    ///< New jobs, signals.
  Approve,   ///< Answers to approvals.
  Operate,   ///< Pause, cancel, resolve, fork.
  Audit,     ///< Evidence, and who was refused what.
  Work,      ///< Claim jobs of agents with code, and do them.
};
[[nodiscard]] bool grants(Role role, Right right);
/// The least role that has it, as it is written in the configuration.
[[nodiscard]] std::string_view role_needed(Right right);

using Digest = std::array<unsigned char, 32>;
/// SHA-256.
[[nodiscard]] Digest digest_of(std::string_view token);
/// Lowercase hexadecimal.
[[nodiscard]] std::string hex(Digest const& digest);
/// 64 hexadecimal digits; nothing for anything else.
[[nodiscard]] std::optional<Digest> parse_digest(std::string_view text);

/// A token that the configuration names. The token itself is not kept.
struct KnownToken {
  std::string name;
  Role role = Role::Viewer;
  Digest digest{};
  std::vector<std::string> namespaces{};  ///< Of jobs; empty: all, and the rest of Aether too.
};

/// The token of these that `bearer` is, or null. Takes the same time whichever it is, and whatever
/// part of it is right.
[[nodiscard]] KnownToken const* find_token(std::vector<KnownToken> const& tokens,
                                           std::string_view bearer);

enum class Outcome : std::uint8_t {
  Allowed,
  Unauthorized,  ///< 401: a token is missing, or not known.
  Forbidden,     ///< 403: the caller is known, and may not.
};

struct Decision {
  Outcome outcome = Outcome::Forbidden;
  std::string who;        ///< For the log: "token ci at 192.0.2.1:1", "127.0.0.1:1 (uid 1000)".
  std::string why;        ///< Of a refusal: what was asked, what it takes.
  std::string challenge;  ///< The WWW-Authenticate field of a refusal; may be empty.
  std::string actor{};    ///< For the journal: "token:ci", "uid:1000"; empty: nobody knows.
  std::vector<std::string> namespaces{};  ///< The only ones the caller is for; empty: all.
};

/// @param own_user Aether's effective uid.
[[nodiscard]] Decision decide(http::Request const& request, Right right,
                              std::vector<KnownToken> const& tokens, uid_t own_user);

}  // namespace aether::api
