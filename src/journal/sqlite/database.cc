// SPDX-License-Identifier: Apache-2.0
#include "journal/sqlite/database.h"

#include <errno.h>
#include <sqlite3.h>
#include <unistd.h>

#include <filesystem>

#include <fmt/format.h>

namespace aether::journal {
namespace {

/// Nobody has the store open, and nobody can open it to write: its folder is read-only. SQLite
/// would want to make the shared memory of a log, even to read.
bool cannot_change(std::string const& path) {
  std::filesystem::path const folder = std::filesystem::path(path).parent_path();
  bool const has_log = ::access((path + "-wal").c_str(), F_OK) == 0;
  return !has_log && ::access(folder.empty() ? "." : folder.c_str(), W_OK) != 0;
}

std::string immutable_uri(std::string const& path) {
  std::string uri = "file:";
  for (char const c : path) {
    bool const is_special = c == '%' || c == '?' || c == '#';
    uri += is_special ? fmt::format("%{:02X}", static_cast<unsigned char>(c)) : std::string(1, c);
  }
  return uri + "?immutable=1";
}

ErrorCode code_of(int code) {
  switch (code & 0xff) {
    case SQLITE_FULL:
      return ErrorCode::StoreFull;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return ErrorCode::StoreDamaged;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_BUSY:
      return ErrorCode::StoreUnavailable;
    default:
      return ErrorCode::Internal;
  }
}

bool is_full(int errno_value) {
  return errno_value == ENOSPC || errno_value == EDQUOT;
}

Error error_of(sqlite3* database, std::string_view path, std::string_view doing) {
  int const code = sqlite3_extended_errcode(database);
  int const errno_value = (code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN
                              ? sqlite3_system_errno(database)
                              : 0;
  ErrorCode const kind = is_full(errno_value) ? ErrorCode::StoreFull : code_of(code);
  return {
      kind,
      fmt::format("{} the store {}: {} (SQLite {})", doing, path, sqlite3_errmsg(database), code),
      errno_value};
}

}  // namespace

void Statement::Finalize::operator()(sqlite3_stmt* statement) const {
  sqlite3_finalize(statement);
}

void Statement::bind_one(int at, std::int64_t value) {
  sqlite3_bind_int64(statement_.get(), at, value);
}
void Statement::bind_one(int at, std::string_view text) {
  sqlite3_bind_text(statement_.get(), at, text.data(), static_cast<int>(text.size()),
                    SQLITE_STATIC);
}
void Statement::bind_one(int at, Bytes bytes) {
  // A blob of no bytes, not NULL, whatever the pointer is.
  char const* const data = bytes.bytes.empty() ? "" : bytes.bytes.data();
  sqlite3_bind_blob(statement_.get(), at, data, static_cast<int>(bytes.bytes.size()),
                    SQLITE_STATIC);
}

Result<bool> Statement::step() {
  int const code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  sqlite3* const database = sqlite3_db_handle(statement_.get());
  Error error = error_of(database, sqlite3_db_filename(database, "main"), "reading or writing");
  reset();
  return fail(std::move(error));
}

Status Statement::run() {
  TRY_ASSIGN(bool row, step());
  while (row) {
    TRY_ASSIGN(row, step());
  }
  reset();
  return {};
}

void Statement::reset() {
  sqlite3_reset(statement_.get());
  sqlite3_clear_bindings(statement_.get());
}

std::int64_t Statement::number(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

std::string_view Statement::text(int column) const {
  auto const* const data = sqlite3_column_blob(statement_.get(), column);
  auto const size = static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column));
  return data == nullptr ? std::string_view()
                         : std::string_view(static_cast<char const*>(data), size);
}

bool Statement::is_null(int column) const {
  return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
}

void Database::Close::operator()(sqlite3* database) const {
  sqlite3_close(database);
}

Result<Database> Database::open(std::string const& path, Access access, std::string const& vfs) {
  bool const is_still = access == Access::Read && cannot_change(path);
  int const flags = (access == Access::Write ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
                                             : SQLITE_OPEN_READONLY) |
                    SQLITE_OPEN_NOMUTEX | (is_still ? SQLITE_OPEN_URI : 0);
  std::string const name = is_still ? immutable_uri(path) : path;
  sqlite3* handle = nullptr;
  int const code =
      sqlite3_open_v2(name.c_str(), &handle, flags, vfs.empty() ? nullptr : vfs.c_str());
  Database database(handle, path);
  if (handle == nullptr) return fail(ErrorCode::Internal, "opening a store: no memory for SQLite");
  sqlite3_extended_result_codes(handle, 1);
  if (code != SQLITE_OK) return fail(database.last_error("opening"));
  // A reader meets a busy log for a moment only: while the writer begins it anew.
  sqlite3_busy_timeout(handle, 5000);
  return database;
}

Error Database::last_error(std::string_view doing) const {
  return error_of(database_.get(), path_, doing);
}

Status Database::run(std::string const& sql) {
  if (sqlite3_exec(database_.get(), sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK) return {};
  return fail(last_error("reading or writing"));
}

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v3(database_.get(), sql.data(), static_cast<int>(sql.size()),
                         SQLITE_PREPARE_PERSISTENT, &statement, nullptr) != SQLITE_OK) {
    return fail(last_error("preparing to read or write"));
  }
  return Statement(statement);
}

Result<std::int64_t> Database::number(std::string_view sql) {
  TRY_ASSIGN(Statement statement, prepare(sql));
  TRY_ASSIGN(bool const row, statement.step());
  return row ? statement.number(0) : 0;
}

Result<std::string> Database::text(std::string_view sql) {
  TRY_ASSIGN(Statement statement, prepare(sql));
  TRY_ASSIGN(bool const row, statement.step());
  return std::string(row ? statement.text(0) : std::string_view());
}

bool Database::failed_at_file() const {
  int const code = sqlite3_extended_errcode(database_.get());
  if ((code & 0xff) != SQLITE_IOERR) return false;
  bool const at_sync = code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC;
  return at_sync || !is_full(sqlite3_system_errno(database_.get()));
}

void Database::watch_log(int* pages) {
  auto const note = [](void* to, sqlite3*, char const*, int in_log) {
    *static_cast<int*>(to) = in_log;
    return SQLITE_OK;
  };
  sqlite3_wal_hook(database_.get(), note, pages);
}

Result<int> Database::copy_log() {
  int in_log = 0;
  int copied = 0;
  int const code = sqlite3_wal_checkpoint_v2(database_.get(), nullptr, SQLITE_CHECKPOINT_PASSIVE,
                                             &in_log, &copied);
  // Busy: a reader holds the log for a moment; the next copy takes what is left.
  if (code != SQLITE_OK && code != SQLITE_BUSY) return fail(last_error("copying the log into"));
  return in_log - copied;
}

Status Database::empty_log() {
  int const code = sqlite3_wal_checkpoint_v2(database_.get(), nullptr, SQLITE_CHECKPOINT_TRUNCATE,
                                             nullptr, nullptr);
  if (code != SQLITE_OK && code != SQLITE_BUSY) return fail(last_error("emptying the log of"));
  return {};
}

}  // namespace aether::journal
