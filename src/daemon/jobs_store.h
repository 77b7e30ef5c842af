// SPDX-License-Identifier: Apache-2.0
// Where the journal of a configuration is, how it is opened, and the key that signs it. For the
// daemon, and for commands that look at a store without one.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "config/config.h"
#include "journal/journal.h"
#include "journal/signer.h"

namespace aether::daemon {

/// The file of a SQLite store: store.path, else `aether.db` beside the configuration. Of a store in
/// PostgreSQL the file that its key is named after, beside the configuration.
[[nodiscard]] std::string store_path(config::Config const& config);
/// Where the store is, for people: the path, or the URL without its password.
[[nodiscard]] std::string store_name(config::Config const& config);
/// The private key: beside the store, for its owner only. The public one, which anybody may read
/// and should keep elsewhere, is in the same place with ".pub".
[[nodiscard]] std::string store_key_path(std::string const& store);

/// To append to. Faults are those of journal::open_sqlite_journal and open_postgres_journal.
[[nodiscard]] Result<std::unique_ptr<journal::Journal>> open_store(config::Config const& config);
/// As open_store, while nobody else appends to it; StoreInUse if somebody does.
[[nodiscard]] Result<std::unique_ptr<journal::Journal>> open_store_alone(
    config::Config const& config);
/// The key of the store; made, with its public half, if there is none.
[[nodiscard]] Result<journal::Signer> open_signer(config::Config const& config);

/// Of the store file and its log; 0 if there is none.
[[nodiscard]] std::uint64_t store_bytes(std::string const& store);

/// To look at a store, also while an Aether runs on it.
[[nodiscard]] Result<std::unique_ptr<journal::Journal>> look_into_store(
    config::Config const& config);
/// The public key beside the store; nothing if there is none.
[[nodiscard]] Result<std::optional<std::string>> public_key_of(std::string const& store);

}  // namespace aether::daemon
