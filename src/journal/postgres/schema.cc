// SPDX-License-Identifier: Apache-2.0
#include "journal/postgres/schema.h"

#include <iterator>

#include <fmt/format.h>

#include "base/log.h"
#include "journal/postgres/tables.h"

namespace aether::journal::postgres {
namespace {

static_assert(std::size(kMigrations) == kSchemaVersion);

/// Of the advisory lock that one process at a time migrates under: "AEth" and 1.
constexpr std::int64_t kMigrationLock = (std::int64_t{0x41457468} << 32U) + 1;

/// 0: there is none.
Result<std::int64_t> version_of(Connection& connection) {
  // Not to_regclass(): its cache does not hear of what was made while this one waited for the lock.
  TRY_ASSIGN(Rows const found,
             connection.ask("SELECT count(*) FROM pg_class c JOIN pg_namespace n ON "
                            "n.oid=c.relnamespace WHERE n.nspname='aether' AND "
                            "c.relname='version'"));
  if (found.number(0, 0) == 0) return 0;
  TRY_ASSIGN(Rows const version, connection.ask("SELECT max(number)::bigint FROM aether.version"));
  return version.number(0, 0);
}

Status check_version(std::int64_t version, std::size_t known = kSchemaVersion) {
  if (version <= static_cast<std::int64_t>(known)) return {};
  return fail(ErrorCode::StoreVersion,
              fmt::format("opening the store: its tables have version {}, and this Aether knows "
                          "versions up to {}: use the release that wrote it, or a later one",
                          version, known));
}

Status check_settings(Connection& connection) {
  if (connection.setting("server_encoding") != "UTF8") {
    return fail(ErrorCode::StoreUnavailable,
                fmt::format("opening the store: the database has the encoding {}; make one with "
                            "ENCODING 'UTF8'",
                            connection.setting("server_encoding")));
  }
  TRY_ASSIGN(Rows const settings,
             connection.ask("SELECT current_setting('server_version_num')::bigint, "
                            "current_setting('synchronous_commit')"));
  if (settings.number(0, 0) < 140'000) {
    return fail(ErrorCode::StoreUnavailable,
                fmt::format("opening the store: PostgreSQL {} is too old; 14 is the first that is "
                            "known to do",
                            connection.setting("server_version")));
  }
  std::string_view const commit = settings.text(0, 1);
  // Answered is durable: a looser setting of the server is not for this connection.
  if (commit == "off" || commit == "local") TRY(connection.run("SET synchronous_commit = on"));
  return {};
}

Status migrate(Connection& connection, std::span<Migration const> migrations) {
  TRY_ASSIGN(std::int64_t const before, version_of(connection));
  TRY(check_version(before, migrations.size()));
  // IF NOT EXISTS would want the right to make schemas also where there is one.
  TRY_ASSIGN(Rows const schemas,
             connection.ask("SELECT count(*) FROM pg_namespace WHERE nspname='aether'"));
  if (schemas.number(0, 0) == 0) TRY(connection.run("CREATE SCHEMA aether"));
  TRY(
      connection.run("CREATE TABLE IF NOT EXISTS aether.version("
                     "number bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"));
  std::int64_t version = before;
  for (Migration const& next : migrations.subspan(static_cast<std::size_t>(before))) {
    TRY(connection.run(next.tables));
    TRY(connection.run(next.functions));
    TRY(connection.ask("INSERT INTO aether.version(number) VALUES($1)",
                       Values().number(++version)));
  }
  return {};
}

}  // namespace

std::span<Migration const> all_migrations() {
  return kMigrations;
}

Status prepare_store(Connection& connection, std::span<Migration const> migrations) {
  TRY(check_settings(connection));
  TRY_ASSIGN(std::int64_t const version, version_of(connection));
  TRY(check_version(version, migrations.size()));
  if (version == static_cast<std::int64_t>(migrations.size())) return {};
  TRY(connection.run("BEGIN"));
  Status done;
  Result<Rows> const locked =
      connection.ask("SELECT pg_advisory_xact_lock($1)::text", Values().number(kMigrationLock));
  done = locked ? migrate(connection, migrations) : Status(fail(locked.error()));
  if (done) done = connection.run("COMMIT");
  if (!done && connection.is_alive()) (void)connection.run("ROLLBACK");
  return done;
}

Status look_at_durability(Connection& connection) {
  TRY_ASSIGN(
      Rows const settings,
      connection.ask("SELECT current_setting('fsync'), current_setting('full_page_writes')"));
  if (settings.text(0, 0) != "on" || settings.text(0, 1) != "on") {
    log::warn(
        "the store's server runs with fsync or full_page_writes off: after a loss of power it may "
        "have forgotten what it answered");
  }
  return {};
}

Status check_store(Connection& connection) {
  TRY_ASSIGN(std::int64_t const version, version_of(connection));
  if (version > 0) return check_version(version);
  return fail(ErrorCode::StoreUnavailable,
              "opening the store: the database has no schema `aether`; the first `aether up` makes "
              "it");
}

}  // namespace aether::journal::postgres
