// SPDX-License-Identifier: Apache-2.0
// A wall clock that can be turned, for tests and demonstrations: an approval that waits a week need
// not take one.
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "base/time.h"

namespace aether::os {

/// The system's clock, with its wall turned by what a file says: "7d", "-1h30m". The file is read
/// each time, so that a clock that is set can be shown to a running program. A file that is missing
/// or says nothing turns nothing; what is no duration is passed over. Deadlines are on the
/// monotonic clock, which is not turned. Thread-safe.
class FileTurnedClock final : public Clock {
 public:
  explicit FileTurnedClock(std::string file) : file_(std::move(file)) {}
  [[nodiscard]] Instant now() const override { return system_.now(); }
  [[nodiscard]] WallTime wall() const override;
  /// By how much it is turned now.
  [[nodiscard]] Duration turned() const;

 private:
  SystemClock system_;
  std::string file_;
  mutable std::atomic<Duration::rep> last_{0};  ///< For the moment in which the file is rewritten.
};

/// The system's clock; or, if AETHER_CLOCK names a file, one that this file turns. That is logged:
/// nobody should wonder why a job ran into its deadline.
[[nodiscard]] std::unique_ptr<Clock> clock_of_environment();

}  // namespace aether::os
