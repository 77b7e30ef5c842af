// SPDX-License-Identifier: Apache-2.0
// The tables of seed 004: orchestrator and functions[].
#include <array>

#include <fmt/format.h>

#include "config/draft.h"
#include "config/limits.h"

namespace aether::config {
namespace {

constexpr std::uint64_t kShmBufferMin = 64 << 10;
constexpr std::uint64_t kShmBufferMax = 1 << 30;
constexpr std::int64_t kFunctionProcessesMax = 4'194'304;  // PID_MAX_LIMIT

std::optional<std::uint64_t> read_shm_buffer(Reader& reader, Node const& node) {
  auto const bytes = read_size(reader, node);
  if (!bytes || (*bytes >= kShmBufferMin && *bytes <= kShmBufferMax)) return bytes;
  reader.mistake(node.place, fmt::format("{} bytes is out of range: {} (64 KiB) to {} (1 GiB)",
                                         *bytes, kShmBufferMin, kShmBufferMax));
  return std::nullopt;
}

enum class XdpMode : std::uint8_t { Generic, Native, Offload };
constexpr std::array kXdpModes{
    Choice<std::string_view>{"generic", "generic"},
    Choice<std::string_view>{"native", "native"},
    Choice<std::string_view>{"offload", "offload"},
};

constexpr std::int64_t kXdpPacketsMax = 1'000'000'000;

constexpr std::array kEbpfFields{
    Field<Ebpf>{{"enabled", "bool", "false",
                 "Count the packets for each function in the kernel. Refused where Aether may not "
                 "load BPF programs (`aether doctor`)."},
                store<&Ebpf::enabled, read_bool>},
    Field<Ebpf>{{"interface", "text", "(required)", "The network interface, e.g. `eth0`."},
                store<&Ebpf::interface, read_word>},
    Field<Ebpf>{{"mode", "`generic`, `native`, `offload`", "",
                 "How XDP is attached. Without it: `native` if the driver can, else `generic`."},
                store<&Ebpf::mode, read_choice<kXdpModes>>},
    Field<Ebpf>{
        {"rate", "packets a second", "none",
         "What each source address (IPv6: its /64) may send to the watched ports together; more "
         "is dropped."},
        store<&Ebpf::rate, read_number<1, kXdpPacketsMax, std::uint32_t>>},
    Field<Ebpf>{{"burst", "packets", "`rate`", "What a source may send at once. Needs `rate`."},
                store<&Ebpf::burst, read_number<1, kXdpPacketsMax, std::uint32_t>>},
    Field<Ebpf>{{"xdp_program", "path", "", "Accepted for older files, without effect."},
                [](Reader& reader, Node const& node, Ebpf&) {
                  if (reader.word(node))
                    reader.warn(node.place, "has no effect; Aether brings its own program");
                }},
};

void read_ebpf(Reader& reader, Node const& node, Ebpf& ebpf) {
  read_map<Ebpf>(reader, node, ebpf, kEbpfFields);
  if (node.kind != Node::Kind::Map) return;
  if (ebpf.enabled && !node.find("interface"))
    reader.mistake(node.place, "has no interface; name the one whose packets are counted");
  if (ebpf.burst > 0 && !node.find("rate"))
    reader.mistake(node.place, "has a burst, but no rate; say how many packets a second");
  if (ebpf.burst == 0) ebpf.burst = ebpf.rate;
}

void ignore_old_key(Reader& reader, Node const& node, Orchestrator&) {
  if (reader.word(node)) reader.warn(node.place, "has no effect; it is accepted for older files");
}

using OrchestratorField = Field<Orchestrator>;
constexpr std::array kOrchestratorFields{
    OrchestratorField{{"shm_buffer_size", "bytes", "4194304", "64 KiB to 1 GiB."},
                      store<&Orchestrator::shm_buffer_size, read_shm_buffer>},
    OrchestratorField{{"warm_pool_size", "number", "10", "Instances kept ahead, 1 to 1000."},
                      store<&Orchestrator::warm_pool_size, read_number<1, 1000>>},
    OrchestratorField{{"restore_timeout_ms", "milliseconds", "15", "1 to 100; enforced."},
                      store<&Orchestrator::restore_timeout_ms, read_number<1, 100>>},
    OrchestratorField{
        {"snapshot_dir", "absolute path", "/dev/shm/aetherless", "Where images of instances lie."},
        store<&Orchestrator::snapshot_dir, read_absolute_path>},
    OrchestratorField{{"ebpf", "map", "", "See `orchestrator.ebpf`."},
                      [](Reader& reader, Node const& node, Orchestrator& orchestrator) {
                        read_ebpf(reader, node, orchestrator.ebpf);
                      }},
    OrchestratorField{{"host", "text", "", "Accepted for older files, without effect."},
                      ignore_old_key},
    OrchestratorField{{"port", "text", "", "Accepted for older files, without effect."},
                      ignore_old_key},
    OrchestratorField{
        {"shutdown_timeout_ms", "text", "", "Accepted for older files, without effect."},
        ignore_old_key},
};

// ---- functions

constexpr std::array kRoutes{Choice{"gateway", Route::Gateway}, Choice{"direct", Route::Direct}};
constexpr std::array kBinds{Choice{"auto", Bind::Auto}, Choice{"documented", Bind::Documented},
                            Choice{"internal", Bind::Internal}};
constexpr std::array kLaunches{Choice{"auto", Launch::Auto}, Choice{"clone", Launch::Clone},
                               Choice{"image", Launch::Image}, Choice{"spawn", Launch::Spawn}};
constexpr std::array kSandboxes{Choice{"none", Sandbox::None}, Choice{"basic", Sandbox::Basic},
                                Choice{"strict", Sandbox::Strict}};
constexpr std::array kRestoreFailures{Choice{"fail", RestoreFailure::Fail},
                                      Choice{"cold", RestoreFailure::Cold}};
constexpr std::array kIpcs{Choice{"http", Ipc::Http}, Choice{"ring", Ipc::Ring}};

std::optional<std::string> read_id(Reader& reader, Node const& node) {
  auto id = reader.word(node);
  if (!id) return std::nullopt;
  bool const good = id->size() <= 64 && std::ranges::all_of(*id, [](char c) {
                      return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                             (c >= '0' && c <= '9') || c == '-' || c == '_';
                    });
  if (good) return id;
  reader.mistake(node.place, fmt::format("\"{}\" is not an id: 1 to 64 of A-Z a-z 0-9 - _", *id));
  return std::nullopt;
}

// Requests that warm the template up: "/path" each.
std::optional<std::vector<std::string>> read_warmup(Reader& reader, Node const& node) {
  auto paths = read_words(reader, node);
  if (!paths) return std::nullopt;
  for (std::string const& path : *paths) {
    if (path.starts_with('/')) continue;
    reader.mistake(node.place, fmt::format("\"{}\" is not a path; it begins with /", path));
  }
  return paths;
}

// ---- functions[].ready

enum class HandlerReady : std::uint8_t { Notify, Port };
constexpr std::array kHandlerReady{Choice{"notify", HandlerReady::Notify},
                                   Choice{"port", HandlerReady::Port},
                                   Choice{"listening", HandlerReady::Port}};

void read_handler_ready_word(Reader& reader, Node const& node, FunctionDraft& draft) {
  ++draft.ready_ways;
  auto const word = read_choice<kHandlerReady>(reader, node);
  if (!word) return;
  if (*word == HandlerReady::Port)
    draft.value.ready = ReadyListening{};
  else
    draft.value.ready = ReadyNotify{};
}

void read_ready_path(Reader& reader, Node const& node, FunctionDraft& draft) {
  ++draft.ready_ways;
  auto const path = reader.word(node);
  if (!path) return;
  if (path->starts_with('/'))
    draft.value.ready = ReadyHttp{*path};
  else
    reader.mistake(node.place,
                   fmt::format("\"{}\" is not a path; it begins with /, and is asked of the "
                               "handler's own port",
                               *path));
}

constexpr std::array kHandlerReadyFields{
    Field<FunctionDraft>{
        {"when", "`notify`, `port`", "notify",
         "`notify`: the five bytes `READY` on `AETHER_SOCKET`, or `READY=1` on `NOTIFY_SOCKET`. "
         "`port` (also `listening`): that it listens is enough."},
        read_handler_ready_word},
    Field<FunctionDraft>{{"http", "path", "",
                          "Asked of the handler until it answers with 200 to 299, e.g. `/ready`."},
                         read_ready_path},
    Field<FunctionDraft>{
        {"timeout", "duration", "60s", "Not ready by then: the start, or the deploy, has failed."},
        [](Reader& reader, Node const& node, FunctionDraft& draft) {
          if (auto timeout = read_timeout(reader, node)) draft.value.ready_timeout = *timeout;
        }},
};

void read_handler_ready(Reader& reader, Node const& node, FunctionDraft& draft) {
  if (node.kind == Node::Kind::Scalar) return read_handler_ready_word(reader, node, draft);
  read_map<FunctionDraft>(reader, node, draft, kHandlerReadyFields);
  if (draft.ready_ways > 1)
    reader.mistake(node.place, "says several ways; choose one of when and http");
}

// ---- functions[].restart

constexpr std::array kStartBackoffFields{
    Field<FunctionRestart>{{"min", "duration", "100ms", "After a start that failed."},
                           store<&FunctionRestart::backoff_min, read_timeout>},
    Field<FunctionRestart>{{"max", "duration", "30s", "It doubles up to this. Not below `min`."},
                           store<&FunctionRestart::backoff_max, read_timeout>},
};

constexpr std::array kStartLimitFields{
    Field<FunctionRestart>{
        {"count", "number", "none", "This many failed starts in a row, 1 to 1000 ..."},
        store<&FunctionRestart::crash_loop_count, read_number<1, 1000>>},
    Field<FunctionRestart>{
        {"window", "duration", "60s", "... within this time are the last, until a deploy."},
        store<&FunctionRestart::crash_loop_window, read_timeout>},
};

constexpr std::array kStartRulesFields{
    Field<FunctionRestart>{{"backoff", "map", "", "The pause before the next start: `min`, `max`."},
                           [](Reader& reader, Node const& node, FunctionRestart& restart) {
                             read_map<FunctionRestart>(reader, node, restart, kStartBackoffFields);
                             if (restart.backoff_max >= restart.backoff_min) return;
                             reader.mistake(node.place, "min is longer than max");
                           }},
    Field<FunctionRestart>{{"crash_loop", "map", "",
                            "When Aether stops trying: `count`, `window`. Without it, it goes on."},
                           [](Reader& reader, Node const& node, FunctionRestart& restart) {
                             read_map<FunctionRestart>(reader, node, restart, kStartLimitFields);
                             if (restart.crash_loop_count > 0) return;
                             reader.mistake(node.place, "has no count; a number of failed starts");
                           }},
};

void read_start_rules(Reader& reader, Node const& node, FunctionDraft& draft) {
  read_map<FunctionRestart>(reader, node, draft.value.restart, kStartRulesFields);
}

template <auto Member, auto Read>
void store_function(Reader& reader, Node const& node, FunctionDraft& draft) {
  store<Member, Read>(reader, node, draft.value);
}

using FunctionField = Field<FunctionDraft>;
constexpr std::array kFunctionFields{
    FunctionField{{"id", "text", "(required)", "1 to 64 of `A-Za-z0-9-_`, unique."},
                  store_function<&Function::id, read_id>},
    FunctionField{{"memory_limit_mb", "MB", "(required)", "1 to 16384."},
                  store_function<&Function::memory_limit_mb, read_number<1, 16384>>},
    FunctionField{{"cpu", "cores", "none", "Of each instance, 0.01 to 4096, e.g. `0.5`."},
                  store_function<&Function::cpu, read_cpu>},
    FunctionField{
        {"processes", "number", "512", "Processes and threads of each instance."},
        store_function<&Function::processes, read_number<1, kFunctionProcessesMax, std::uint32_t>>},
    FunctionField{{"trigger_port", "port", "(required)", "1 to 65535, unique."},
                  store_function<&Function::trigger_port, read_number<1, 65535, std::uint16_t>>},
    FunctionField{{"handler_path", "path", "(required)",
                   "A program that serves HTTP. A relative one is taken from this file's folder."},
                  store_function<&Function::handler_path, read_path>},
    FunctionField{{"timeout_ms", "milliseconds", "30000", "Of a request, 1 to 900000."},
                  store_function<&Function::timeout_ms, read_number<1, 900000>>},
    FunctionField{{"environment", "map, or list of `K=V`", "", "Variables for the handler."},
                  store_function<&Function::environment, read_variables>},
    FunctionField{{"route", "`gateway`, `direct`", "gateway",
                   "Through Aether, or straight to the handler, which inherits the listener."},
                  store_function<&Function::route, read_choice<kRoutes>>},
    FunctionField{{"bind", "`auto`, `documented`, `internal`", "auto",
                   "The port that a handler is told to bind: `trigger_port`, in each instance "
                   "(needs BPF), or one of its own. See `docs/functions.md`."},
                  store_function<&Function::bind, read_choice<kBinds>>},
    FunctionField{{"concurrency", "number", "1", "Requests at once in one instance, 1 to 1000."},
                  store_function<&Function::concurrency, read_number<1, 1000>>},
    FunctionField{{"min_instances", "number", "0", "0 to 1000."},
                  store_function<&Function::min_instances, read_number<0, 1000>>},
    FunctionField{{"max_instances", "number", "10", "1 to 1000, not below `min_instances`."},
                  store_function<&Function::max_instances, read_number<1, 1000>>},
    FunctionField{{"parked", "number", "warm_pool_size",
                   "How many of it are kept ahead, frozen, 0 to 1000. 0: one that has idled for "
                   "`idle_timeout` ends, and a request makes a new one."},
                  store_function<&Function::parked, read_number<0, 1000>>},
    FunctionField{
        {"idle_timeout", "duration", "60s", "An instance without requests is parked after this."},
        store_function<&Function::idle_timeout, read_duration>},
    FunctionField{{"warmup", "list of paths", "", "Asked once before the template is frozen."},
                  store_function<&Function::warmup, read_warmup>},
    FunctionField{
        {"launch", "`auto`, `clone`, `image`, `spawn`", "auto", "How an instance comes to be."},
        store_function<&Function::launch, read_choice<kLaunches>>},
    FunctionField{{"sandbox", "`none`, `basic`, `strict`", "basic",
                   "System calls and files that the handler may use."},
                  store_function<&Function::sandbox, read_choice<kSandboxes>>},
    FunctionField{{"pid_namespace", "bool", "false",
                   "Each copy is process 1 of a namespace of its own: for programs that remember "
                   "their process number. Read `docs/handlers.md` before."},
                  store_function<&Function::pid_namespace, read_bool>},
    FunctionField{{"ipc", "`http`, `ring`", "http",
                   "How requests reach the handler: over a port, or through shared memory. See "
                   "`docs/functions-ring.md`."},
                  store_function<&Function::ipc, read_choice<kIpcs>>},
    FunctionField{{"ready", "`notify`, `port`, or map", "notify", "See `functions[].ready`."},
                  read_handler_ready},
    FunctionField{{"restart", "map", "", "See `functions[].restart`."}, read_start_rules},
    FunctionField{{"on_restore_failure", "`cold`, `fail`", "cold",
                   "When a copy was not made within `restore_timeout_ms`: the request waits for an "
                   "instance that is spawned, or gets a 503."},
                  store_function<&Function::on_restore_failure, read_choice<kRestoreFailures>>},
};

}  // namespace

void read_orchestrator(Reader& reader, Node const& node, RootDraft& root) {
  read_map<Orchestrator>(reader, node, root.value.orchestrator, kOrchestratorFields);
  if (!root.value.orchestrator.ebpf.enabled) return;
  Node const* const ebpf = node.find("ebpf");
  Node const* const enabled = ebpf != nullptr ? ebpf->find("enabled") : nullptr;
  if (enabled == nullptr) return;
  root.value.kernel_needs.push_back({.kind = KernelNeed::Kind::Xdp,
                                     .line = enabled->place.line,
                                     .column = enabled->place.column,
                                     .what = "orchestrator.ebpf"});
}

void read_functions(Reader& reader, Node const& node, RootDraft& root) {
  auto const items = reader.items(node, kFunctionsMax, "a list of functions, each a map");
  for (std::size_t i = 0; i < items.size(); ++i) {
    Reader::Scope const scope(reader, fmt::format("[{}]", i));
    FunctionDraft& draft = root.functions.emplace_back();
    draft.place = items[i]->place;
    read_map_with_places<FunctionDraft>(reader, *items[i], draft, kFunctionFields);
    if (items[i]->kind != Node::Kind::Map) continue;
    for (std::string_view const key : {"id", "memory_limit_mb", "trigger_port", "handler_path"}) {
      if (!items[i]->find(key)) reader.mistake(draft.place, fmt::format("has no {}", key));
    }
  }
}

std::vector<Section> function_sections() {
  return {
      describe<Orchestrator>("orchestrator", "Settings of functions.", kOrchestratorFields),
      describe<Ebpf>("orchestrator.ebpf", "", kEbpfFields),
      describe<FunctionDraft>(
          "functions[]",
          "Programs that run only while they are asked for (docs/functions.md). `launch: image` "
          "needs a CRIU that works (docs/functions-images.md): else the file is refused.",
          kFunctionFields),
      describe<FunctionDraft>(
          "functions[].ready",
          "A word alone, `ready: port`, or a map with one way and a timeout. In "
          "each way the handler must listen, too.",
          kHandlerReadyFields),
      describe<FunctionRestart>("functions[].restart",
                                "What becomes of starts that fail one after another.",
                                kStartRulesFields),
      describe<FunctionRestart>("functions[].restart.backoff", "", kStartBackoffFields),
      describe<FunctionRestart>("functions[].restart.crash_loop", "", kStartLimitFields),
  };
}

}  // namespace aether::config
