// SPDX-License-Identifier: Apache-2.0
// The tables of store, jobs, agents, tools and schedules.
#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "config/draft.h"
#include "config/limits.h"
#include "config/timetable.h"
#include "config/yaml_json.h"

namespace aether::config {
namespace {

// ---- store, jobs

constexpr std::array kStoreTypes{
    Choice{"sqlite", StoreType::Sqlite},
    Choice{"postgres", StoreType::Postgres},
    Choice{"memory", StoreType::Memory},
};

constexpr std::array kErasable{
    Choice{"large", Erasable::Large},
    Choice{"all", Erasable::All},
};

constexpr std::array kStoreFields{
    Field<Store>{{"type", "`sqlite`, `postgres`, `memory`", "sqlite",
                  "`memory` is forgotten when Aether ends; `postgres` may be shared."},
                 store<&Store::type, read_choice<kStoreTypes>>},
    Field<Store>{{"path", "path or URL", "`aether.db` beside this file",
                  "A relative one is taken from this file's folder. Beside it lie its log, its "
                  "lock, and the key that signs (`.key`)."},
                 store<&Store::path, read_word>},
    Field<Store>{{"erasable", "`large`, `all`", "large",
                  "Which values of jobs `aether jobs erase` can take away later: those over 4 KiB, "
                  "or all. Read when a value is recorded; `all` costs some disk and time."},
                 store<&Store::erasable, read_choice<kErasable>>},
};

void read_store_path(Reader& reader, Node const& node, Store& store) {
  bool const is_url =
      store.path.starts_with("postgres://") || store.path.starts_with("postgresql://");
  if (store.type == StoreType::Postgres && !is_url) {
    reader.mistake(node.place, "type postgres needs a path that begins with postgres://");
  } else if (store.type != StoreType::Postgres && is_url) {
    reader.mistake(node.place, "a postgres:// path needs type: postgres");
  } else if (store.type == StoreType::Memory && !store.path.empty()) {
    reader.mistake(node.place, "type memory has no path");
  }
  if (store.type == StoreType::Sqlite && !store.path.empty() && !store.path.starts_with('/') &&
      !reader.folder().empty()) {
    store.path = fmt::format("{}/{}", reader.folder(), store.path);
  }
}

constexpr std::array kJobsFields{
    Field<Jobs>{{"concurrency", "number", "64", "Runs at once, 1 to 10000."},
                store<&Jobs::concurrency, read_number<1, 10000>>},
    Field<Jobs>{
        {"lease", "duration", "30s", "A worker that is silent for this long has lost its run."},
        store<&Jobs::lease, read_timeout>},
    Field<Jobs>{{"call_timeout", "duration", "60s", "Of a call of a tool that names none."},
                store<&Jobs::call_timeout, read_timeout>},
};

// ---- names

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::ranges::all_of(name, [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
}

std::optional<std::string> read_name(Reader& reader, Node const& node) {
  auto name = reader.word(node);
  if (!name || is_name(*name)) return name;
  reader.mistake(node.place,
                 fmt::format("\"{}\" is not a name: 1 to 64 of A-Z a-z 0-9 - _ .", *name));
  return std::nullopt;
}

std::optional<std::string> read_json(Reader& reader, Node const& node) {
  if (!reader.expect(node, Node::Kind::Map, "a map")) return std::nullopt;
  auto json = json_of(node);
  if (!json || !reader.charge(node.place, json->size())) return std::nullopt;
  return json;
}

/// A list of maps that have a name, or a map from names to the rest.
template <class T, class Read>
void read_named(Reader& reader, Node const& node, std::vector<T>& all, std::string_view what,
                Read const& read) {
  auto const take = [&](std::string const& name, Node const& item) {
    T one;
    one.name = name;
    std::size_t const before = reader.mistake_count();
    read(reader, item, one);
    if (reader.mistake_count() != before) return;
    if (one.name.empty()) {
      reader.mistake(item.place, "has no name");
    } else if (std::ranges::find(all, one.name, &T::name) != all.end()) {
      reader.mistake(item.place, fmt::format("a second one is named \"{}\"", one.name));
    } else {
      all.push_back(std::move(one));
    }
  };
  if (node.kind == Node::Kind::Map) {
    for (Node::Entry const& entry : node.entries) {
      Reader::Scope const scope(reader, entry.key.substr(0, 80));
      bool const known = is_name(entry.key);
      if (!known) reader.mistake(entry.place, "is not a name: 1 to 64 of A-Z a-z 0-9 - _ .");
      if (known && all.size() < kNamedMax) take(entry.key, *entry.value);
    }
    return;
  }
  auto const items = reader.items(node, kNamedMax, what);
  for (std::size_t i = 0; i < items.size(); ++i) {
    Reader::Scope const scope(reader, fmt::format("[{}]", i));
    take({}, *items[i]);
  }
}

// ---- agents

// What these keys hold is passed on as it is, variables too: a template of a tool has the same
// form.
void check_text(Reader& reader, Node const& node, Agent&) {
  if (node.kind == Node::Kind::Scalar) return;
  reader.mistake(node.place, fmt::format("must be text, and is {}", node.kind_text()));
}

void check_map(Reader& reader, Node const& node, Agent&) {
  (void)reader.expect(node, Node::Kind::Map, "a map");
}

/// Names, or maps of how one of Aether's tools is offered to the model.
void read_agent_tools(Reader& reader, Node const& node, Agent& agent) {
  auto const items = reader.items(node, kNamedMax, "a list of names of tools");
  for (std::size_t i = 0; i < items.size(); ++i) {
    Reader::Scope const scope(reader, fmt::format("[{}]", i));
    Node const* named = items[i];
    if (named->kind == Node::Kind::Map) {
      Node const* const offered = named;
      named = offered->find("tool");
      if (named == nullptr) named = offered->find("name");
    }
    if (named != nullptr && named->kind == Node::Kind::Scalar && !named->text.empty()) {
      agent.tools.push_back(named->text);
    } else {
      reader.mistake(items[i]->place, "has no name of a tool");
    }
  }
}

constexpr std::array kAgentFields{
    Field<Agent>{{"name", "text", "(required)", "`POST /v1/jobs` names it."},
                 store<&Agent::name, read_name>},
    Field<Agent>{{"model", "text", "the built-in model", "The name of a tool of type `llm`."},
                 check_text},
    Field<Agent>{{"instructions", "text", "", "What the model is told before the input."},
                 check_text},
    Field<Agent>{{"tools", "list of names or maps", "",
                  "What the model may call: `http`, or `{name, tool, description, parameters, "
                  "with}`; see docs/jobs.md."},
                 read_agent_tools},
    Field<Agent>{{"max_iterations", "number", "10", "Calls of the model, 1 to 1000."},
                 [](Reader& reader, Node const& node, Agent&) {
                   (void)read_integer(reader, node, 1, 1000);
                 }},
    Field<Agent>{{"policy", "`once`, `read`", "the tool's", "Of the model's calls."}, check_text},
    Field<Agent>{
        {"timeout", "duration", "", "Of one call of the model."},
        [](Reader& reader, Node const& node, Agent&) { (void)read_timeout(reader, node); }},
    Field<Agent>{{"options", "map", "", "Passed to the model, e.g. `temperature`."}, check_map},
    Field<Agent>{{"code", "bool", "true with `command`",
                  "Its jobs are done by workers (docs/worker-protocol.md), not by a model alone."},
                 store<&Agent::is_code, read_bool>},
    Field<Agent>{{"command", "list of text", "",
                  "The worker, which Aether keeps running as a service of the agent's name."},
                 store<&Agent::command, read_command>},
    Field<Agent>{{"env", "map, or list of `K=V`", "", "The worker's variables."},
                 store<&Agent::env, read_variables>},
    Field<Agent>{{"workdir", "path", "this file's folder", "The worker's."},
                 store<&Agent::workdir, read_path>},
};

/// What is not of the model: a job keeps no more of its agent than that it has code.
void read_code_agent(Reader& reader, Node const& node, Agent& agent) {
  for (char const* const key : {"model", "instructions", "tools", "max_iterations", "policy"}) {
    if (node.find(key) != nullptr)
      reader.mistake(node.place, fmt::format("{} is of agents without code; this one has its own "
                                             "program",
                                             key));
  }
  agent.declaration_json = fmt::format("{{\"code\":true,\"name\":\"{}\"}}", agent.name);
}

void read_agent(Reader& reader, Node const& node, Agent& agent) {
  read_map<Agent>(reader, node, agent, kAgentFields);
  if (node.kind != Node::Kind::Map) return;
  if (!agent.command.empty()) agent.is_code = true;
  if (agent.is_code) return read_code_agent(reader, node, agent);
  auto json = read_json(reader, node);
  if (!json) return;
  bool const named = node.find("name") != nullptr;
  std::string const name = named ? "" : fmt::format("{{\"name\":\"{}\"", agent.name);
  bool const alone = node.entries.empty();
  agent.declaration_json = named ? *json : name + (alone ? "}" : "," + json->substr(1));
}

// ---- tools

constexpr std::array kToolTypes{Choice{"http", ToolType::Http},
                                Choice{"process", ToolType::Process}, Choice{"llm", ToolType::Llm},
                                Choice{"function", ToolType::Function}};
constexpr std::array kToolPolicies{
    Choice{"once", ToolPolicy::Once}, Choice{"read", ToolPolicy::Read},
    Choice{"keyed", ToolPolicy::Keyed}, Choice{"lookup", ToolPolicy::Lookup}};

std::optional<double> read_price(Reader& reader, Node const& node) {
  auto const text = reader.word(node);
  if (!text) return std::nullopt;
  double price = 0;
  auto const [end, failed] = std::from_chars(text->data(), text->data() + text->size(), price);
  bool const whole = failed == std::errc{} && end == text->data() + text->size();
  if (whole && price >= 0 && price <= 1e6) return price;
  reader.mistake(node.place, fmt::format("\"{}\" is not a price: 0 to 1000000", *text));
  return std::nullopt;
}

constexpr std::array kPriceFields{
    Field<Prices>{{"input", "number", "0", "For a million tokens that go in."},
                  store<&Prices::input, read_price>},
    Field<Prices>{{"output", "number", "0", "For a million tokens that come out."},
                  store<&Prices::output, read_price>},
};

constexpr std::array kToolFields{
    Field<Tool>{{"name", "text", "(required)", "Not when `tools` is a map: there it is the key."},
                store<&Tool::name, read_name>},
    Field<Tool>{{"type", "`http`, `process`, `llm`, `function`", "http", ""},
                store<&Tool::type, read_choice<kToolTypes>>},
    Field<Tool>{{"policy", "`once`, `read`, `keyed`, `lookup`", "the type's own",
                 "What may happen after a crash in the middle of a call; see docs/jobs.md."},
                [](Reader& reader, Node const& node, Tool& tool) {
                  tool.policy = read_choice<kToolPolicies>(reader, node);
                }},
    Field<Tool>{{"description", "text", "", "What models read about it."},
                store<&Tool::description, read_text>},
    Field<Tool>{{"timeout", "duration", "jobs.call_timeout", "Of each call."},
                [](Reader& reader, Node const& node, Tool& tool) {
                  tool.timeout = read_timeout(reader, node);
                }},
    Field<Tool>{{"defaults", "map", "", "Arguments that a call does not name."},
                store<&Tool::defaults_json, read_json>},
    Field<Tool>{{"hosts", "list of names", "any",
                 "http: the hosts it may reach, each with or without a port."},
                store<&Tool::hosts, read_words>},
    Field<Tool>{{"base_url", "URL", "", "http: before a path alone. llm: of the provider."},
                store<&Tool::base_url, read_word>},
    Field<Tool>{{"lookup_url", "URL", "",
                 "http with `policy: lookup`: asked after a crash; `{key}` in it is the call's "
                 "Idempotency-Key."},
                store<&Tool::lookup_url, read_word>},
    Field<Tool>{{"api_key_env", "name", "",
                 "http, llm: the variable of Aether's environment with the key, sent as "
                 "`Authorization: Bearer`. It is in no record."},
                store<&Tool::api_key_env, read_word>},
    Field<Tool>{
        {"model", "text", "", "llm: the provider's name of it. `builtin` needs no provider."},
        store<&Tool::model, read_word>},
    Field<Tool>{{"prices", "map", "", "llm: for budgets; see `tools.prices`."},
                [](Reader& reader, Node const& node, Tool& tool) {
                  read_map<Prices>(reader, node, tool.prices, kPriceFields);
                }},
    Field<Tool>{{"command", "list of text", "", "process: what is run; its input is the call's."},
                store<&Tool::command, read_command>},
    Field<Tool>{{"env", "map, or list of `K=V`", "", "process: its variables."},
                store<&Tool::env, read_variables>},
    Field<Tool>{{"workdir", "path", "this file's folder", "process."},
                store<&Tool::workdir, read_path>},
    Field<Tool>{{"function", "id", "the tool's name", "function: one of `functions`."},
                store<&Tool::function, read_word>},
};

void read_tool(Reader& reader, Node const& node, Tool& tool) {
  read_map<Tool>(reader, node, tool, kToolFields);
  if (tool.type == ToolType::Process && tool.command.empty())
    reader.mistake(node.place, "has no command; a process needs one");
  if (tool.policy == ToolPolicy::Lookup && tool.lookup_url.empty() && tool.type == ToolType::Http)
    reader.mistake(node.place, "policy lookup needs a lookup_url, which is asked what happened");
  if (tool.type == ToolType::Function && tool.function.empty()) tool.function = tool.name;
}

// ---- schedules

constexpr std::array kScheduleFields{
    Field<Schedule>{{"name", "text", "(required)", ""}, store<&Schedule::name, read_name>},
    Field<Schedule>{{"every", "duration", "", "From one to the next. Or:"},
                    [](Reader& reader, Node const& node, Schedule& schedule) {
                      schedule.every = read_timeout(reader, node);
                    }},
    Field<Schedule>{{"cron", "text", "", "Minute, hour, day, month, weekday; in UTC."},
                    [](Reader& reader, Node const& node, Schedule& schedule) {
                      auto const text = reader.word(node);
                      if (text && reader.accept(node, Timetable::cron(*text)))
                        schedule.cron = *text;
                    }},
    Field<Schedule>{{"job", "map", "(required)", "What would be the body of `POST /v1/jobs`."},
                    store<&Schedule::job_json, read_json>},
};

void read_schedule(Reader& reader, Node const& node, Schedule& schedule) {
  read_map<Schedule>(reader, node, schedule, kScheduleFields);
  if (schedule.job_json.empty()) reader.mistake(node.place, "has no job");
  if (node.kind != Node::Kind::Map) return;
  bool const has_every = node.find("every") != nullptr;
  if (has_every != (node.find("cron") != nullptr)) return;
  reader.mistake(node.place, "needs exactly one of every and cron");
}

}  // namespace

void read_store(Reader& reader, Node const& node, RootDraft& root) {
  root.value.jobs.enabled = true;
  std::size_t const before = reader.mistake_count();
  read_map<Store>(reader, node, root.value.store, kStoreFields);
  if (reader.mistake_count() == before) read_store_path(reader, node, root.value.store);
}

void read_jobs(Reader& reader, Node const& node, RootDraft& root) {
  root.value.jobs.enabled = true;
  read_map<Jobs>(reader, node, root.value.jobs, kJobsFields);
}

void read_agents(Reader& reader, Node const& node, RootDraft& root) {
  root.value.jobs.enabled = true;
  read_named(reader, node, root.value.agents, "a list of agents, each {name, model, ...}",
             read_agent);
}

void read_tools(Reader& reader, Node const& node, RootDraft& root) {
  root.value.jobs.enabled = true;
  read_named(reader, node, root.value.tools, "a list of tools, each {name, type, ...}", read_tool);
}

void read_schedules(Reader& reader, Node const& node, RootDraft& root) {
  root.value.jobs.enabled = true;
  read_named(reader, node, root.value.schedules, "a list of schedules, each {name, every, job}",
             read_schedule);
}

std::vector<Section> jobs_sections() {
  return {
      describe<Store>("store", "Where the journal of jobs is kept (docs/journal.md).",
                      kStoreFields),
      describe<Jobs>(
          "jobs",
          "Work that survives (docs/jobs.md). Jobs run when the file has one of `store`, "
          "`jobs`, `agents`, `tools` and `schedules`, or `api` and nothing to run.",
          kJobsFields),
      describe<Agent>("agents[]", "Agents without code: a model, its instructions and its tools.",
                      kAgentFields),
      describe<Tool>("tools[]",
                     "What steps and agents can call. A list, or a map from names. `http`, `llm` "
                     "(with a built-in model) and `function` are there without being named.",
                     kToolFields),
      describe<Prices>("tools[].prices", "", kPriceFields),
      describe<Schedule>("schedules[]", "Jobs that begin by themselves.", kScheduleFields),
  };
}

}  // namespace aether::config
