// SPDX-License-Identifier: Apache-2.0
// Inside of this room: names to addresses, without making the loop wait.
#pragma once
#include <string>
#include <vector>

#include "async/offload.h"
#include "async/task.h"

namespace aether::tools {

/// The system's resolver (man 3 getaddrinfo) on two threads of its own. It may outlive the loops
/// whose tasks use it.
class Resolver {
 public:
  Resolver();
  /// At least one. Throws Unreachable if nobody answered, AddressInvalid if there is no such host,
  /// LimitReached if too many wait.
  [[nodiscard]] async::Task<std::vector<std::string>> look_up(std::string host);

 private:
  async::ThreadPool threads_;
};

}  // namespace aether::tools
