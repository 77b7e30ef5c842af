// SPDX-License-Identifier: Apache-2.0
#include "journal/sqlite/schema.h"

#include <fmt/format.h>

namespace aether::journal {
namespace {

constexpr char const* kTables = R"(
CREATE TABLE event(
  position INTEGER PRIMARY KEY,
  stream INTEGER NOT NULL,    -- stream.id
  sequence INTEGER NOT NULL,
  previous INTEGER NOT NULL,  -- the position of the stream's event before, 0: none
  fence INTEGER NOT NULL,
  at INTEGER NOT NULL,        -- milliseconds since 1970
  cause INTEGER,
  kind TEXT NOT NULL,
  mark INTEGER NOT NULL,      -- 0 point, 1 open, 2 close
  span TEXT,
  actor TEXT,
  keys TEXT,                  -- one a line
  blobs BLOB,                 -- 32 bytes each
  body TEXT NOT NULL,
  leaf BLOB NOT NULL          -- SHA-256(0x00 || line)
) STRICT;
CREATE TABLE blob(
  id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, salt BLOB, content BLOB
) STRICT;
CREATE TABLE checkpoint(id INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT;
-- What follows could be made again from the events.
CREATE TABLE stream(
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  last INTEGER NOT NULL,
  fence INTEGER NOT NULL,
  head INTEGER NOT NULL,
  marks INTEGER NOT NULL      -- how many of its events open or close a span
) STRICT;
CREATE TABLE taken(key TEXT PRIMARY KEY, position INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE node(
  level INTEGER NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY(level, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE record(
  view TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY(view, key)
) STRICT, WITHOUT ROWID;
)";

Status make_tables(Database& database) {
  TRY(database.run("BEGIN IMMEDIATE"));
  Status made = database.run(kTables);
  if (made) {
    made = database.run(fmt::format("PRAGMA application_id={};PRAGMA user_version={};",
                                    kApplicationId, kStoreVersion));
  }
  if (made) made = database.run("COMMIT");
  if (!made) (void)database.run("ROLLBACK");
  return made;
}

/// True if the tables are there, false if the file is new.
Result<bool> check_version(Database& database) {
  TRY_ASSIGN(std::int64_t const tables, database.number("SELECT count(*) FROM sqlite_schema"));
  TRY_ASSIGN(std::int64_t const application, database.number("PRAGMA application_id"));
  TRY_ASSIGN(std::int64_t const version, database.number("PRAGMA user_version"));
  if (tables == 0 && application == 0) return false;
  if (application != kApplicationId || version < 1) {
    return fail(
        ErrorCode::StoreDamaged,
        fmt::format("opening {}: it is a database, but no store of Aether's", database.path()));
  }
  if (version > kStoreVersion) {
    return fail(ErrorCode::StoreVersion,
                fmt::format("opening the store {}: it has version {}, and this Aether knows "
                            "versions up to {}",
                            database.path(), version, kStoreVersion));
  }
  return true;
}

}  // namespace

Status prepare_store(Database& database) {
  // The page size must be set before the first table; FULL syncs the log at each commit; only this
  // connection may copy the log (SQLite 3.40 has a defect when two do), and it does so by itself,
  // because SQLite would keep an error of its automatic copying from us.
  TRY(database.run("PRAGMA page_size=16384"));
  TRY_ASSIGN(std::string const mode, database.text("PRAGMA journal_mode=WAL"));
  if (mode != "wal") {
    return fail(ErrorCode::StoreUnavailable,
                fmt::format("opening the store {}: its file system has no shared memory that a "
                            "write-ahead log needs; choose a local disk",
                            database.path()));
  }
  TRY(
      database.run("PRAGMA synchronous=FULL;PRAGMA wal_autocheckpoint=0;PRAGMA secure_delete=ON;"
                   "PRAGMA cache_size=-16384;PRAGMA trusted_schema=OFF;PRAGMA cell_size_check=ON"));
  TRY_ASSIGN(bool const has_tables, check_version(database));
  return has_tables ? Status() : make_tables(database);
}

Status prepare_reader(Database& database) {
  TRY(
      database.run("PRAGMA wal_autocheckpoint=0;PRAGMA query_only=ON;PRAGMA cache_size=-8192;"
                   "PRAGMA trusted_schema=OFF;PRAGMA cell_size_check=ON"));
  TRY_ASSIGN(bool const has_tables, check_version(database));
  if (has_tables) return {};
  return fail(ErrorCode::StoreDamaged,
              fmt::format("opening the store {}: it is empty", database.path()));
}

}  // namespace aether::journal
