// SPDX-License-Identifier: Apache-2.0
// The table of a service's readiness.
#include <array>

#include <fmt/format.h>

#include "base/pattern.h"
#include "config/draft.h"

namespace aether::config {
namespace {

enum class ReadyWord : std::uint8_t { Auto, Notify, Listening };
constexpr std::array kReadyWords{
    Choice{"auto", ReadyWord::Auto},
    Choice{"notify", ReadyWord::Notify},
    Choice{"listening", ReadyWord::Listening},
    Choice{"port", ReadyWord::Listening},
};

std::optional<Ready> read_ready_word(Reader& reader, Node const& node) {
  auto const word = read_choice<kReadyWords>(reader, node);
  if (!word) return std::nullopt;
  if (*word == ReadyWord::Notify) return ReadyNotify{};
  if (*word == ReadyWord::Listening) return ReadyListening{};
  return ReadyAuto{};
}

struct ReadyDraft {
  Ready ready;
  std::optional<Duration> timeout;
  int ways = 0;  ///< Keys that say how; one is allowed.
};

/// Descriptors 0, 1 and 2 are the program's input and output.
constexpr std::int64_t kReadyFdMin = 3;
constexpr std::int64_t kReadyFdMax = 1023;

std::optional<std::string> read_pattern(Reader& reader, Node const& node) {
  auto text = reader.text(node);
  if (!text || !reader.accept(node, Pattern::compile(*text))) return std::nullopt;
  return text;
}

// A path, or "@name": what stands after "unix:" in an address.
void read_unix_way(Reader& reader, Node const& node, ReadyDraft& draft) {
  ++draft.ways;
  auto const path = reader.word(node);
  if (!path) return;
  std::string const address = path->starts_with("unix:") ? *path : "unix:" + *path;
  if (reader.accept(node, parse_address(address))) draft.ready = ReadyTcp{address};
}

template <class Way, auto Member, auto Read>
void read_way(Reader& reader, Node const& node, ReadyDraft& draft) {
  ++draft.ways;
  Way way;
  store<Member, Read>(reader, node, way);
  draft.ready = std::move(way);
}

constexpr std::array kReadyFields{
    Field<ReadyDraft>{
        {"when", "`auto`, `notify`, `listening`", "auto",
         "`notify`: `READY=1` on `NOTIFY_SOCKET`, or the SDK's hello. `listening` (also `port`): "
         "the program waits for connections on each of its listeners. `auto`: whichever comes "
         "first; without listeners, that it runs."},
        [](Reader& reader, Node const& node, ReadyDraft& draft) {
          ++draft.ways;
          if (auto ready = read_ready_word(reader, node)) draft.ready = *ready;
        }},
    Field<ReadyDraft>{
        {"http", "URL or path", "",
         "Asked until it answers with 200 to 399. `/path` asks the service's first TCP listener."},
        read_way<ReadyHttp, &ReadyHttp::url, read_url>},
    Field<ReadyDraft>{{"tcp", "address", "", "Tried until it accepts a connection."},
                      read_way<ReadyTcp, &ReadyTcp::address, read_target>},
    Field<ReadyDraft>{{"unix", "path", "", "The same for a Unix socket."}, read_unix_way},
    Field<ReadyDraft>{{"command", "list", "", "Run until it ends with 0."},
                      read_way<ReadyCommand, &ReadyCommand::command, read_command>},
    Field<ReadyDraft>{{"fd", "number", "",
                       "A newline on this descriptor, which the program is given, 3 to 1023 (s6's "
                       "`notification-fd`). Above those of its listeners."},
                      read_way<ReadyFd, &ReadyFd::fd, read_number<kReadyFdMin, kReadyFdMax>>},
    Field<ReadyDraft>{
        {"log", "pattern", "",
         "A line of its output in which this POSIX extended regular expression is found; "
         "without `{n,m}` and `\\1`."},
        read_way<ReadyLog, &ReadyLog::pattern, read_pattern>},
    Field<ReadyDraft>{{"delay", "duration", "", "Ready when it still runs after this time."},
                      read_way<ReadyDelay, &ReadyDelay::delay, read_duration>},
    Field<ReadyDraft>{
        {"timeout", "duration", "60s", "Not ready by then: the start, or the swap, has failed."},
        [](Reader& reader, Node const& node, ReadyDraft& draft) {
          if (auto timeout = read_timeout(reader, node)) draft.timeout = timeout;
        }},
};

}  // namespace

void read_ready(Reader& reader, Node const& node, ServiceDraft& service) {
  ReadyDraft draft;
  if (node.kind == Node::Kind::Scalar) {
    if (auto ready = read_ready_word(reader, node)) service.value.ready = *ready;
    return;
  }
  read_map<ReadyDraft>(reader, node, draft, kReadyFields);
  if (draft.ways > 1) {
    reader.mistake(node.place,
                   "says several ways; choose one of when, http, tcp, unix, "
                   "command, fd, log, delay");
  }
  service.value.ready = std::move(draft.ready);
  if (draft.timeout) service.value.ready_timeout = *draft.timeout;
}

Section ready_section() {
  return describe<ReadyDraft>(
      "service.ready",
      "A word alone, `ready: notify`, or a map with one way and a timeout:", kReadyFields);
}

}  // namespace aether::config
