// SPDX-License-Identifier: Apache-2.0
// The table of a listener, in all the forms `listen:` may have.
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "config/draft.h"
#include "config/limits.h"

namespace aether::config {
namespace {

struct ListenDraft {
  Listen value;
  std::optional<ListenMode> mode;
  std::optional<ListenMode> steer;
};

constexpr std::array kListenModes{
    Choice{"steered", ListenMode::Steered},
    Choice{"shared", ListenMode::Shared},
    Choice{"exclusive", ListenMode::Exclusive},
    Choice{"bpf", ListenMode::Bpf},
};
constexpr std::array kSteers{Choice{"bpf", ListenMode::Bpf}};

// LISTEN_FDNAMES is a list with ":" between the names (man 3 sd_listen_fds).
std::optional<std::string> read_listener_name(Reader& reader, Node const& node) {
  auto name = reader.word(node);
  if (!name) return std::nullopt;
  bool const good = name->size() <= 64 && std::ranges::all_of(*name, [](char c) {
                      return c > ' ' && c < 0x7f && c != ':' && c != '{' && c != '}';
                    });
  if (good) return name;
  reader.mistake(node.place, fmt::format("\"{}\" cannot be a listener's name: 1 to 64 visible "
                                         "ASCII characters without ':', '{{' and '}}'",
                                         *name));
  return std::nullopt;
}

// 0660, 660 and 0o660 are all octal.
std::optional<unsigned> read_file_mode(Reader& reader, Node const& node) {
  auto const word = reader.word(node);
  if (!word) return std::nullopt;
  std::string_view digits = *word;
  if (digits.starts_with("0o")) digits.remove_prefix(2);
  unsigned mode = 0;
  auto const [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), mode, 8);
  bool const good = error == std::errc() && end == digits.data() + digits.size() && mode <= 0777;
  if (good) return mode;
  reader.mistake(node.place, fmt::format("\"{}\" is not a file mode, as 0660 is", *word));
  return std::nullopt;
}

template <auto Member, auto Read>
void store_listen(Reader& reader, Node const& node, ListenDraft& draft) {
  store<Member, Read>(reader, node, draft.value);
}

using ListenField = Field<ListenDraft>;
constexpr std::array kListenFields{
    ListenField{
        {"address", "address", "(required)",
         "`:8080`, `127.0.0.1:8080`, `[::1]:8080`, `udp://:53`, `unix:/path`, `unix:@name`, "
         "`unix-dgram:/path`, `unix-seqpacket:/path`. Port 0: any free one, kept."},
        store_listen<&Listen::address, read_address>},
    ListenField{{"name", "text", "the port",
                 "For `LISTEN_FDNAMES` and `{fd:NAME}`; unique in the service. Default: the port; "
                 "of a unix "
                 "socket, its path's last part or its name."},
                store_listen<&Listen::name, read_listener_name>},
    ListenField{{"mode", "`steered`, `shared`, `exclusive`", "steered",
                 "`steered`: a listener for each revision; nothing is lost in a swap. `shared`: "
                 "one that all "
                 "inherit; the default and only one for `unix:@name`. `exclusive`: one owner at a "
                 "time; the "
                 "old one stops first, connections wait."},
                store<&ListenDraft::mode, read_choice<kListenModes>>},
    ListenField{{"backlog", "number", "4096",
                 "Connections that may wait in the kernel, 1 to 65535 (and `net.core.somaxconn`)."},
                store_listen<&Listen::backlog, read_number<1, 65535>>},
    ListenField{
        {"unix_mode", "octal", "by umask", "File mode of a unix socket's path, e.g. `0660`."},
        store_listen<&Listen::unix_mode, read_file_mode>},
    ListenField{{"v6_only", "bool", "false", "An IPv6 listener that does not take IPv4."},
                store_listen<&Listen::v6_only, read_bool>},
    ListenField{
        {"steer", "`bpf`", "",
         "For programs that know nothing: each revision binds this address itself, and the kernel "
         "is told whose socket receives. TCP and UDP. Needs CAP_BPF, CAP_NET_ADMIN and cgroup v2; "
         "see [programs that bind their own port](bpf.md)."},
        store<&ListenDraft::steer, read_choice<kSteers>>},
};

// The port, or the last part of the path: what a person would call it.
std::string default_name(Address const& address, std::size_t index) {
  std::string name = address.port != 0 ? fmt::format("{}", address.port) : "";
  if (address.is_unix()) name = address.path.substr(address.path.rfind('/') + 1);
  bool const usable = !name.empty() && name.size() <= 64 && std::ranges::all_of(name, [](char c) {
    return c > ' ' && c < 0x7f && c != ':' && c != '{' && c != '}';
  });
  return usable ? name : fmt::format("listener-{}", index + 1);
}

// What only the whole listener shows.
void judge_listener(Reader& reader, Node const& node, Address const& address, ListenDraft& draft) {
  Listen& listen = draft.value;
  if (draft.mode && draft.steer && *draft.mode != *draft.steer) {
    reader.mistake(node.place, "mode and steer contradict each other");
  }
  std::optional<ListenMode> const mode = draft.steer ? draft.steer : draft.mode;
  if (address.abstract_name && mode && *mode != ListenMode::Shared) {
    reader.mistake(node.place,
                   "an abstract unix name can only be shared; give it a path, or mode: shared");
  }
  listen.mode = mode.value_or(address.abstract_name ? ListenMode::Shared : ListenMode::Steered);
  if (listen.unix_mode && (!address.is_unix() || address.abstract_name)) {
    reader.mistake(node.place, "unix_mode is for unix sockets with a path");
  }
  if (listen.v6_only && !address.is_ipv6() && !(address.host.empty() && !address.is_unix())) {
    reader.mistake(node.place, "v6_only is for IPv6 addresses, e.g. [::]:8080");
  }
}

void read_one_listener(Reader& reader, Node const& node, ServiceDraft& service) {
  ListenDraft draft;
  if (node.kind == Node::Kind::Scalar) {
    store_listen<&Listen::address, read_address>(reader, node, draft);
  } else {
    if (!reader.expect(node, Node::Kind::Map, "an address, e.g. \":8080\", or a map with one"))
      return;
    read_map<ListenDraft>(reader, node, draft, kListenFields);
    if (!node.find("address")) reader.mistake(node.place, "has no address");
  }
  // Without an address it has been told already.
  if (draft.value.address.empty()) return;
  auto const address = parse_address(draft.value.address);
  if (!address) return;
  judge_listener(reader, node, *address, draft);
  auto& listeners = *service.value.listen;
  if (draft.value.name.empty()) draft.value.name = default_name(*address, listeners.size());
  auto const same = std::ranges::find(listeners, draft.value.name, &Listen::name);
  if (same != listeners.end() && node.find("name")) {
    reader.mistake(node.place, fmt::format("another listener of this service has the name \"{}\"",
                                           draft.value.name));
  } else if (same != listeners.end()) {
    draft.value.name = fmt::format("listener-{}", listeners.size() + 1);
  }
  listeners.push_back(std::move(draft.value));
  service.listen_places.push_back(node.place);
}

}  // namespace

void read_listen(Reader& reader, Node const& node, ServiceDraft& service) {
  service.value.listen.emplace();
  if (node.kind == Node::Kind::Scalar && node.text == "none") return;
  if (node.kind != Node::Kind::List) {
    read_one_listener(reader, node, service);
    return;
  }
  auto const items = reader.items(node, kListenersMax, "a list of listeners");
  if (node.items.empty())
    reader.mistake(node.place, "is empty; write none if there is to be no listener");
  for (std::size_t i = 0; i < items.size(); ++i) {
    Reader::Scope const scope(reader, fmt::format("[{}]", i));
    read_one_listener(reader, *items[i], service);
  }
}

std::vector<Section> listen_sections() {
  return {describe<ListenDraft>(
      "service.listen",
      "An address alone, `listen: \":8080\"`, a map, or a list of either:", kListenFields)};
}

std::vector<Listen> effective_listeners(Service const& service) {
  if (service.listen) return *service.listen;
  auto const port =
      std::ranges::find(service.env, "PORT", &std::pair<std::string, std::string>::first);
  if (port == service.env.end()) return {};
  unsigned number = 0;
  std::string const& text = port->second;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  bool const good =
      error == std::errc() && end == text.data() + text.size() && number >= 1 && number <= 65535;
  if (!good) return {};
  Listen listen;
  listen.name = fmt::format("{}", number);
  listen.address = fmt::format(":{}", number);
  return {listen};
}

}  // namespace aether::config
