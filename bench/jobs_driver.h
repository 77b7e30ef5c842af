// SPDX-License-Identifier: Apache-2.0
// What jobs-driver is made of: a judge in another process, tools, and runs by the thousand.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/check.h"
#include "jobs/engine.h"
#include "journal/journal.h"
#include "os/unique_fd.h"
#include "tools/tool.h"

namespace aether::bench {

/// Calls in a row of one run.
inline constexpr std::uint32_t kSteps = 20;

[[nodiscard]] double now_us();
/// The smallest value that so large a part of them is not above; 0 of none.
[[nodiscard]] double quantile(std::vector<double> values, double part);
[[nodiscard]] std::uint64_t resident_bytes();
/// In the folder; or in PostgreSQL, if it is a URL.
[[nodiscard]] std::unique_ptr<journal::Journal> open_store(std::string const& folder);

/// One effect: which run called its which step.
struct Effect {
  std::uint32_t run;
  std::uint32_t step;
};

/// Counts effects in a process of its own, which knows nothing of journals. Made before any thread.
class Judge {
 public:
  Judge(std::uint32_t runs, std::uint32_t steps);
  /// Where effects are written.
  [[nodiscard]] int pipe() const { return effects_.get(); }
  struct Verdict {
    std::uint64_t effects = 0;
    std::uint64_t twice = 0;
    std::uint64_t missing = 0;
  };
  /// When all who write have closed their end.
  [[nodiscard]] Verdict verdict();

 private:
  os::UniqueFd effects_;
  os::UniqueFd verdict_;
};

/// Tells the judge, and measures what lies between two calls of one run.
class CallTool final : public tools::Tool {
 public:
  CallTool(int judge, std::uint32_t runs) : judge_(judge), last_us_(runs) {}
  [[nodiscard]] std::string_view name() const override { return "call"; }
  [[nodiscard]] std::string_view description() const override { return "is counted"; }
  [[nodiscard]] boost::json::value schema() const override;
  [[nodiscard]] Status check(boost::json::value const&) const override { return {}; }
  [[nodiscard]] async::Task<tools::CallResult> call(tools::Call call) override;
  [[nodiscard]] std::vector<double> const& between_us() const { return between_us_; }

 private:
  int judge_;
  std::vector<double> last_us_;
  std::vector<double> between_us_;
};

/// Never answers.
class HangTool final : public tools::Tool {
 public:
  [[nodiscard]] std::string_view name() const override { return "call"; }
  [[nodiscard]] std::string_view description() const override { return "hangs"; }
  [[nodiscard]] boost::json::value schema() const override;
  [[nodiscard]] Status check(boost::json::value const&) const override { return {}; }
  [[nodiscard]] async::Task<tools::CallResult> call(tools::Call call) override;
};

/// Counts the runs whose event of that sequence, their last, is durable.
class Ends {
 public:
  Ends(std::uint32_t runs, std::uint64_t last) : left_(runs), last_(last) {}
  void note(std::uint64_t sequence);
  void wait();

 private:
  std::mutex mutex_;
  std::condition_variable none_left_;
  std::uint32_t left_;
  std::uint64_t last_;
};

/// kSteps calls, one after the other.
[[nodiscard]] jobs::RunSpec calling_run(std::uint32_t number);
[[nodiscard]] jobs::RunSpec waiting_graph(bool for_signal);

/// Submits them, a few hundred on their way at once; answers when all are durable.
void submit_all(jobs::Engine& engine, std::uint32_t runs,
                std::function<jobs::RunSpec(std::uint32_t)> const& spec_of);
/// Makes runs of kSteps calls that nobody begins; how many a second.
double queue_runs(journal::Journal& store, std::uint32_t runs);

/// Runs of kSteps calls, begun and ended, until there are so many events.
std::uint64_t write_history(journal::Journal& store, std::uint64_t events);

}  // namespace aether::bench
