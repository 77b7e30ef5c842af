// SPDX-License-Identifier: Apache-2.0
// The tables of a store, their version, and how a connection is set. docs/journal.md has the
// tables.
#pragma once
#include "base/result.h"
#include "journal/sqlite/database.h"

namespace aether::journal {

/// The tables that this release writes. A release reads all versions up to its own.
inline constexpr std::int64_t kStoreVersion = 1;
/// "AEth": in the file's header, so that file(1) and we know whose it is.
inline constexpr std::int64_t kApplicationId = 0x41457468;

/// Sets a writing connection and makes the tables of a new store. StoreVersion for a store of a
/// later release, StoreDamaged for a file of somebody else.
Status prepare_store(Database& database);
Status prepare_reader(Database& database);

}  // namespace aether::journal
