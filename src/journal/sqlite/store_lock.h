// SPDX-License-Identifier: Apache-2.0
// StoreLock: one process writes a store at a time. The kernel takes the lock away with its holder.
#pragma once
#include <string>

#include "base/result.h"
#include "os/unique_fd.h"

namespace aether::journal {

/// `<store>.lock`, locked, with the holder's pid in it. The file stays: taking it away would let
/// two hold locks on different files of one name.
class StoreLock {
 public:
  /// StoreInUse names the holder's pid.
  static Result<StoreLock> take(std::string const& store_path);

 private:
  explicit StoreLock(os::UniqueFd file) : file_(std::move(file)) {}
  os::UniqueFd file_;
};

}  // namespace aether::journal
