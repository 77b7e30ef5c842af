// SPDX-License-Identifier: Apache-2.0
// Instance: one running process tree of a revision: its start, its readiness, its output, its end.
// InstanceMachine decides, this performs. Loop thread only.
//
// What is promised:
// - once TreeEnded has been told, or close() has returned, nothing of its tree lives;
// - the exit status comes from the pidfd, and is nobody else's;
// - its output is read for as long as anything of the tree lives, and never blocks it; a stranger
//   that keeps its stdout open keeps nothing alive here;
// - what it said on NOTIFY_SOCKET before it ended is told before Exited.
#pragma once
#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "async/task.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "config/config.h"
#include "os/cgroup.h"
#include "os/process.h"
#include "os/sandbox.h"
#include "os/unique_fd.h"
#include "supervise/environment.h"
#include "supervise/fd_store.h"
#include "supervise/instance_machine.h"
#include "supervise/known_children.h"
#include "supervise/log_book.h"

namespace aether::supervise {

/// Lines of output that come with Exited.
inline constexpr std::size_t kLastLines = 20;

/// All that makes an instance. A value; `listeners` holds borrowed descriptors.
struct LaunchSpec {
  std::string service;
  RevisionId revision;
  InstanceId instance;  ///< Unique within this Aether.
  config::Command command;
  config::Variables env;
  std::vector<PassedListener> listeners;  ///< The n-th is fd 3 + n in the child.
  /// Other descriptors, which it finds behind its listeners and what was stored. Borrowed until
  /// launch() has returned.
  std::vector<int> passed = {};
  std::optional<std::string> workdir;
  std::optional<std::string> user;
  config::Limits limits;
  std::vector<config::Compat> compat;
  config::Ready ready;
  Duration ready_timeout = std::chrono::seconds(60);
  /// Low: it may give way to others on the processor, and does, `beside` one that serves, until it
  /// is ready.
  config::StartupPriority priority = config::StartupPriority::Normal;
  bool beside = false;
  /// As SpawnSpec has it.
  bool new_pid_namespace = false;
  os::SandboxSpec sandbox = {};
  int stop_signal = 15;
  Duration stop_timeout = std::chrono::seconds(10);
  std::optional<Duration> watchdog;
  config::NotifyAccess notify_access = config::NotifyAccess::All;
  std::optional<std::string> pid_file;  ///< As config::Service::pid_file.
  std::string
      runtime_dir;  ///< An existing folder of ours, for the notify socket. Short: 107 bytes.
  std::string state_socket;  ///< AETERNA_STATE_SOCK; empty: not given.
  /// Borrowed until launch() has returned; the child finds its number in AETHER_WORK_FD. -1: none.
  int work_fd = -1;
};

/// The part of a LaunchSpec that the configuration says. Listeners, runtime_dir and state_socket
/// are left for the caller.
[[nodiscard]] LaunchSpec launch_spec(config::Service const& service, RevisionId revision,
                                     InstanceId instance);

/// The name of an instance's control groups: no other tree on the machine has it.
[[nodiscard]] std::string group_name(LaunchSpec const& spec);

/// Of a program that binds its own port (`steer: bpf`): who lets it, and knows what it has bound.
struct OwnBinds {
  /// Called with the instance's group before the program is started in it; on an error it is not.
  std::function<Status(os::Cgroup const&)> prepare;
  /// Whether these processes have bound all that they are to bind.
  std::function<bool(std::span<pid_t const>)> complete;
  /// The port on which this instance itself takes what is meant for that host and port.
  std::function<std::optional<std::uint16_t>(std::string const& host, std::uint16_t port)> own_port;
  std::uint16_t first_port = 0;  ///< Of its TCP addresses, for probes of a path alone.
  std::string addresses;         ///< What it is to bind, for messages.
};

/// What an instance is given of the world. References outlive the instance.
struct InstanceWorld {
  async::Executor executor;
  Clock const& clock;
  LogBook& logs;
  KnownChildren* known = nullptr;  ///< Needed if somebody reaps orphans.
  FdStore* store = nullptr;        ///< Of its service. None: FDSTORE=1 is refused.
  /// Lets a question from that local port reach this instance's listeners although others are
  /// steered to; 0: no more. None: questions go where everybody's connections go.
  std::function<void(std::uint16_t source_port)> introduce = {};
  std::optional<OwnBinds> own_binds = {};    ///< None: it binds nothing that others know.
  std::vector<std::string> own_environment;  ///< Aether's own, "NAME=value"; see own_environment().
};

/// Plain numbers for whoever makes metrics.
struct InstanceCounters {
  std::uint64_t notify_messages = 0;
  std::uint64_t notify_dropped = 0;  ///< Too long, or from somebody who may not speak for it.
  std::uint64_t fds_refused = 0;     ///< FDSTORE=1: closed, there is no store or it is full.
  std::uint64_t log_bytes = 0;
};

class Instance {
 public:
  /// Called on the loop, in the order in which things happened, never from within a call of the
  /// owner's. It must not destroy the instance; asking it to stop or to be killed is fine.
  using Events = std::function<void(InstanceId, InstanceEvent const&)>;

  /// Starts the program and returns when it has been executed. An executed program's first event
  /// (BecameReady by Started, for instance) is told from the loop, after this has returned.
  /// Errors are those of os::spawn (CommandNotFound, CommandNotExecutable, WorkdirInvalid,
  /// UserUnknown, SpawnFailed), AddressInvalid if runtime_dir is too long for a socket, and
  /// ConfigInvalid for an unknown {fd:NAME}; nothing is left behind then.
  [[nodiscard]] static Result<std::unique_ptr<Instance>> launch(LaunchSpec spec,
                                                                InstanceWorld world, Events events);
  /// A process that runs already, as a copy of another instance's does: our child.
  struct Running {
    os::Child child;
    std::optional<os::Cgroup> cgroup;  ///< Made for it; it may live in it already.
    os::UniqueFd stdout_pipe;  ///< Our ends, which do not block. Empty: it shares another's.
    os::UniqueFd stderr_pipe;
  };
  /// Takes it over. It has no notify socket of its own; `command` and `env` of the spec tell only
  /// what it is. It is put into its control groups beside the loop, see grouped().
  [[nodiscard]] static std::unique_ptr<Instance> adopt(LaunchSpec spec, Running running,
                                                       InstanceWorld world, Events events);
  ~Instance();  ///< Checks that close() was awaited.
  Instance(Instance const&) = delete;
  Instance& operator=(Instance const&) = delete;

  [[nodiscard]] InstanceId id() const;
  [[nodiscard]] RevisionId revision() const;
  /// The main process: the spawned one, or what MAINPID= named since.
  [[nodiscard]] pid_t pid() const;
  [[nodiscard]] Instant started() const;
  [[nodiscard]] InstanceMachine::Phase phase() const;
  [[nodiscard]] bool is_ready() const;
  /// It said RELOADING=1, and not READY=1 since.
  [[nodiscard]] bool is_reloading() const;
  /// Its last STATUS=.
  [[nodiscard]] std::string const& status_text() const;
  /// Set once the main process has ended.
  [[nodiscard]] std::optional<os::ExitStatus> exit_status() const;
  /// Live processes of the tree. Reads /proc or the cgroup.
  [[nodiscard]] std::vector<pid_t> tree() const;
  /// Whether a process is of this tree: for SO_PEERCRED checks. Reads /proc or the cgroup.
  [[nodiscard]] bool owns(pid_t pid) const;
  /// Resident bytes of the whole tree.
  [[nodiscard]] std::uint64_t resident_bytes() const;
  [[nodiscard]] InstanceCounters counters() const;

  /// The SDK said hello (or whatever else counts as its readiness).
  void mark_ready_by_sdk();
  /// Sends a signal to the main process. Nothing if it has ended.
  void signal_main(int signal);
  /// As signal_main, for a signal that a program has to expect (SIGHUP, SIGUSR1 ...). SignalUnsafe
  /// if it has no handler for it and would die of it.
  [[nodiscard]] Status signal_handled(int signal);
  /// Asks it to end: the signal to the main process; when that has ended, to those it left; at the
  /// timeout SIGKILL to the whole tree. A second call with a shorter timeout hurries. Returns at
  /// once; Exited and TreeEnded tell the rest.
  /// It has nothing left to do but to end: others go first on the processor (LaunchSpec::priority).
  void give_way();
  /// One that gives way does so no longer: somebody waits for it.
  void compete();
  void begin_stop(int signal, Duration timeout);
  void begin_stop();  ///< With the stop_signal and stop_timeout of the spec.
  /// Waits until its limits hold for all of its tree: at once for one that was launched in a group.
  [[nodiscard]] async::Task<void> grouped();
  /// Stops the whole tree where it stands, by its control group, else by SIGSTOP.
  [[nodiscard]] Status freeze();
  [[nodiscard]] Status thaw();
  /// Frozen, and by now nothing of it runs any more: what it holds stays as it is.
  [[nodiscard]] bool is_still() const;
  /// How often the kernel ended a process of it for its memory limit.
  [[nodiscard]] std::uint64_t memory_kills() const;
  /// SIGKILL to the whole tree, now.
  void kill_tree();
  /// begin_stop(), then waits until nothing of the tree lives.
  [[nodiscard]] async::Task<os::ExitStatus> stop(int signal, Duration timeout);
  [[nodiscard]] async::Task<os::ExitStatus> stop();
  /// Waits until nothing of the tree lives.
  [[nodiscard]] async::Task<void> ended();
  /// Must be awaited before destruction. Kills what still lives, and ends every task of this
  /// object. No event is told any more once it has begun.
  [[nodiscard]] async::Task<void> close();

 private:
  class Body;
  explicit Instance(std::unique_ptr<Body> body);
  std::unique_ptr<Body> body_;
};

}  // namespace aether::supervise
