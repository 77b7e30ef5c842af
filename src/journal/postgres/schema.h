// SPDX-License-Identifier: Apache-2.0
// The tables of a store in PostgreSQL, the function that appends to them, and their versions.
// docs/journal.md has the tables.
#pragma once
#include <cstdint>
#include <span>

#include "base/result.h"
#include "journal/postgres/connection.h"

namespace aether::journal::postgres {

/// What this release writes. Every migration up to it is applied when a store is opened to append.
inline constexpr std::int64_t kSchemaVersion = 1;

struct Migration;
/// Those of this release: the n-th takes a store of version n to n + 1.
[[nodiscard]] std::span<Migration const> all_migrations();

/// Brings the schema `aether` of the database to this release's version, all or nothing; several
/// processes may do so at once. StoreVersion: a later release wrote it. StoreUnavailable: the
/// database cannot hold a store (its encoding, its settings, our rights).
Status prepare_store(Connection& connection,
                     std::span<Migration const> migrations = all_migrations());
/// Warns of a server that may forget what it answered.
Status look_at_durability(Connection& connection);
/// For those who only look: as prepare_store, and changes nothing.
Status check_store(Connection& connection);

}  // namespace aether::journal::postgres
