// SPDX-License-Identifier: Apache-2.0
// Channel: a pair of sockets between us and a frozen program, through which the program and its
// copies are handed descriptors of ours (man 7 unix, SCM_RIGHTS). What arrives that way needs no
// right of the program's own: one in a sandbox may not open what Aether lends it.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "clone/call_list.h"
#include "clone/frozen_process.h"
#include "os/unique_fd.h"

namespace aether::clone {

/// Descriptors that are handed over in one message at most, below the kernel's 253.
inline constexpr std::size_t kHandedMax = 32;

class Channel {
 public:
  /// The program's end gets this number, which must be the lowest free one; copies inherit it.
  [[nodiscard]] static Result<Channel> open(FrozenProcess& program, int number);
  [[nodiscard]] int number() const { return number_; }
  /// One message of up to kHandedMax descriptors, for the next receipt.
  Status hand(std::span<int const> descriptors) const;
  /// Closes the program's end.
  Status close(FrozenProcess& program) const;

 private:
  Channel(os::UniqueFd ours, int number) : ours_(std::move(ours)), number_(number) {}
  os::UniqueFd ours_;
  int number_;
};

/// The call by which the program takes one message; it gets the lowest free numbers, close on exec.
/// Returns where they will be found.
CallList::Argument add_receipt(int channel, std::size_t count, CallList& list);
/// The numbers, once the call was made: fewer if the program may not have as many.
[[nodiscard]] std::vector<int> received(CallList const& performed, CallList::Argument receipt);

}  // namespace aether::clone
