// SPDX-License-Identifier: Apache-2.0
#include "daemon/jobs_store.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <utility>

#include <fmt/format.h>

#include "journal/memory/memory_journal.h"
#include "journal/postgres/postgres_journal.h"
#include "journal/sqlite/sqlite_journal.h"

namespace aether::daemon {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStoreName = "aether.db";
constexpr std::string_view kSharedName = "aether-postgres";
/// The name of the journal in its checkpoints.
constexpr std::string_view kOrigin = "aether-journal";

/// For those who verify without the right to sign.
Status write_public_key(std::string const& path, std::string const& text) {
  if (::access(path.c_str(), F_OK) == 0) return {};
  std::ofstream file(path);
  file << text << '\n';
  file.close();
  if (!file) return fail(system_error("write", path));
  return {};
}

}  // namespace

std::string store_path(config::Config const& config) {
  bool const is_shared = config.store.type == config::StoreType::Postgres;
  if (!config.store.path.empty() && !is_shared) return config.store.path;
  std::error_code ec;
  fs::path const whole = fs::absolute(config.path, ec);
  return ((ec ? fs::path(config.path) : whole).parent_path() /
          (is_shared ? kSharedName : kStoreName))
      .string();
}

std::string store_name(config::Config const& config) {
  if (config.store.type == config::StoreType::Memory) return "in memory, forgotten at the end";
  if (config.store.type == config::StoreType::Postgres)
    return journal::postgres_name(config.store.path);
  return store_path(config);
}

std::string store_key_path(std::string const& store) {
  return store + ".key";
}

Result<std::unique_ptr<journal::Journal>> open_store(config::Config const& config) {
  if (config.store.type == config::StoreType::Memory) return journal::open_memory_journal();
  if (config.store.type == config::StoreType::Postgres)
    return journal::open_postgres_journal({.url = config.store.path});
  return journal::open_sqlite_journal({.path = store_path(config)});
}

Result<std::unique_ptr<journal::Journal>> open_store_alone(config::Config const& config) {
  if (config.store.type != config::StoreType::Postgres) return open_store(config);
  return journal::open_postgres_journal({.url = config.store.path, .alone = true});
}

Result<journal::Signer> open_signer(config::Config const& config) {
  if (config.store.type == config::StoreType::Memory)
    return journal::Signer::from_seed(std::string(kOrigin), journal::secret_bytes(32));
  std::string const path = store_key_path(store_path(config));
  TRY_ASSIGN(journal::Signer signer, journal::Signer::load_or_create(path, std::string(kOrigin)));
  TRY(write_public_key(path + ".pub", signer.verifier().text()));
  return signer;
}

std::uint64_t store_bytes(std::string const& store) {
  std::uint64_t bytes = 0;
  for (std::string const& file : {store, store + "-wal"}) {
    struct stat status{};
    if (::stat(file.c_str(), &status) == 0) bytes += static_cast<std::uint64_t>(status.st_size);
  }
  return bytes;
}

Result<std::unique_ptr<journal::Journal>> look_into_store(config::Config const& config) {
  if (config.store.type == config::StoreType::Postgres)
    return journal::open_postgres_reader({.url = config.store.path});
  std::string const store = store_path(config);
  struct stat status{};
  if (::stat(store.c_str(), &status) != 0) {
    return fail(ErrorCode::StoreUnavailable,
                fmt::format("there is no store {}; name the configuration with -c FILE", store));
  }
  return journal::open_sqlite_reader({.path = store});
}

Result<std::optional<std::string>> public_key_of(std::string const& store) {
  std::string const path = store_key_path(store) + ".pub";
  std::ifstream file(path);
  std::string line;
  if (!file || !std::getline(file, line) || line.empty()) return std::nullopt;
  return line;
}

}  // namespace aether::daemon
