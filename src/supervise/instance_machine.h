// SPDX-License-Identifier: Apache-2.0
// InstanceMachine: decides the life of one process tree: when it is ready, when it is silent for
// too long, how it is ended. Pure: no clock, no I/O. Instance (instance.h) performs the actions.
//
//   Starting -> Ready -> Stopping -> Killing -> Ended -> Gone
// Every state that somebody waits in has a deadline; SIGKILL of the whole tree ends each.
//
// A main process may hand over to another one of its tree: by MAINPID=, or (a program that goes to
// the background, or re-executes itself as a child) by ending with 0 and naming it in its pid file.
// Between that end and the file's being read the machine waits for the successor; it is not Ended.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/time.h"
#include "config/config.h"
#include "os/process.h"
#include "supervise/notify_message.h"

namespace aether::supervise {

/// EXTEND_TIMEOUT_USEC moves a deadline at most this far past the first one.
inline constexpr Duration kExtensionMax = std::chrono::hours(1);
/// Between the main process's own end in a stop, and SIGKILL for those it left, at least this.
inline constexpr Duration kLeftoverGrace = std::chrono::milliseconds(200);
/// For the successor of a main process that was ready to write the pid file. gunicorn looks for its
/// old master's end once a second.
inline constexpr Duration kSuccessorWait = std::chrono::seconds(5);

/// What showed that an instance is ready.
enum class ReadyBy : std::uint8_t {
  Started,
  Notify,
  Sdk,
  Listening,
  Probe,
  Delay,
  Fd,       ///< A newline on its readiness descriptor.
  Log,      ///< A line of its output.
  PidFile,  ///< It went to the background and named the process that stays.
};
[[nodiscard]] std::string_view ready_by_name(ReadyBy how);

/// Why an instance ended.
enum class EndCause : std::uint8_t {
  Itself,        ///< Nobody had asked: a crash, or the program was done.
  Asked,         ///< stop() or kill_tree().
  ReadyTimeout,  ///< It was not ready in time.
  Watchdog,      ///< It was silent for longer than its watchdog interval.
};
[[nodiscard]] std::string_view end_cause_name(EndCause cause);
/// systemd's word for it (man 5 systemd.exec, SERVICE_RESULT).
[[nodiscard]] std::string_view service_result(os::ExitStatus status, EndCause cause);

/// What an instance tells its owner.
namespace event {
struct BecameReady {
  ReadyBy how = ReadyBy::Started;
  Duration after{};  ///< Since launch.
};
/// The tree has been sent SIGKILL; Exited follows.
struct ReadyTimedOut {
  Duration waited{};
  bool backgrounded = false;  ///< The main process had ended, and its successor was awaited.
  std::string hint;           ///< What was awaited, and what was seen instead.
};
/// The tree has been sent SIGKILL; Exited follows.
struct WatchdogMissed {
  Duration silent{};
};
struct StatusText {
  std::string text;
};
struct Reloading {};  ///< RELOADING=1
struct Reloaded {};   ///< READY=1 after it.
/// EXTEND_TIMEOUT_USEC=: its present deadline is this far from now.
struct Extended {
  Duration by{};
};
struct Stopping {};  ///< STOPPING=1: it is going to end by its own will.
/// MAINPID=: another process of the tree is the one whose end counts.
struct MainChanged {
  pid_t from = 0;
  pid_t to = 0;
};
/// The main process has ended. What it left of its tree is being ended too.
struct Exited {
  os::ExitStatus status;
  EndCause cause = EndCause::Itself;
  bool was_ready = false;
  Duration lived{};             ///< Since launch.
  Duration ready_for{};         ///< Since it was ready.
  bool left_processes = false;  ///< Others of its tree lived on. With `!was_ready` and code 0: it
                                ///< went to the background, which Aether cannot follow.
  std::string late;      ///< With ReadyTimeout: what was awaited, for how long, and what was seen.
  std::string reported;  ///< What it said of its failure (ERRNO= and the like), or empty.
  std::vector<std::string> last_lines;  ///< Of its output, at most kLastLines.
};
/// Nothing of its tree lives any more. Always the last event.
struct TreeEnded {};
}  // namespace event
using InstanceEvent =
    std::variant<event::BecameReady, event::ReadyTimedOut, event::WatchdogMissed, event::StatusText,
                 event::Reloading, event::Reloaded, event::Extended, event::Stopping,
                 event::MainChanged, event::Exited, event::TreeEnded>;

/// What the world did.
namespace input {
struct Said {
  NotifyMessage message;
};
struct SdkReady {};
struct Accepting {};  ///< Some process waits for each listener.
struct ProbePassed {};
struct FdNewline {};  ///< On its readiness descriptor.
struct LineSeen {};   ///< The line of output that shows its readiness.
/// The process named by MAINPID= or by the pid file was found in the tree and is watched now.
struct MainAdopted {
  pid_t from = 0;
  pid_t to = 0;
};
struct MainEnded {
  os::ExitStatus status;
  bool others_live = false;
};
struct TreeEmpty {};
struct StopAsked {
  int signal = 15;
  Duration timeout{};
};
struct KillAsked {};
struct Tick {};
}  // namespace input
using InstanceInput =
    std::variant<input::Said, input::SdkReady, input::Accepting, input::ProbePassed,
                 input::FdNewline, input::LineSeen, input::MainAdopted, input::MainEnded,
                 input::TreeEmpty, input::StopAsked, input::KillAsked, input::Tick>;

/// What is to be done, in order. Each is safe to do twice.
namespace perform {
struct Tell {
  InstanceEvent event;
};
struct SignalMain {
  int signal = 0;
};
struct SignalTree {
  int signal = 0;
};
struct KillTree {};
/// Find out whether this process is of the tree; if so, report MainAdopted.
struct AdoptMain {
  pid_t pid = 0;
  std::optional<std::uint64_t> pidfd_id = {};  ///< If given, its pidfd's inode must be this.
};
/// Report TreeEmpty as soon as nothing lives.
struct AwaitTree {};
}  // namespace perform
using InstanceAction = std::variant<perform::Tell, perform::SignalMain, perform::SignalTree,
                                    perform::KillTree, perform::AdoptMain, perform::AwaitTree>;
using InstanceActions = std::vector<InstanceAction>;

struct InstancePolicy {
  config::Ready ready;
  bool has_listeners = false;
  Duration ready_timeout = std::chrono::seconds(60);
  Duration stop_timeout = std::chrono::seconds(10);  ///< After STOPPING=1.
  std::optional<Duration> watchdog;
  config::NotifyAccess access = config::NotifyAccess::All;
  bool has_pid_file = false;
};

class InstanceMachine {
 public:
  enum class Phase : std::uint8_t { Starting, Ready, Stopping, Killing, Ended, Gone };
  /// What the shell has to look at while the instance is Starting.
  enum class Watch : std::uint8_t { Nothing, Listening, Probe };

  InstanceMachine(InstancePolicy policy, Instant started);

  [[nodiscard]] InstanceActions step(InstanceInput const& input, Instant now);
  /// When Tick is wanted. The first may be at once.
  [[nodiscard]] std::optional<Instant> due() const;
  [[nodiscard]] Phase phase() const { return phase_; }
  [[nodiscard]] Watch watch() const;
  /// The main process has ended, and the one that its pid file names is awaited.
  [[nodiscard]] bool awaits_successor() const { return launcher_.has_value(); }
  /// Whether the words of this process of the tree count.
  [[nodiscard]] bool hears(bool is_main) const;
  /// RELOADING=1 was said and READY=1 not yet.
  [[nodiscard]] bool is_reloading() const { return reloading_ && is_ready(); }
  [[nodiscard]] bool is_ready() const { return ready_at_.has_value() && phase_ == Phase::Ready; }
  [[nodiscard]] std::string const& status_text() const { return status_text_; }
  [[nodiscard]] std::optional<os::ExitStatus> const& exit_status() const { return exit_status_; }

 private:
  void on(input::Said const& said, Instant now, InstanceActions& actions);
  void on(input::SdkReady, Instant now, InstanceActions& actions);
  void on(input::Accepting, Instant now, InstanceActions& actions);
  void on(input::ProbePassed, Instant now, InstanceActions& actions);
  void on(input::FdNewline, Instant now, InstanceActions& actions);
  void on(input::LineSeen, Instant now, InstanceActions& actions);
  void on(input::MainAdopted adopted, Instant now, InstanceActions& actions);
  void on(input::MainEnded const& ended, Instant now, InstanceActions& actions);
  void on(input::TreeEmpty, Instant now, InstanceActions& actions);
  void on(input::StopAsked asked, Instant now, InstanceActions& actions);
  void on(input::KillAsked, Instant now, InstanceActions& actions);
  void on(input::Tick, Instant now, InstanceActions& actions);

  [[nodiscard]] bool may_have_successor(input::MainEnded const& ended) const;
  [[nodiscard]] bool shows_by_pid_file() const;
  void note_failure(NotifyMessage const& message);
  void announce(NotifyMessage const& message, Instant now, InstanceActions& actions);
  void end(os::ExitStatus status, bool others_live, Instant now, InstanceActions& actions);
  void become_ready(ReadyBy how, Instant now, InstanceActions& actions);
  void kill(EndCause cause, Instant now, InstanceActions& actions);
  void extend(Duration by, Instant now, InstanceActions& actions);
  void feed_watchdog(Instant now);

  InstancePolicy policy_;
  Instant started_;
  Phase phase_ = Phase::Starting;
  EndCause cause_ = EndCause::Itself;
  std::optional<Instant> ready_at_;
  std::optional<Instant> deadline_;  ///< Of Starting and Stopping, and of leaving Ready.
  std::optional<Instant> extension_limit_;
  std::optional<Instant> watchdog_due_;
  std::optional<os::ExitStatus> launcher_;  ///< Of the main process that left a successor.
  bool leaving_ = false;                    ///< STOPPING=1: it ends by its own will.
  bool reloading_ = false;
  int stop_signal_ = 15;
  std::string status_text_;
  std::string reported_;
  std::optional<os::ExitStatus> exit_status_;
};

}  // namespace aether::supervise
