// SPDX-License-Identifier: Apache-2.0
// Readers of values that have a form of their own: addresses, URLs, commands, variables.
#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include <fmt/format.h>

#include "config/limits.h"
#include "config/reader.h"

namespace aether::config {
namespace {

// What Aether tells each child (docs/architecture.md); a value of the user's would be lost.
constexpr std::array<std::string_view, 17> kReservedVariables{"LISTEN_FDS",
                                                              "LISTEN_PID",
                                                              "LISTEN_FDNAMES",
                                                              "NOTIFY_SOCKET",
                                                              "WATCHDOG_USEC",
                                                              "WATCHDOG_PID",
                                                              "AETERNA_MANAGED",
                                                              "AETERNA_INHERITED_FDS",
                                                              "AETERNA_STATE_SOCK",
                                                              "AETHER_SERVICE",
                                                              "AETHER_REVISION",
                                                              "AETHER_INSTANCE_ID",
                                                              "AETHER_SOCKET",
                                                              "AETHER_FUNCTION_ID",
                                                              "AETHER_TRIGGER_PORT",
                                                              "LISTEN_PIDFDID",
                                                              "FDSTORE"};

// `python agent.py` as `["python", "agent.py"]`.
std::string as_list(std::string_view text) {
  std::string list;
  while (!text.empty()) {
    std::size_t const end = std::min(text.find(' '), text.size());
    if (end > 0) list += fmt::format("{}\"{}\"", list.empty() ? "" : ", ", text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return fmt::format("[{}]", list);
}

bool is_port(std::string_view text) {
  unsigned port = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port >= 1 && port <= 65535;
}

// "host:port", "host", "[v6]:port" with something in each place.
bool is_authority(std::string_view text) {
  if (text.empty() || text.find_first_of(" @?#\t\n\r") != std::string_view::npos) return false;
  std::size_t const bracket = text.starts_with('[') ? text.find(']') : 0;
  if (bracket == std::string_view::npos) return false;
  std::size_t const colon = text.find(':', bracket);
  if (colon == std::string_view::npos) return true;
  return colon > 0 && is_port(text.substr(colon + 1));
}

// Adds a variable unless its name is no name, is Aether's, or is there already.
void add_variable(Reader& reader, Place place, std::set<std::string>& seen, Variables& variables,
                  std::string name, std::string value) {
  if (name.empty() || name.contains('=') || name.contains('\0')) {
    reader.mistake(place, fmt::format("\"{}\" is not the name of a variable", name));
  } else if (std::ranges::find(kReservedVariables, name) != kReservedVariables.end()) {
    reader.mistake(place, fmt::format("{} is set by Aether itself; remove it", name));
  } else if (!seen.insert(name).second) {
    reader.mistake(place, fmt::format("{} is given twice", name));
  } else {
    variables.emplace_back(std::move(name), std::move(value));
  }
}

}  // namespace

std::optional<std::string> read_address(Reader& reader, Node const& node) {
  auto text = reader.word(node);
  if (!text || !reader.accept(node, parse_address(*text))) return std::nullopt;
  return text;
}

std::optional<std::string> read_target(Reader& reader, Node const& node) {
  auto text = reader.word(node);
  if (!text) return std::nullopt;
  auto const address = reader.accept(node, parse_address(*text));
  if (!address) return std::nullopt;
  bool const is_tcp = address->transport == Transport::Tcp && address->port != 0;
  if (is_tcp || address->transport == Transport::UnixStream) return text;
  reader.mistake(node.place,
                 fmt::format("nobody can connect to \"{}\"; write HOST:PORT or unix:/path", *text));
  return std::nullopt;
}

std::optional<std::string> read_url(Reader& reader, Node const& node) {
  constexpr std::string_view scheme = "http://";
  auto text = reader.word(node);
  if (!text) return std::nullopt;
  bool const has_space = text->find_first_of(" \t\n\r") != std::string::npos;
  if (text->starts_with('/') && !has_space) return text;
  if (text->starts_with("https://")) {
    reader.mistake(
        node.place,
        "https is not asked here; use http, or a command such as [\"curl\", \"-fsS\", URL]");
    return std::nullopt;
  }
  std::string_view const rest =
      std::string_view(*text).substr(std::min(scheme.size(), text->size()));
  if (text->starts_with(scheme) && !has_space && is_authority(rest.substr(0, rest.find('/'))))
    return text;
  reader.mistake(node.place,
                 fmt::format("\"{}\" is not a URL: write http://HOST:PORT/PATH, or /PATH for the "
                             "service's own port",
                             *text));
  return std::nullopt;
}

std::optional<Command> read_command(Reader& reader, Node const& node) {
  if (node.kind == Node::Kind::Scalar) {
    reader.mistake(node.place, fmt::format("needs a list, the program and its arguments; write {}",
                                           as_list(std::string_view(node.text).substr(0, 200))));
    return std::nullopt;
  }
  auto const items = reader.items(node, kArgumentsMax, "a list, e.g. [\"python3\", \"agent.py\"]");
  if (node.kind != Node::Kind::List) return std::nullopt;
  if (node.items.empty()) {
    reader.mistake(node.place, "is empty; name the program to run");
    return std::nullopt;
  }
  Command command;
  for (std::size_t i = 0; i < items.size(); ++i) {
    Reader::Scope const scope(reader, fmt::format("[{}]", i));
    auto argument = i == 0 ? reader.word(*items[i]) : reader.text(*items[i]);
    if (argument) command.push_back(std::move(*argument));
  }
  if (command.size() != node.items.size()) return std::nullopt;
  return command;
}

std::optional<Variables> read_variables(Reader& reader, Node const& node) {
  Variables variables;
  std::set<std::string> seen;
  if (node.kind == Node::Kind::Map) {
    if (node.entries.size() > kVariablesMax) {
      reader.mistake(node.place, fmt::format("has {} variables; the limit is {}",
                                             node.entries.size(), kVariablesMax));
      return std::nullopt;
    }
    for (Node::Entry const& entry : node.entries) {
      Reader::Scope const scope(reader, entry.key);
      if (entry.value->kind == Node::Kind::Null) {
        reader.mistake(entry.place, "has no value; write \"\" for an empty one");
      } else if (auto value = reader.text(*entry.value)) {
        add_variable(reader, entry.place, seen, variables, entry.key, std::move(*value));
      }
    }
    return variables;
  }
  auto const items = reader.items(node, kVariablesMax, "a list of NAME=VALUE, or a map");
  if (node.kind != Node::Kind::List) return std::nullopt;
  for (std::size_t i = 0; i < items.size(); ++i) {
    Reader::Scope const scope(reader, fmt::format("[{}]", i));
    auto const text = reader.word(*items[i]);
    if (!text) continue;
    std::size_t const equals = text->find('=');
    if (equals == std::string::npos) {
      reader.mistake(
          items[i]->place,
          fmt::format(
              "\"{0}\" has no \"=\"; write {0}=VALUE, or {0}=${{{0}}} to pass on Aether's own",
              *text));
      continue;
    }
    add_variable(reader, items[i]->place, seen, variables, text->substr(0, equals),
                 text->substr(equals + 1));
  }
  return variables;
}

}  // namespace aether::config
