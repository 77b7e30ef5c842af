// SPDX-License-Identifier: Apache-2.0
// Function: one function: its revisions, their templates, its instances and its log. Performs what
// the pool machine decides, with processes (supervise), copies (clone) and the gateway.
//
// Loop thread only. open() once, stop() once: the destructor checks that stop() has ended.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "async/task.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "config/config.h"
#include "functions/function_status.h"

namespace aether::steer {
class LookupRouter;
}
namespace aether::supervise {
class KnownChildren;
class LogBook;
}  // namespace aether::supervise

namespace aether::functions {

class Gateway;

/// What a function needs from the house. Everything outlives it.
struct FunctionDeps {
  async::Executor executor;
  Clock const& clock;
  Gateway& gateway;
  supervise::KnownChildren& known;
  std::string runtime_dir;  ///< Where its sockets are made; exists, is private to the user.
  std::function<InstanceId()> next_instance;
  /// Called with each line of a handler's output as it comes.
  std::function<void(std::string_view function, RevisionId, std::string_view line)> echo;
  std::vector<std::string> own_environment;
  std::string sdk_folder;  ///< Of the hook libraries; empty: none.
  /// By what the kernel gives connections to instances that bind their port themselves. The fault
  /// says why it cannot be had here.
  std::function<Result<steer::LookupRouter*>()> router;
};

/// A function as it is to be.
struct FunctionSpec {
  config::Function function;
  config::Orchestrator settings;
  bool operator==(FunctionSpec const&) const = default;
};

/// What became of a deploy or a rollback.
struct Deployed {
  RevisionId from;      ///< That served before; 0: none did.
  RevisionId revision;  ///< That serves now.
  Duration took{};
};

class Function {
 public:
  /// `number` tells it from the others of this Aether.
  Function(FunctionSpec spec, std::uint64_t number, FunctionDeps deps);
  ~Function();
  Function(Function const&) = delete;
  Function& operator=(Function const&) = delete;

  [[nodiscard]] std::string const& id() const;
  /// What serves, or was last tried.
  [[nodiscard]] FunctionSpec const& spec() const;

  /// Takes the trigger port: requests wait from now on. AddressInUse, ListenFailed; Unsupported for
  /// what this release cannot do.
  [[nodiscard]] Status open();
  /// Makes a revision ready beside the one that serves, then switches to it. The old one goes on,
  /// untouched, if that fails: CommandNotFound, CommandNotExecutable, ExitedEarly, NotReady,
  /// Unsupported (`launch: clone` of what cannot be cloned), SwapRunning while one is on its way.
  [[nodiscard]] async::Task<Result<Deployed>> deploy(FunctionSpec spec);
  /// Back to the revision before, whose template was kept. NotFound if there is none.
  [[nodiscard]] Result<Deployed> rollback();
  /// No new requests; those in flight are finished, until the deadline.
  [[nodiscard]] async::Task<void> stop(Duration limit);
  /// Kills at once. stop() has been called, or will be.
  void hurry();

  // What the gateway says of it.
  void wanted(std::uint32_t waiting);
  void busy(InstanceId instance, std::uint32_t in_flight);
  void timed_out(InstanceId instance);
  void unreachable(InstanceId instance, std::string why);

  [[nodiscard]] FunctionStatus status() const;
  [[nodiscard]] supervise::LogBook& log_book();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace aether::functions
