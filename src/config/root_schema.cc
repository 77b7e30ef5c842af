// SPDX-License-Identifier: Apache-2.0
// The table of the whole file, and its small sections: observability, api.
#include <algorithm>
#include <array>
#include <cctype>

#include <fmt/format.h>

#include "config/draft.h"
#include "config/limits.h"

namespace aether::config {
namespace {

constexpr std::array kLogLevels{
    Choice{"debug", log::Level::Debug}, Choice{"info", log::Level::Info},
    Choice{"warn", log::Level::Warn},   Choice{"error", log::Level::Error},
    Choice{"off", log::Level::Off},
};

// 9090, ":9090", "127.0.0.1:9090" or none.
void read_metrics_port(Reader& reader, Node const& node, Observability& observability) {
  auto const text = reader.word(node);
  if (!text) return;
  observability.metrics_given = true;
  observability.metrics_address.reset();
  if (*text == "none") return;
  auto const address = reader.accept(node, parse_address(*text));
  if (!address) return;
  if (address->transport != Transport::Tcp) {
    reader.mistake(
        node.place,
        fmt::format("\"{}\" is not a TCP port; write \":9090\", 9090, \"127.0.0.1:9090\" or none",
                    *text));
    return;
  }
  observability.metrics_address = address->text();
}

constexpr std::array kObservabilityFields{
    Field<Observability>{{"metrics_port", "address, number, or `none`", ":9090",
                          "Where `/metrics` and `/health` are served to everyone: `\":9090\"`, "
                          "`9090`, `\"127.0.0.1:9090\"`. When the key is not in the file and the "
                          "port is taken, Aether says so and goes on."},
                         read_metrics_port},
    Field<Observability>{
        {"log_level", "`debug`, `info`, `warn`, `error`, `off`", "info", "Of Aether's own log."},
        store<&Observability::log_level, read_choice<kLogLevels>>},
};

std::optional<std::string> read_host(Reader& reader, Node const& node) {
  auto text = reader.word(node);
  if (!text) return std::nullopt;
  bool const bare_v6 = text->contains(':') && !text->starts_with('[');
  auto const address =
      reader.accept(node, parse_address(bare_v6 ? fmt::format("[{}]:0", *text) : *text + ":0"));
  if (!address) return std::nullopt;
  if (address->transport == Transport::Tcp)
    return address->host.empty() ? "0.0.0.0" : address->host;
  reader.mistake(node.place,
                 fmt::format("\"{}\" is not a host; write an IP address or localhost", *text));
  return std::nullopt;
}

constexpr std::array kRoles{
    Choice{"viewer", Role::Viewer},     Choice{"submitter", Role::Submitter},
    Choice{"approver", Role::Approver}, Choice{"operator", Role::Operator},
    Choice{"auditor", Role::Auditor},   Choice{"worker", Role::Worker},
};

std::optional<std::string> read_sha256(Reader& reader, Node const& node) {
  auto digest = reader.word(node);
  if (!digest) return std::nullopt;
  std::ranges::transform(*digest, digest->begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  bool const hex = digest->find_first_not_of("0123456789abcdef") == std::string::npos;
  if (digest->size() == 64 && hex) return digest;
  // What was written may be the token itself: it is not repeated.
  reader.mistake(node.place,
                 "is not a SHA-256 digest of 64 hexadecimal digits; `aether token` prints one");
  return std::nullopt;
}

constexpr std::array kTokenFields{
    Field<Token>{{"name", "text", "(required)", "For the log. Each name once."},
                 store<&Token::name, read_word>},
    Field<Token>{{"role", "`viewer`, `submitter`, `approver`, `operator`, `auditor`", "viewer",
                  "What its bearer may do; docs/operations.md has the table."},
                 store<&Token::role, read_choice<kRoles>>},
    Field<Token>{{"sha256", "64 hexadecimal digits", "",
                  "The token's SHA-256 digest, as `aether token` prints it."},
                 store<&Token::sha256, read_sha256>},
    Field<Token>{{"file", "path", "",
                  "Instead: a file with the token. Not readable by everyone (`chmod o-r`); read "
                  "again by each reload."},
                 store<&Token::file, read_path>},
    Field<Token>{{"env", "name", "",
                  "Instead: the variable of Aether's environment with the token. Services do not "
                  "get to see it."},
                 store<&Token::env, read_word>},
    Field<Token>{{"namespaces", "list of names", "all",
                  "Of jobs: the only ones that its role is for. Of services and functions such a "
                  "token may only read how they stand."},
                 store<&Token::namespaces, read_words>},
};

void read_tokens(Reader& reader, Node const& node, Api& api) {
  auto const items = reader.items(node, kTokensMax, "a list of tokens, each {name, role, sha256}");
  for (std::size_t i = 0; i < items.size(); ++i) {
    Reader::Scope const scope(reader, fmt::format("[{}]", i));
    Node const& item = *items[i];
    Token token;
    std::size_t const before = reader.mistake_count();
    read_map<Token>(reader, item, token, kTokenFields);
    if (reader.mistake_count() != before) continue;
    int const sources =
        int{!token.sha256.empty()} + int{!token.file.empty()} + int{!token.env.empty()};
    if (token.name.empty()) {
      reader.mistake(item.place, "has no name");
    } else if (std::ranges::find(api.tokens, token.name, &Token::name) != api.tokens.end()) {
      reader.mistake(item.place, fmt::format("a second token is named \"{}\"", token.name));
    } else if (sources != 1) {
      reader.mistake(item.place,
                     "needs exactly one of sha256, file and env; `aether token` makes one");
    } else {
      api.tokens.push_back(std::move(token));
    }
  }
}

constexpr std::array kApiFields{
    Field<Api>{{"host", "IP address", "127.0.0.1", ""}, store<&Api::host, read_host>},
    Field<Api>{{"port", "port", "none", "0: any free one."},
               store<&Api::port, read_number<0, 65535, std::uint16_t>>},
    Field<Api>{
        {"tokens", "list of maps", "", "Who may ask from other machines; see `api.tokens[]`."},
        read_tokens},
};

void read_version(Reader& reader, Node const& node, RootDraft& root) {
  auto const version = reader.word(node);
  if (!version) return;
  for (std::string_view const known : {"1.0", "1", "v1", "v1.0"}) {
    if (*version == known) {
      root.value.version = *version;
      return;
    }
  }
  reader.mistake(
      node.place,
      fmt::format("\"{}\" is not a version that is known here; write \"1.0\"", *version));
}

using RootField = Field<RootDraft>;
constexpr std::array kRootFields{
    RootField{{"version", "text", "1.0", "`\"1.0\"`, `1.0`, `1` or `v1`: the only one there is."},
              read_version},
    RootField{{"service", "map", "", "One program to keep running; see `service`."},
              [](Reader& reader, Node const& node, RootDraft& root) {
                read_service(reader, node, root.services.emplace_back());
              }},
    RootField{{"services", "list of maps", "", "Several; instead of `service`."}, read_services},
    RootField{{"orchestration", "map", "", "How revisions are swapped; see `orchestration`."},
              [](Reader& reader, Node const& node, RootDraft& root) {
                read_orchestration(reader, node, root.orchestration);
              }},
    RootField{{"handoff", "map", "", "How memory moves; see `handoff`."},
              [](Reader& reader, Node const& node, RootDraft& root) {
                read_handoff(reader, node, root.handoff);
              }},
    RootField{{"observability", "map", "", "See `observability`."},
              [](Reader& reader, Node const& node, RootDraft& root) {
                read_map<Observability>(reader, node, root.value.observability,
                                        kObservabilityFields);
              }},
    RootField{{"api", "map", "", "See `api`."},
              [](Reader& reader, Node const& node, RootDraft& root) {
                read_map<Api>(reader, node, root.value.api, kApiFields);
              }},
    RootField{{"orchestrator", "map", "", "Settings of functions; see `orchestrator`."},
              read_orchestrator},
    RootField{{"functions", "list of maps", "", "See `functions[]`."}, read_functions},
    RootField{{"store", "map", "", "See `store`."}, read_store},
    RootField{{"jobs", "map", "", "See `jobs`."}, read_jobs},
    RootField{{"agents", "list of maps", "", "See `agents[]`."}, read_agents},
    RootField{{"tools", "map, or list of maps", "", "See `tools[]`."}, read_tools},
    RootField{{"schedules", "list of maps", "", "See `schedules[]`."}, read_schedules},
};

}  // namespace

void read_root(Reader& reader, Node const& node, RootDraft& root) {
  if (node.kind != Node::Kind::Map) {
    reader.mistake(node.place,
                   fmt::format("the file must be a map of sections, e.g. service:, and is {}",
                               node.kind_text()));
    return;
  }
  read_map_with_places<RootDraft>(reader, node, root, kRootFields);
}

std::vector<Section> root_sections() {
  return {describe<RootDraft>(
      "", "The sections of a file. At least `service`, `services`, `functions`, or one about jobs.",
      kRootFields)};
}

std::vector<Section> all_sections() {
  std::vector<Section> sections = root_sections();
  std::vector<std::vector<Section>> const rooms{
      service_sections(),
      listen_sections(),
      orchestration_sections(),
      {describe<Observability>("observability", "", kObservabilityFields),
       describe<Api>(
           "api",
           "Where `/v1` is served besides the control socket and `metrics_port`, and to whom. On "
           "both ports `/metrics` and `/health` are open to everyone; programs of the same user "
           "and "
           "of root on this machine may do everything, those of other users may look, and all "
           "others "
           "need a token.",
           kApiFields),
       describe<Token>("api.tokens[]", "Exactly one of `sha256`, `file` and `env`.", kTokenFields)},
      function_sections(),
      jobs_sections(),
  };
  for (auto const& room : rooms) sections.insert(sections.end(), room.begin(), room.end());
  return sections;
}

void unknown_key(Reader& reader, Node::Entry const& entry,
                 std::vector<std::string_view> const& known) {
  std::string_view const key = std::string_view(entry.key).substr(0, 80);
  // What is told no more needs no search.
  if (reader.mistake_count() >= kMistakesMax) {
    reader.mistake(entry.place, fmt::format("unknown key \"{}\"", key));
    return;
  }
  std::string hint = did_you_mean(key, known);
  if (hint.empty()) {
    for (Section const& section : all_sections()) {
      bool const has = std::ranges::find(section.rows, key, &Row::key) != section.rows.end();
      if (!has) continue;
      hint = section.path.empty() ? "; it belongs at the top of the file"
                                  : fmt::format("; there is one in {}", section.path);
      break;
    }
  }
  reader.mistake(entry.place, fmt::format("unknown key \"{}\"{}", key, hint));
}

}  // namespace aether::config
