// SPDX-License-Identifier: Apache-2.0
// The sections about jobs as the rest of Aether sees them; see config.h, which includes this.
#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/time.h"

namespace aether::config {

enum class StoreType : std::uint8_t { Sqlite, Postgres, Memory };
/// Which values are kept beside the events, so that they can be erased later: those that are too
/// long for an event, or all.
enum class Erasable : std::uint8_t { Large, All };

/// Where the journal is.
struct Store {
  StoreType type = StoreType::Sqlite;
  /// A file (absolute, if the configuration was loaded by path), or a postgres:// URL. Empty: the
  /// default place.
  std::string path;
  Erasable erasable = Erasable::Large;
  bool operator==(Store const&) const = default;
};

struct Jobs {
  bool enabled = false;  ///< The file has a section about jobs, or nothing else to run.
  int concurrency = 64;  ///< Runs at once.
  Duration lease = std::chrono::seconds(30);
  Duration call_timeout = std::chrono::seconds(60);  ///< Of a call that names none.
  bool operator==(Jobs const&) const = default;
};

/// An agent without code: a model that may use tools, in a loop. Or one with code: a program that
/// claims its jobs as a worker (docs/worker-protocol.md).
struct Agent {
  std::string name;
  std::vector<std::string> tools;  ///< Those of Aether that it may use.
  bool is_code = false;            ///< Workers do its jobs.
  /// The worker that Aether keeps running for it, as a service of the agent's name; empty: it comes
  /// from elsewhere.
  std::vector<std::string> command;
  std::vector<std::pair<std::string, std::string>> env;
  std::string workdir;  ///< Absolute, if the file was loaded by path. Empty: the file's folder.
  /// All of what the file says, as an object: {name, model, instructions, tools, ...}. Jobs read
  /// it.
  std::string declaration_json;
  bool operator==(Agent const&) const = default;
};

enum class ToolType : std::uint8_t { Http, Process, Llm, Function };
/// What may happen after a crash between a call and its record (docs/jobs.md).
enum class ToolPolicy : std::uint8_t { Once, Read, Keyed, Lookup };

/// Money for a million tokens.
struct Prices {
  double input = 0;
  double output = 0;
  bool operator==(Prices const&) const = default;
};

struct Tool {
  std::string name;
  ToolType type = ToolType::Http;
  std::optional<ToolPolicy> policy;  ///< Absent: the type's own.
  std::string description;           ///< For people and models.
  std::optional<Duration> timeout;
  std::string defaults_json;         ///< Arguments that a call does not name; an object, or empty.
  std::vector<std::string> hosts;    ///< http: the only ones it may reach; empty: any.
  std::string base_url;              ///< http, llm.
  std::string lookup_url;            ///< http, policy lookup: asked with {key} in it.
  std::string api_key_env;           ///< http, llm: the variable with the bearer's key.
  std::string model;                 ///< llm.
  Prices prices;                     ///< llm.
  std::vector<std::string> command;  ///< process.
  std::vector<std::pair<std::string, std::string>> env;  ///< process.
  std::string workdir;                                   ///< process.
  std::string function;                                  ///< function: its id.
  bool operator==(Tool const&) const = default;
};

/// A job that begins by itself.
struct Schedule {
  std::string name;
  std::optional<Duration> every;
  std::string cron;      ///< Five fields, in UTC; empty when `every` is given.
  std::string job_json;  ///< What would be the body of POST /v1/jobs.
  bool operator==(Schedule const&) const = default;
};

}  // namespace aether::config
