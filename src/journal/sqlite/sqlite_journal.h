// SPDX-License-Identifier: Apache-2.0
// A journal in one SQLite file: what Aether uses on one machine.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "journal/journal.h"

namespace aether::journal {

struct SqliteOptions {
  std::string path;
  std::string vfs{};  ///< SQLite's way to files, for tests; empty: the usual one.
  /// Called when a file could not be written or synced; must not return. Empty: the reason goes to
  /// the log, and the process ends with exit code 1.
  std::function<void(std::string_view why)> end_process{};
};

/// Opens the store to read and to append, or makes it (mode 0600). Faults: StoreInUse (with the
/// holder's pid), StoreVersion, StoreDamaged, StoreFull, StoreUnavailable.
[[nodiscard]] Result<std::unique_ptr<Journal>> open_sqlite_journal(SqliteOptions options);

/// Opens a store to look at it, also while another process appends to it, and also on a disk that
/// cannot be written. append() answers StoreInUse; all that it shows is of the moment of opening.
[[nodiscard]] Result<std::unique_ptr<Journal>> open_sqlite_reader(SqliteOptions options);

}  // namespace aether::journal
