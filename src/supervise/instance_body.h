// SPDX-License-Identifier: Apache-2.0
// The inside of Instance: the shell around InstanceMachine. Only instance*.cc include this.
#pragma once
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "async/event.h"
#include "async/task_group.h"
#include "base/pattern.h"
#include "supervise/background_priority.h"
#include "supervise/cpu_group.h"
#include "supervise/instance.h"
#include "supervise/limits.h"
#include "supervise/log_pump.h"
#include "supervise/notify_socket.h"
#include "supervise/probe.h"
#include "supervise/tree.h"

namespace aether::supervise {

/// Looking at a starting or ending tree: often at first, when it is most likely to change.
inline constexpr Duration kPollFirst = std::chrono::milliseconds(5);
inline constexpr Duration kPollLast = std::chrono::milliseconds(50);
/// The pause after a pause.
[[nodiscard]] Duration longer(Duration poll, Duration last = kPollLast);

class Instance::Body {
 public:
  /// All that exists once the program has been executed.
  struct Parts {
    LaunchSpec spec;
    InstanceWorld world;
    Events events;
    Tree tree;
    std::optional<NotifySocket> notify;  ///< None: a copy, see Instance::adopt().
    std::optional<LimitSet> limits;      ///< None: not in its groups yet.
    std::optional<CpuGroup> cpu;         ///< In which it can give way.
    os::UniqueFd stdout_pipe;
    os::UniqueFd stderr_pipe;
    os::UniqueFd ready_pipe;               ///< Empty unless a newline on it shows readiness.
    std::vector<std::string> environment;  ///< For command probes.
    std::optional<uid_t> user_id;          ///< Of the user it runs as; absent: ours.
  };
  static Result<Parts> start(LaunchSpec spec, InstanceWorld world, Events events);
  static Parts take_over(LaunchSpec spec, Running running, InstanceWorld world, Events events);
  explicit Body(Parts parts);
  ~Body();

  void begin();
  /// From now on whoever serves beside it goes first, for at most that long.
  void give_way(Duration time_max);
  /// Takes part in the competition for processors like everybody else again.
  void compete();
  /// Lets the machine decide, and performs what it says. May be called from within itself: what
  /// happens while an action is performed is looked at after the others.
  void happen(InstanceInput input);
  [[nodiscard]] async::Task<void> close();
  [[nodiscard]] async::Task<void> ended();
  [[nodiscard]] async::Task<void> grouped();
  [[nodiscard]] std::uint64_t log_bytes() const { return stdout_.bytes() + stderr_.bytes(); }
  [[nodiscard]] std::uint64_t fds_refused() const { return fds_refused_; }

  Parts parts_;
  InstanceMachine machine_;
  Instant started_;

 private:
  void begin_grouping();
  void perform(InstanceAction const& action);
  void on(perform::Tell const& tell);
  void on(perform::SignalMain signal);
  void on(perform::SignalTree signal);
  void on(perform::KillTree);
  void on(perform::AdoptMain adopt);
  void on(perform::AwaitTree);

  /// Takes what is said on the notify socket. False: no more waits there.
  bool hear(std::size_t messages_max);
  /// Whether the words of that process count.
  [[nodiscard]] bool may_speak(os::PeerCredentials const& sender) const;
  [[nodiscard]] bool is_ours(os::PeerCredentials const& sender) const;
  /// FDSTORE=1 and FDSTOREREMOVE=1.
  void store(NotifyMessage const& message, std::vector<os::UniqueFd>& fds);
  void adopt(pid_t pid, std::optional<std::uint64_t> pidfd_id);
  /// Follows the pid file, if it names a process of the tree.
  void follow_pid_file();
  /// False: nothing more will come of the readiness descriptor.
  bool hear_ready_pipe();
  void main_ended(os::Child& child);
  [[nodiscard]] bool accepts_everywhere() const;
  [[nodiscard]] ProbeSpec readiness_probe() const;
  [[nodiscard]] bool probes_own_listener() const;
  [[nodiscard]] std::string late_hint(event::ReadyTimedOut const& late) const;
  void append_line(LogStream stream, SplitLine line);

  // The tasks. Each ends by itself when there is nothing left to watch.
  async::Task<void> watch_main(os::Child* child);
  async::Task<void> watch_notify();
  async::Task<void> watch_ready();
  async::Task<void> watch_ready_pipe();
  async::Task<void> watch_pid_file();
  async::Task<void> watch_time();
  async::Task<void> watch_priority(BackgroundPatience patience);
  async::Task<void> join_groups(std::vector<std::string> folders);
  async::Task<void> join_own_groups();
  async::Task<void> watch_tree();
  async::Task<void> deliver();

  LogPump stdout_;
  LogPump stderr_;
  std::string last_probe_;  ///< What the readiness probe's last answer was.
  std::string late_;        ///< Why it was not ready in time.
  std::optional<Pattern> ready_line_;
  BackgroundPriority priority_;
  std::uint64_t fds_refused_ = 0;
  std::deque<InstanceInput> inputs_;
  bool performing_ = false;
  std::deque<InstanceEvent> outbox_;
  async::Event outbox_grown_;
  async::Event moved_;  ///< The machine has moved: its due time may have changed.
  async::Event tree_ended_;
  async::Event grouped_;
  bool closing_ = false;
  bool closed_ = false;
  async::TaskGroup tasks_;
};

}  // namespace aether::supervise
