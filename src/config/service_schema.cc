// SPDX-License-Identifier: Apache-2.0
// The tables of a service: itself, restart, limits. Its readiness is in ready_schema.cc.
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "config/draft.h"
#include "config/limits.h"

namespace aether::config {
namespace {

// ---- restart

constexpr std::array kPolicies{
    Choice{"always", RestartPolicy::Always},
    Choice{"on-failure", RestartPolicy::OnFailure},
    Choice{"never", RestartPolicy::Never},
    Choice{"no", RestartPolicy::Never},
};

constexpr std::array kBackoffFields{
    Field<Restart>{{"min", "duration", "100ms", "Before the first restart."},
                   store<&Restart::backoff_min, read_timeout>},
    Field<Restart>{{"max", "duration", "30s", "It doubles up to this. Not below `min`."},
                   store<&Restart::backoff_max, read_timeout>},
};

constexpr std::array kCrashLoopFields{
    Field<Restart>{{"count", "number", "5", "This many crashes, 1 to 1000 ..."},
                   store<&Restart::crash_loop_count, read_number<1, 1000>>},
    Field<Restart>{{"window", "duration", "60s", "... within this time end the restarts."},
                   store<&Restart::crash_loop_window, read_timeout>},
};

constexpr std::array kRestartFields{
    Field<Restart>{{"policy", "`always`, `on-failure`, `never`", "on-failure",
                    "When a service that ended by itself is started again."},
                   store<&Restart::policy, read_choice<kPolicies>>},
    Field<Restart>{{"backoff", "map", "", "The pause before a restart, with some jitter."},
                   [](Reader& reader, Node const& node, Restart& restart) {
                     read_map<Restart>(reader, node, restart, kBackoffFields);
                     if (restart.backoff_max >= restart.backoff_min) return;
                     reader.mistake(node.place, "min is longer than max");
                   }},
    Field<Restart>{{"crash_loop", "map", "", "When Aether stops trying."},
                   [](Reader& reader, Node const& node, Restart& restart) {
                     read_map<Restart>(reader, node, restart, kCrashLoopFields);
                   }},
};

std::optional<Restart> read_restart(Reader& reader, Node const& node) {
  Restart restart;
  if (node.kind == Node::Kind::Scalar) {
    auto const policy = read_choice<kPolicies>(reader, node);
    if (!policy) return std::nullopt;
    restart.policy = *policy;
  } else {
    read_map<Restart>(reader, node, restart, kRestartFields);
  }
  return restart;
}

// ---- limits

constexpr std::int64_t kProcessesMax = 4'194'304;      // PID_MAX_LIMIT
constexpr std::int64_t kOpenFilesMax = 1'073'741'816;  // fs.nr_open's highest value

std::optional<std::uint64_t> read_memory(Reader& reader, Node const& node) {
  auto const bytes = read_size(reader, node);
  if (!bytes || *bytes >= (1 << 20)) return bytes;
  reader.mistake(node.place, "is less than 1MiB, in which no program runs");
  return std::nullopt;
}

constexpr std::array kLimitsFields{
    Field<Limits>{
        {"memory", "size", "none", "Of the whole process tree, with what is swapped out."},
        store<&Limits::memory, read_memory>},
    Field<Limits>{{"cpu", "cores", "none", "0.01 to 4096, e.g. `0.5`."},
                  store<&Limits::cpu, read_cpu>},
    Field<Limits>{{"processes", "number", "none", "Processes and threads of the whole tree."},
                  store<&Limits::processes, read_number<1, kProcessesMax, std::uint32_t>>},
    Field<Limits>{{"open_files", "number", "Aether's own",
                   "File descriptors of one process (`RLIMIT_NOFILE`)."},
                  store<&Limits::open_files, read_number<16, kOpenFilesMax, std::uint64_t>>},
    Field<Limits>{
        {"core_size", "size", "Aether's own", "Size of a core dump (`RLIMIT_CORE`); `0` for none."},
        store<&Limits::core_size, read_size>},
};

std::optional<Limits> read_limits(Reader& reader, Node const& node) {
  Limits limits;
  read_map<Limits>(reader, node, limits, kLimitsFields);
  return limits;
}

// ---- the service

constexpr std::array kNotifyAccesses{
    Choice{"all", NotifyAccess::All},
    Choice{"main", NotifyAccess::Main},
    Choice{"none", NotifyAccess::None},
};

constexpr std::array kCompats{
    Choice{"nginx", Compat::Nginx},
};

struct Signal {
  std::string_view name;
  int number;
};
constexpr std::array kSignals{
    Signal{"SIGHUP", 1},   Signal{"SIGINT", 2},   Signal{"SIGQUIT", 3},  Signal{"SIGKILL", 9},
    Signal{"SIGUSR1", 10}, Signal{"SIGUSR2", 12}, Signal{"SIGTERM", 15}, Signal{"SIGWINCH", 28},
};

// "SIGTERM", "TERM" or 15.
std::optional<int> read_signal(Reader& reader, Node const& node) {
  auto const word = reader.word(node);
  if (!word) return std::nullopt;
  std::vector<std::string_view> known;
  for (Signal const& signal : kSignals) {
    bool const same = *word == signal.name || *word == signal.name.substr(3) ||
                      *word == fmt::format("{}", signal.number);
    if (same) return signal.number;
    known.push_back(signal.name);
  }
  int number = 0;
  auto const [end, error] = std::from_chars(word->data(), word->data() + word->size(), number);
  bool const whole = error == std::errc() && end == word->data() + word->size();
  if (whole && number >= 1 && number <= 64) return number;
  reader.mistake(node.place, fmt::format("\"{}\" is not a signal, as SIGTERM or 15 is{}", *word,
                                         did_you_mean(*word, known)));
  return std::nullopt;
}

// "name", "name:group", "1000", "1000:1000". Whether they exist is known where it runs.
std::optional<std::string> read_user(Reader& reader, Node const& node) {
  auto text = reader.word(node);
  if (!text) return std::nullopt;
  std::size_t const colon = text->find(':');
  auto const is_name = [](std::string_view name) {
    return !name.empty() && name.size() <= 32 && name[0] != '-' &&
           std::ranges::all_of(name, [](char c) {
             return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '_' || c == '-' || c == '.' || c == '$';
           });
  };
  std::string_view const whole = *text;
  bool const good = is_name(whole.substr(0, colon)) &&
                    (colon == std::string::npos || is_name(whole.substr(colon + 1)));
  if (good) return text;
  reader.mistake(node.place,
                 fmt::format("\"{}\" is not a user; write NAME, NAME:GROUP or numbers", *text));
  return std::nullopt;
}

void read_compat(Reader& reader, Node const& node, ServiceDraft& draft) {
  for (Node const* item : reader.items(node, kCompats.size(), "a list, e.g. [nginx]")) {
    auto const compat = read_choice<kCompats>(reader, *item);
    if (compat) draft.value.compat.push_back(*compat);
  }
}

void read_after(Reader& reader, Node const& node, ServiceDraft& draft) {
  for (Node const* item : reader.items(node, kAfterMax, "a list of services' names")) {
    auto name = reader.word(*item);
    if (!name) continue;
    draft.value.after.push_back(std::move(*name));
    draft.after_places.push_back(item->place);
  }
}

// Reads a value into a member of the service itself.
template <auto Member, auto Read>
void store_service(Reader& reader, Node const& node, ServiceDraft& draft) {
  store<Member, Read>(reader, node, draft.value);
}

using ServiceField = Field<ServiceDraft>;
constexpr std::array kServiceFields{
    ServiceField{
        {"name", "text", "from the command",
         "1 to 64 of `A-Za-z0-9-_.`, unique. Default: the program's or script's name without its "
         "ending: `python3 my_agent.py` is `my_agent`."},
        [](Reader& reader, Node const& node, ServiceDraft& draft) {
          draft.name = reader.word(node);
        }},
    ServiceField{
        {"command", "list", "(required)",
         "The program and its arguments. `{fd:NAME}` in an argument becomes the number of the "
         "listener NAME."},
        store_service<&Service::command, read_command>},
    ServiceField{{"env", "list of `K=V`, or map", "",
                  "Added to Aether's own environment. `PORT` without `listen` makes a listener on "
                  "that port."},
                 store_service<&Service::env, read_variables>},
    ServiceField{
        {"listen", "address, map, list of them, or `none`", "",
         "Listeners that belong to the service and outlive its processes; see `service.listen`. "
         "`none`: never make one."},
        read_listen},
    ServiceField{{"restart", "policy, or map", "on-failure", "See `service.restart`."},
                 store_service<&Service::restart, read_restart>},
    ServiceField{
        {"workdir", "path", "Aether's own", "A relative one is taken from this file's folder."},
        store_service<&Service::workdir, read_path>},
    ServiceField{{"user", "text", "Aether's own",
                  "`NAME`, `NAME:GROUP` or numbers. Needs the right to change users."},
                 store_service<&Service::user, read_user>},
    ServiceField{{"limits", "map", "", "See `service.limits`."},
                 store_service<&Service::limits, read_limits>},
    ServiceField{
        {"ready", "word, or map", "auto", "How it shows that it can serve; see `service.ready`."},
        read_ready},
    ServiceField{
        {"stop_signal", "signal", "SIGTERM", "What asks it to stop: `SIGTERM`, `TERM` or `15`."},
        store_service<&Service::stop_signal, read_signal>},
    ServiceField{{"stop_timeout", "duration", "10s", "After this, SIGKILL to the whole tree."},
                 store_service<&Service::stop_timeout, read_timeout>},
    ServiceField{
        {"after", "list of names", "", "Services that must be ready before this one is started."},
        read_after},
    ServiceField{{"compat", "list of `nginx`", "",
                  "`nginx`: gives NGINX=\"3;\", which nginx takes for its listeners. "
                  "(SERVER_STARTER_PORT and "
                  "EINHORN_FD_n are always given.)"},
                 read_compat},
    ServiceField{{"watchdog", "duration", "none",
                  "`WATCHDOG=1` must come at least this often (`WATCHDOG_USEC`)."},
                 store_service<&Service::watchdog, read_timeout>},
    ServiceField{{"notify_access", "`all`, `main`, `none`", "all",
                  "Whose words on `NOTIFY_SOCKET` count: those of every process of the service, of "
                  "its main process alone, or of nobody."},
                 store_service<&Service::notify_access, read_choice<kNotifyAccesses>>},
    ServiceField{
        {"fd_store", "number", "128",
         "How many descriptors the service may leave with Aether (`FDSTORE=1`), 0 to 4096. "
         "Its later instances get them again."},
        store_service<&Service::fd_store, read_number<0, kStoredFdsMax>>},
    ServiceField{{"pid_file", "path", "",
                  "For a program that goes to the background: where it writes the pid of the "
                  "process that stays. A relative one is taken from this file's folder."},
                 store_service<&Service::pid_file, read_path>},
    ServiceField{
        {"orchestration", "map", "the file's",
         "As the section of that name, for this service alone. Takes its place as a whole."},
        [](Reader& reader, Node const& node, ServiceDraft& draft) {
          read_orchestration(reader, node, draft.orchestration);
        }},
    ServiceField{
        {"handoff", "map", "the file's", "As the section of that name, for this service alone."},
        [](Reader& reader, Node const& node, ServiceDraft& draft) {
          read_handoff(reader, node, draft.handoff);
        }},
    ServiceField{{"binary_path", "path", "", "Accepted for older files, without effect."},
                 [](Reader& reader, Node const& node, ServiceDraft&) {
                   if (reader.word(node))
                     reader.warn(node.place, "has no effect; the program is what command names");
                 }},
};

}  // namespace

void read_service(Reader& reader, Node const& node, ServiceDraft& service) {
  service.place = node.place;
  service.has_command = node.find("command") != nullptr;
  read_map_with_places<ServiceDraft>(reader, node, service, kServiceFields);
}

void read_services(Reader& reader, Node const& node, RootDraft& root) {
  auto const items = reader.items(node, kServicesMax, "a list of services, each a map");
  for (std::size_t i = 0; i < items.size(); ++i) {
    Reader::Scope const scope(reader, fmt::format("[{}]", i));
    read_service(reader, *items[i], root.services.emplace_back());
  }
}

std::vector<Section> service_sections() {
  return {
      describe<ServiceDraft>("service",
                             "One program that Aether keeps running. Several: a list under "
                             "`services`, each item with these keys.",
                             kServiceFields),
      describe<Restart>("service.restart",
                        "A policy alone, `restart: always`, or a map:", kRestartFields),
      describe<Restart>("service.restart.backoff", "", kBackoffFields),
      describe<Restart>("service.restart.crash_loop", "", kCrashLoopFields),
      describe<Limits>("service.limits", "", kLimitsFields),
      ready_section(),
  };
}

}  // namespace aether::config
