// SPDX-License-Identifier: Apache-2.0
// SQLite in RAII: a connection and its statements. Nothing here knows what is stored.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace aether::journal {

/// One prepared statement. Bound texts are borrowed until the next reset().
class Statement {
 public:
  Statement() = default;

  /// Binds the values to ?1, ?2, ... after a reset. Strings as BLOB where `Bytes` says so.
  template <class... Values>
  Statement& bind(Values const&... values) {
    reset();
    int at = 0;
    (bind_one(++at, values), ...);
    return *this;
  }
  struct Bytes {
    std::string_view bytes;
  };

  /// True: there is a row.
  [[nodiscard]] Result<bool> step();
  /// Runs to its end; for statements without rows.
  Status run();
  void reset();

  [[nodiscard]] std::int64_t number(int column) const;
  /// A text or blob; valid until the next step() or reset().
  [[nodiscard]] std::string_view text(int column) const;
  [[nodiscard]] bool is_null(int column) const;

 private:
  friend class Database;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}
  void bind_one(int at, std::int64_t value);
  void bind_one(int at, std::uint64_t value) { bind_one(at, static_cast<std::int64_t>(value)); }
  void bind_one(int at, std::string_view text);
  void bind_one(int at, Bytes bytes);
  template <class Value>
  void bind_one(int at, std::optional<Value> const& value) {
    if (value) bind_one(at, *value);  // else NULL, which a reset statement has everywhere
  }

  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

/// One connection, for one thread at a time.
class Database {
 public:
  enum class Access : std::uint8_t { Write, Read };
  /// @param vfs The name of SQLite's way to files; empty: the usual one.
  static Result<Database> open(std::string const& path, Access access, std::string const& vfs);

  /// Statements without rows.
  Status run(std::string const& sql);
  [[nodiscard]] Result<Statement> prepare(std::string_view sql);
  /// The first column of the first row.
  [[nodiscard]] Result<std::int64_t> number(std::string_view sql);
  [[nodiscard]] Result<std::string> text(std::string_view sql);

  /// True if the last failure was of reading or writing a file, as opposed to a full disk: nobody
  /// knows then what of the file is on the disk.
  [[nodiscard]] bool failed_at_file() const;
  /// Copies the write-ahead log into the store. Returns pages that are still in the log.
  [[nodiscard]] Result<int> copy_log();
  /// The same, to the end: the log is empty afterwards, unless somebody reads it.
  Status empty_log();
  /// From now on *pages is set to the pages of the log after each commit; it must outlive this.
  void watch_log(int* pages);
  [[nodiscard]] std::string_view path() const { return path_; }

 private:
  struct Close {
    void operator()(sqlite3* database) const;
  };
  Database(sqlite3* database, std::string path) : database_(database), path_(std::move(path)) {}
  [[nodiscard]] Error last_error(std::string_view doing) const;

  std::unique_ptr<sqlite3, Close> database_;
  std::string path_;
};

}  // namespace aether::journal
