// SPDX-License-Identifier: Apache-2.0
// Signals are the main thread's: a thread that is begun under this guard is born with all of them
// blocked (pthread_create(3): a new thread inherits the mask of the one that makes it).
#pragma once
#include <signal.h>

namespace aether::os {

/// For as long as it lives, the calling thread has all signals blocked.
class SignalsBlocked {
 public:
  SignalsBlocked();
  ~SignalsBlocked();
  SignalsBlocked(SignalsBlocked const&) = delete;
  SignalsBlocked& operator=(SignalsBlocked const&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace aether::os
