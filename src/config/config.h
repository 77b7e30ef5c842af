// SPDX-License-Identifier: Apache-2.0
// The configuration as the rest of Aether sees it: plain values, validated, with every default
// filled in. How they are read from YAML is in loader.h. Durations are never negative; addresses
// are text that parse_address (base/address.h) takes. All of these compare, so that a reload can
// tell what changed.
#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/log.h"
#include "base/time.h"
#include "config/jobs_config.h"
#include "config/swap_config.h"

namespace aether::config {

// ---- listeners

/// How connections find the revision that serves (docs/architecture.md).
enum class ListenMode : std::uint8_t {
  Steered,    ///< A listener per revision; a kernel program names the one that receives.
  Shared,     ///< One listener that every revision inherits.
  Exclusive,  ///< One owner at a time: the old revision stops before the new one starts.
  Bpf,        ///< The program binds its own port; the kernel is told whose socket receives.
};

struct Listen {
  std::string name;     ///< For LISTEN_FDNAMES and {fd:NAME}; unique within the service.
  std::string address;  ///< As written, e.g. ":8080"; parse_address has taken it.
  ListenMode mode = ListenMode::Steered;  ///< Abstract unix names are Shared.
  int backlog = 4096;                     ///< 1..65535.
  std::optional<unsigned> unix_mode;      ///< File mode of a unix socket's path, 0..0777.
  bool v6_only = false;
  bool operator==(Listen const&) const = default;
};

// ---- restart, readiness, limits

enum class RestartPolicy : std::uint8_t { Always, OnFailure, Never };

struct Restart {
  RestartPolicy policy = RestartPolicy::OnFailure;
  Duration backoff_min = std::chrono::milliseconds(100);
  Duration backoff_max = std::chrono::seconds(30);  ///< Never below backoff_min.
  int crash_loop_count = 5;                         ///< This many crashes ...
  Duration crash_loop_window =
      std::chrono::seconds(60);  ///< ... within this time end the restarts.
  bool operator==(Restart const&) const = default;
};

struct ReadyAuto {  ///< Whichever comes first: READY=1, the SDK's hello, listening.
  bool operator==(ReadyAuto const&) const = default;
};
struct ReadyNotify {  ///< READY=1 on NOTIFY_SOCKET, or the SDK's hello.
  bool operator==(ReadyNotify const&) const = default;
};
struct ReadyListening {  ///< Some process of the instance waits for each listener.
  bool operator==(ReadyListening const&) const = default;
};
struct ReadyHttp {
  std::string
      url;  ///< "http://host:port/path", or "/path" on the service's own port: see probe_url.
  bool operator==(ReadyHttp const&) const = default;
};
struct ReadyTcp {
  std::string address;  ///< Accepts a connection.
  bool operator==(ReadyTcp const&) const = default;
};
struct ReadyCommand {
  Command command;  ///< Ends with 0.
  bool operator==(ReadyCommand const&) const = default;
};
struct ReadyDelay {
  Duration delay{};  ///< Still runs after this time.
  bool operator==(ReadyDelay const&) const = default;
};
struct ReadyFd {
  int fd = 3;  ///< A newline on this descriptor, as s6 takes it (notification-fd).
  bool operator==(ReadyFd const&) const = default;
};
struct ReadyLog {
  std::string pattern;  ///< A line of its output has this; Pattern::compile has taken it.
  bool operator==(ReadyLog const&) const = default;
};
using Ready = std::variant<ReadyAuto, ReadyNotify, ReadyListening, ReadyHttp, ReadyTcp,
                           ReadyCommand, ReadyDelay, ReadyFd, ReadyLog>;

/// Whose words on NOTIFY_SOCKET count.
enum class NotifyAccess : std::uint8_t {
  All,   ///< Every process of the service's tree.
  Main,  ///< The main process alone.
  None,  ///< Nobody: there is no NOTIFY_SOCKET.
};

/// Absent: Aether sets no limit of its own.
struct Limits {
  std::optional<std::uint64_t> memory;      ///< Bytes, of the whole process tree.
  std::optional<double> cpu;                ///< Cores, e.g. 0.5.
  std::optional<std::uint32_t> processes;   ///< Processes and threads of the tree.
  std::optional<std::uint64_t> open_files;  ///< RLIMIT_NOFILE.
  std::optional<std::uint64_t> core_size;   ///< RLIMIT_CORE, bytes.
  bool operator==(Limits const&) const = default;
};

/// Variables that mean something else to the program unless it is asked for. nginx takes NGINX for
/// its own binary upgrade, so it is given only on request; SERVER_STARTER_PORT and EINHORN_FD_n are
/// given to everyone.
enum class Compat : std::uint8_t { Nginx };

// ---- services

struct Service {
  std::string name;  ///< 1-64 of A-Za-z0-9-_. ; unique in the file.
  Command command;   ///< Never empty.
  Variables env;     ///< In the file's order; no name twice.
  /// Absent when the file says nothing; empty for `listen: none`. See effective_listeners.
  std::optional<std::vector<Listen>> listen;
  Restart restart;
  std::optional<std::string>
      workdir;  ///< Absolute, if the file was loaded by path. Absent: Aether's own.
  std::optional<std::string> user;  ///< "name", "name:group" or numbers; looked up at launch.
  Limits limits;
  Ready ready;
  Duration ready_timeout = std::chrono::seconds(60);
  int stop_signal = 15;
  Duration stop_timeout = std::chrono::seconds(10);
  std::vector<std::string> after;  ///< Services that must be ready first. Known names, no cycle.
  std::vector<Compat> compat;
  std::optional<Duration> watchdog;
  NotifyAccess notify_access = NotifyAccess::All;
  int fd_store = 128;  ///< Descriptors that are kept for the service at most; 0: none.
  /// Where a program that goes to the background writes its pid. As `workdir`.
  std::optional<std::string> pid_file;
  Orchestration orchestration;
  Handoff handoff;
  bool is_worker = false;  ///< Of an agent: its instances get a socket for the worker protocol.
  bool operator==(Service const&) const = default;

  [[nodiscard]] bool listen_none() const { return listen && listen->empty(); }
};

/// The listeners of a service: those of `listen:`, else one on the PORT of its env, else none.
[[nodiscard]] std::vector<Listen> effective_listeners(Service const& service);

/// A probe's whole URL: `url` itself, or for a "/path" the one on `port` of this machine.
[[nodiscard]] std::string probe_url(std::string const& url, std::uint16_t port);

// ---- functions (seed 004)

/// Counting and dropping of frames by a program at an interface (XDP).
struct Ebpf {
  bool enabled = false;
  std::string interface;    ///< Never empty if enabled.
  std::string mode;         ///< "" (native if the driver can, else generic), or as written.
  std::uint32_t rate = 0;   ///< Packets a second that each source may send; 0: any.
  std::uint32_t burst = 0;  ///< Packets that it may send at once. 0 only if `rate` is.
  bool operator==(Ebpf const&) const = default;
};

struct Orchestrator {
  std::uint64_t shm_buffer_size = 4194304;  ///< Bytes, 64 KiB to 1 GiB.
  int warm_pool_size = 10;                  ///< 1 to 1000.
  int restore_timeout_ms = 15;              ///< 1 to 100.
  std::string snapshot_dir = "/dev/shm/aetherless";
  Ebpf ebpf;
  bool operator==(Orchestrator const&) const = default;
};

enum class Route : std::uint8_t { Gateway, Direct };
/// Which port a handler is told to bind, and who makes it so.
enum class Bind : std::uint8_t {
  Auto,        ///< Documented where the machine can, through the gateway; else Internal.
  Documented,  ///< trigger_port, in each instance: the kernel gives each another one (BPF).
  Internal,    ///< A free one, or the listener that it inherits.
};
enum class Launch : std::uint8_t { Auto, Clone, Image, Spawn };
enum class Sandbox : std::uint8_t { None, Basic, Strict };
enum class Ipc : std::uint8_t { Http, Ring };
/// What becomes of a request whose copy was not made in time.
enum class RestoreFailure : std::uint8_t { Fail, Cold };
/// What shows, besides that it listens, that a handler is ready. ReadyNotify: READY on
/// AETHER_SOCKET, or READY=1 on NOTIFY_SOCKET. ReadyListening: nothing besides. ReadyHttp: a path,
/// asked of the handler's own port until the answer is a 2xx.
using FunctionReady = std::variant<ReadyNotify, ReadyListening, ReadyHttp>;
/// What becomes of starts that fail one after another, in the words of Restart.
struct FunctionRestart {
  Duration backoff_min = std::chrono::milliseconds(100);
  Duration backoff_max = std::chrono::seconds(30);  ///< Never below backoff_min.
  /// This many failed starts in a row within the window are the last ones; 0: they go on.
  int crash_loop_count = 0;
  Duration crash_loop_window = std::chrono::seconds(60);
  bool operator==(FunctionRestart const&) const = default;
};

struct Function {
  std::string id;                  ///< 1-64 of A-Za-z0-9-_ ; unique in the file.
  int memory_limit_mb = 0;         ///< 1 to 16384.
  std::optional<double> cpu;       ///< Cores, of each instance; absent: no limit.
  std::uint32_t processes = 512;   ///< Processes and threads of each instance.
  std::uint16_t trigger_port = 0;  ///< Never 0; unique in the file.
  std::string handler_path;
  int timeout_ms = 30000;  ///< 1 to 900000.
  Variables environment;
  Route route = Route::Gateway;
  Bind bind = Bind::Auto;
  int concurrency = 1;    ///< Requests at once in one instance, 1 to 1000.
  int min_instances = 0;  ///< Never above max_instances.
  int max_instances = 10;
  std::optional<int> parked;  ///< Kept ahead, frozen, 0 to 1000; absent: warm_pool_size.
  Duration idle_timeout = std::chrono::seconds(60);
  std::vector<std::string> warmup;  ///< Paths asked before the template is frozen.
  Launch launch = Launch::Auto;
  Sandbox sandbox = Sandbox::Basic;
  bool pid_namespace = false;  ///< Copies are the first processes of namespaces of their own.
  Ipc ipc = Ipc::Http;
  FunctionReady ready;
  Duration ready_timeout = std::chrono::seconds(60);
  FunctionRestart restart;
  RestoreFailure on_restore_failure = RestoreFailure::Cold;
  bool operator==(Function const&) const = default;
};

// ---- the rest

struct Observability {
  /// Where /metrics and /health are served; absent for `metrics_port: none`.
  std::optional<std::string> metrics_address = ":9090";
  bool metrics_given = false;  ///< The file names it: not getting it is an error, not a warning.
  log::Level log_level = log::Level::Info;
  bool operator==(Observability const&) const = default;
};

/// What the bearer of a token may do; docs/operations.md has the table.
enum class Role : std::uint8_t { Viewer, Submitter, Approver, Operator, Auditor, Worker };

/// Who may use the API from elsewhere. Exactly one of the three says what the token is.
struct Token {
  std::string name;  ///< For the log; unique.
  Role role = Role::Viewer;
  std::string sha256;  ///< Of the token, 64 lowercase hexadecimal digits.
  std::string file;    ///< The token is the content of this file.
  std::string env;     ///< The token is the value of this variable of Aether's own environment.
  /// Of jobs; empty: all of them, and services and functions too.
  std::vector<std::string> namespaces;
  bool operator==(Token const&) const = default;
};

/// Where /v1 is served besides the control socket and the metrics address, and to whom.
struct Api {
  std::string host = "127.0.0.1";
  std::optional<std::uint16_t> port;  ///< Absent: nowhere else.
  std::vector<Token> tokens;
  bool operator==(Api const&) const = default;
};

/// What the file asks of the kernel, which cannot be known from the file: `validate` and `up` look
/// whether it can be had here, and refuse the file at this place if not.
struct KernelNeed {
  enum class Kind : std::uint8_t {
    BindSteering,  ///< Rewritten binds and sk_lookup (steer/bpf_support.h).
    Xdp,
  };
  Kind kind = Kind::BindSteering;
  int line = 0;  ///< As in Warning.
  int column = 0;
  std::string what;  ///< Who wants it: service "web": steer: bpf on :8080.
  bool operator==(KernelNeed const&) const = default;
};

/// Something that is no mistake but that the user should know: a key without effect, for instance.
struct Warning {
  int line = 0;    ///< From 1; 0 if it is about the whole file.
  int column = 0;  ///< From 1, in bytes.
  std::string message;
  bool operator==(Warning const&) const = default;
};

struct Config {
  std::string path;               ///< As it was given.
  std::string version;            ///< "1.0" if the file does not say.
  std::vector<Service> services;  ///< In the file's order; may be empty when there are functions.
  Orchestrator orchestrator;
  std::vector<Function> functions;
  Observability observability;
  Api api;
  Store store;
  Jobs jobs;
  std::vector<Agent> agents;  ///< In the file's order, as are these two.
  std::vector<Tool> tools;
  std::vector<Schedule> schedules;
  std::vector<Warning> warnings;  ///< In the file's order.
  std::vector<KernelNeed> kernel_needs;
};

}  // namespace aether::config
