// SPDX-License-Identifier: Apache-2.0
// A journal in a PostgreSQL database, which several processes on several machines share.
#pragma once
#include <chrono>
#include <memory>
#include <string>

#include "base/time.h"
#include "journal/journal.h"

namespace aether::journal {

struct PostgresOptions {
  std::string url;  ///< postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=...; as libpq takes it.
  /// For so long batches wait for a server that is away (a restart takes a second or two). Those
  /// that come later are refused until it is back.
  Duration patience = std::chrono::seconds(10);
  /// Refused with StoreInUse while others append to the store; they are while it is open.
  bool alone = false;
};

/// Opens the store to read and to append; makes its tables, or brings them to this release's
/// version. Faults: StoreInUse, StoreVersion, StoreDamaged, StoreFull, StoreUnavailable.
[[nodiscard]] Result<std::unique_ptr<Journal>> open_postgres_journal(PostgresOptions options);

/// Opens it to look at it. append() answers StoreInUse. Events are those of the moment of opening.
[[nodiscard]] Result<std::unique_ptr<Journal>> open_postgres_reader(PostgresOptions options);

/// The URL without its password, for people.
[[nodiscard]] std::string postgres_name(std::string_view url);

}  // namespace aether::journal
