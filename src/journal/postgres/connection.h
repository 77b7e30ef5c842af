// SPDX-License-Identifier: Apache-2.0
// Connection: libpq behind typed questions. Every wait for the server ends by a deadline.
#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"

struct pg_conn;
struct pg_result;

namespace aether::journal::postgres {

/// Of one answer of the server, and of connecting to it: a server that says nothing for so long is
/// taken for gone.
inline constexpr Duration kAnswerMax = std::chrono::seconds(20);
inline constexpr int kConnectSeconds = 5;

/// Where the store is, without the password: for messages.
[[nodiscard]] std::string name_of_url(std::string_view url);

/// What a question takes, in the server's binary form.
class Values {
 public:
  Values& number(std::int64_t value);
  Values& number(std::uint64_t value) { return number(static_cast<std::int64_t>(value)); }
  Values& text(std::string_view value);
  Values& bytes(std::string_view value);
  /// An array's elements; nothing: NULL.
  Values& numbers(std::vector<std::optional<std::int64_t>> const& values);
  Values& texts(std::vector<std::string_view> const& values);
  Values& all_bytes(std::vector<std::string_view> const& values);

  [[nodiscard]] std::size_t size() const { return values_.size(); }

 private:
  friend class Connection;
  struct Value {
    unsigned type;
    std::string bytes;
  };
  void add(unsigned type, std::string bytes) { values_.push_back({type, std::move(bytes)}); }
  std::vector<Value> values_;
};

/// An answer's rows.
class Rows {
 public:
  explicit Rows(pg_result* result);
  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] bool is_null(std::size_t row, int column) const;
  [[nodiscard]] std::int64_t number(std::size_t row, int column) const;
  /// Text, or bytes.
  [[nodiscard]] std::string_view text(std::size_t row, int column) const;

 private:
  struct Free {
    void operator()(pg_result* result) const;
  };
  friend class Connection;
  std::unique_ptr<pg_result, Free> result_;
};

class Connection {
 public:
  /// @param purpose Shown in pg_stat_activity.
  static Result<Connection> open(std::string const& url, std::string_view purpose);

  /// Questions, answered one by one. Faults: see fault_of().
  Status run(std::string_view sql);
  Result<Rows> ask(std::string const& sql, Values const& values = {});

  // A statement sent again and again, without waiting for the answers between.
  Status prepare(std::string const& name, std::string const& sql, Values const& types);
  Status enter_pipeline();
  Status send(std::string const& name, Values const& values);
  /// Hands what was sent to the kernel; true when all of it is gone.
  Result<bool> flush();
  struct Reply {
    std::optional<Rows> rows;
    std::optional<Error> fault;  ///< Of this one question; the connection is whole.
    std::string state;           ///< Its SQLSTATE.
  };
  /// The next answer, if it is there: what the server said last before it was ready again. What a
  /// statement gives is on its way before its commit is: a commit may fail, and a server that is
  /// shut down at once sends what it has and does not commit.
  Result<std::optional<Reply>> receive();

  struct Notice {
    std::string payload;
    int process = 0;  ///< Of the server, which stands for the connection that told it.
  };
  /// What was told to the channels that are listened to, as far as it is here.
  Result<std::vector<Notice>> notices();
  /// Its own process of the server.
  [[nodiscard]] int process() const;

  [[nodiscard]] int fd() const;
  /// False: only a new connection helps.
  [[nodiscard]] bool is_alive() const;
  /// A setting that the server reports by itself: server_version, server_encoding.
  [[nodiscard]] std::string setting(char const* name) const;
  /// Breaks it as a network does: for tests.
  void cut();

 private:
  struct Close {
    void operator()(pg_conn* connection) const;
  };
  explicit Connection(std::unique_ptr<pg_conn, Close> connection, std::string name)
      : connection_(std::move(connection)), name_(std::move(name)) {}
  Status wait_readable();
  Status hold(Rows rows);
  /// All results of one question; the last one counts.
  Result<Rows> finish(std::string_view what);
  [[nodiscard]] Error lost(std::string_view doing);

  std::unique_ptr<pg_conn, Close> connection_;
  std::string name_;  ///< Of the server, for messages.
  bool given_up_ = false;
  std::optional<Reply> held_;  ///< What was said, and is not committed yet.
};

/// A server's refusal as a fault. StoreFull for a full disk, StoreDamaged for damaged files; else
/// StoreUnavailable.
[[nodiscard]] Error fault_of(std::string_view state, std::string_view doing, std::string_view why);
/// It says nothing against the statement: another transaction was in the way, or the server stops.
[[nodiscard]] bool may_be_sent_again(std::string_view state);

}  // namespace aether::journal::postgres
