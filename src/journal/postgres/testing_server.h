// SPDX-License-Identifier: Apache-2.0
// For tests: a PostgreSQL server of their own, in a temporary folder and on a Unix socket there.
// One for a whole test program: its tests run in one process (cmake/AetherRoom.cmake, TOGETHER).
#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "journal/postgres/connection.h"
#include "os/temp_dir.h"
#include "os/testing.h"

namespace aether::journal::testing {

/// Why a test is skipped where PostgresServer::get() gives none.
inline constexpr char kNoServer[] =
    "PostgreSQL's server is not installed (scripts/install-deps --test)";

class PostgresServer {
 public:
  /// Null: PostgreSQL is not installed.
  static PostgresServer* get() {
    static std::unique_ptr<PostgresServer> const server = start_one();
    return server.get();
  }
  ~PostgresServer() { stop(SIGQUIT); }

  /// A database of that name, made if there is none.
  std::string url(std::string const& database) {
    Result<postgres::Connection> admin = postgres::Connection::open(url_of("postgres"), "tests");
    if (!admin) {
      ADD_FAILURE() << admin.error().describe();
      return {};
    }
    // That it is there already is well.
    (void)admin->run("CREATE DATABASE " + database);
    return url_of(database);
  }
  /// Ends it at once, as `pg_ctl stop -m immediate` does.
  void stop(int signal) {
    if (!program_) return;
    (void)program_->child().signal(signal);
    (void)program_->wait();
    program_.reset();
  }
  void start() {
    program_.emplace(as_its_user(
        fmt::format("{0}/postgres -D {1}/data -k {1} -h '' -c fsync=off -c max_connections=60 "
                    "-c shared_buffers=16MB -c log_min_messages=fatal 2>{1}/log",
                    programs_, folder_.path())));
    bool const answers = os::testing::wait_until(
        [this] { return postgres::Connection::open(url_of("postgres"), "tests").has_value(); });
    if (!answers) ADD_FAILURE() << "PostgreSQL did not start; see " << folder_.path() << "/log";
  }

 private:
  PostgresServer(std::string programs, os::TempDir folder)
      : programs_(std::move(programs)), folder_(std::move(folder)) {}

  static std::unique_ptr<PostgresServer> start_one() {
    std::error_code ec;
    std::string programs;
    for (auto const& version : std::filesystem::directory_iterator("/usr/lib/postgresql", ec)) {
      std::filesystem::path const bin = version.path() / "bin";
      if (std::filesystem::exists(bin / "initdb", ec)) programs = bin.string();
    }
    Result<os::TempDir> folder = os::TempDir::create("ae-pg", "/tmp");
    if (programs.empty()) return nullptr;
    if (!folder) {
      ADD_FAILURE() << folder.error().describe();
      return nullptr;
    }
    std::unique_ptr<PostgresServer> server(new PostgresServer(programs, std::move(*folder)));
    std::string const& path = server->folder_.path();
    if (::geteuid() == 0) {
      os::testing::run(os::testing::shell("chown nobody " + path));
    }
    os::testing::Output const made = os::testing::run(server->as_its_user(
        fmt::format("{}/initdb -D {}/data -A trust -U tester -E UTF8 --locale=C --no-sync 2>&1",
                    programs, path)));
    if (made.status.code != 0) ADD_FAILURE() << made.text;
    server->start();
    return server;
  }

  /// It refuses to run as root. It ends with the test program, however that ends.
  [[nodiscard]] os::SpawnSpec as_its_user(std::string const& command) const {
    std::string const user =
        ::geteuid() == 0 ? "--reuid=nobody --regid=nogroup --clear-groups" : "";
    os::SpawnSpec spec =
        os::testing::shell(fmt::format("exec setpriv {} --pdeathsig QUIT {}", user, command));
    spec.workdir = folder_.path();
    return spec;
  }
  [[nodiscard]] std::string url_of(std::string const& database) const {
    return fmt::format("postgres:///{}?host={}&user=tester", database, folder_.path());
  }

  std::string programs_;
  os::TempDir folder_;
  std::optional<os::testing::Program> program_;
};

/// A name for a database that belongs to a folder of a test.
inline std::string database_of(std::string const& folder) {
  return fmt::format("t{:x}", std::hash<std::string>()(folder));
}

}  // namespace aether::journal::testing
