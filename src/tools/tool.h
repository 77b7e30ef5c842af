// SPDX-License-Identifier: Apache-2.0
// Tool: what a step can call. A tool performs one call and says truthfully how it ended; whether it
// may be called again is decided by jobs, from the policy and that outcome.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/value.hpp>

#include "async/task.h"
#include "base/result.h"
#include "base/time.h"
#include "tools/outcome.h"

namespace aether::tools {

struct Call {
  boost::json::value args;  ///< What check() has taken.
  std::string key;          ///< Idempotency-Key; the same for each turn of an effect.
  Duration timeout{};       ///< Of the whole call. Over it: Unknown if anything was sent.
  /// Text as it comes (llm, streaming); may be null. On the loop's thread.
  std::move_only_function<void(std::string_view)> progress;
};
struct CallResult {
  EffectOutcome outcome = EffectOutcome::Ok;
  boost::json::value result;
  std::string error;       ///< One sentence: what was tried, what happened, what to do.
  bool retryable = false;  ///< Error or NotExecuted that may go away by itself.
  std::uint64_t tokens = 0;
  double cost = 0;
};

class Tool {
 public:
  virtual ~Tool() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  [[nodiscard]] virtual Policy default_policy() const { return Policy::Once; }
  /// What people and models read about it: one sentence, and a JSON Schema of its arguments.
  [[nodiscard]] virtual std::string_view description() const = 0;
  [[nodiscard]] virtual boost::json::value schema() const = 0;
  /// RequestInvalid names the member that is wrong. Called before an intent is recorded.
  [[nodiscard]] virtual Status check(boost::json::value const& args) const = 0;
  /// Performs it once. Cancelled: it ends what it can, and the outcome is Unknown unless nothing
  /// was sent. Never throws for what the other side does.
  [[nodiscard]] virtual async::Task<CallResult> call(Call call) = 0;
  /// Whether lookup() exists: what Policy::Lookup needs.
  [[nodiscard]] virtual bool can_look_up(boost::json::value const& /*args*/) const { return false; }
  /// Asks the other side what became of the call with this key: Ok (with its result), Error,
  /// NotExecuted (it was never seen), or Unknown (no answer).
  [[nodiscard]] virtual async::Task<CallResult> look_up(Call call);
};

/// The tools of one Aether, by name. Owned by the daemon; used on the jobs' loop.
class ToolSet {
 public:
  /// RequestInvalid if the name is taken.
  Status add(std::unique_ptr<Tool> tool);
  [[nodiscard]] Tool* find(std::string_view name) const;
  [[nodiscard]] std::vector<std::string_view> names() const;

 private:
  std::map<std::string, std::unique_ptr<Tool>, std::less<>> tools_;
};

}  // namespace aether::tools
