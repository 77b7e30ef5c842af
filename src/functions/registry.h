// SPDX-License-Identifier: Apache-2.0
// Registry: all functions of one Aether, and the gateway before them. Loop thread only.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "async/task.h"
#include "async/task_group.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "config/config.h"
#include "functions/function.h"
#include "functions/function_status.h"
#include "functions/gateway.h"

namespace aether::functions {

/// What the functions need from the house. Everything outlives the registry.
struct RegistryDeps {
  async::Executor executor;
  Clock const& clock;
  supervise::KnownChildren& known;
  std::string runtime_dir;
  std::function<InstanceId()> next_instance;
  std::function<void(std::string_view function, RevisionId, std::string_view line)> echo;
  /// As FunctionDeps has it. None: there is no such way here.
  std::function<Result<steer::LookupRouter*>()> router = {};
};

class Registry final : private Demand {
 public:
  explicit Registry(RegistryDeps deps);
  ~Registry() override;
  Registry(Registry const&) = delete;
  Registry& operator=(Registry const&) = delete;

  /// A new function, whose trigger port is taken from now on. Deploy it next. Nothing is left of
  /// one that is refused: AddressInUse, Unsupported.
  [[nodiscard]] Status add(FunctionSpec spec);
  /// FunctionUnknown if there is none; else as Function::deploy.
  [[nodiscard]] async::Task<Result<Deployed>> deploy(FunctionSpec spec);
  [[nodiscard]] Result<Deployed> rollback(std::string_view id);
  /// It ends; nothing happens if there is none.
  [[nodiscard]] async::Task<void> remove(std::string id, Duration limit);

  /// Removes the images in that snapshot_dir of functions that are gone, or need none any more.
  void keep_images(std::string const& folder) const;

  [[nodiscard]] bool has(std::string_view id) const { return functions_.contains(id); }
  [[nodiscard]] bool empty() const { return functions_.empty(); }
  [[nodiscard]] std::vector<std::string> ids() const;  ///< In the order in which they were added.
  /// Null if there is none.
  [[nodiscard]] FunctionSpec const* spec(std::string_view id) const;
  [[nodiscard]] supervise::LogBook* log_book(std::string_view id) const;
  [[nodiscard]] std::vector<FunctionStatus> status() const;

  /// All at once: no new requests; those in flight are finished, until the deadline.
  [[nodiscard]] async::Task<void> stop(Duration limit);
  /// Kills at once. stop() has been called, or will be.
  void hurry();

 private:
  void wanted(std::string_view function, std::uint32_t waiting) override;
  void busy(std::string_view function, InstanceId instance, std::uint32_t in_flight) override;
  void timed_out(std::string_view function, InstanceId instance) override;
  void unreachable(std::string_view function, InstanceId instance, std::string why) override;
  [[nodiscard]] Function* find(std::string_view id) const;
  [[nodiscard]] Result<steer::LookupRouter*> tried_router();
  async::Task<void> end(std::shared_ptr<Function> function, Duration limit);

  RegistryDeps deps_;
  std::vector<std::string> own_environment_;
  std::string sdk_folder_;
  std::function<Result<steer::LookupRouter*>()> router_;
  std::optional<Status> binding_;     ///< Whether binds can be rewritten. None: not tried yet.
  std::unique_ptr<Gateway> gateway_;  ///< From the first function on.
  /// Shared with the tasks that end them.
  std::map<std::string, std::shared_ptr<Function>, std::less<>> functions_;
  std::vector<std::string> order_;
  std::uint64_t numbers_ = 0;
  bool stopped_ = false;
  async::TaskGroup ending_;
};

}  // namespace aether::functions
