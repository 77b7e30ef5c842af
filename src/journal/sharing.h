// SPDX-License-Identifier: Apache-2.0
// Sharing: how the processes on one store divide the work. A row of an index that says "there is
// work" is claimed by one process at a time, for as long as that process says that it lives.
//
// Claims give progress, and nothing else: what makes a call happen once is the journal (fences,
// spans, keys), whatever two processes believe of a claim.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/time.h"
#include "journal/journal.h"

namespace aether::journal {

class Sharing {
 public:
  /// What a process hears. Called on a thread of the journal: be short, and wait for nothing.
  struct Ear {
    /// Rows that are this process's from now on, until it releases them.
    std::function<void(std::vector<Record> rows)> claimed;
    /// A name that another process told (Batch::told). Empty: anything may have been missed.
    std::function<void(std::string name)> heard;
    /// Claims that ended although nobody here released them: the process, or the way to the store,
    /// stood still for too long, and another process has them.
    std::function<void(std::vector<std::string> keys)> lost;
    /// Now and then, in one process at a time: what has no owner is to be looked at.
    std::function<void()> keep;
  };
  virtual ~Sharing() = default;

  /// Begins. @param view The index whose rows are claimed. @param term For how long a claim holds
  /// when its process says nothing any more, by the store's own clock.
  virtual void begin(std::string view, Duration term, Ear ear) = 0;
  /// Rows with from <= key < to.
  struct Wanted {
    std::string from, to;
    std::size_t count = 0;
    bool operator==(Wanted const&) const = default;
  };
  /// So many more may be claimed: replaces what was wanted before. Thread-safe, as what follows.
  /// @param seen How many rows `claimed` has given to the caller. If others are on their way
  /// already, the call is out of date and changes nothing: call again when they are here.
  virtual void want(std::vector<Wanted> wanted, std::uint64_t seen) = 0;
  /// The claim is given back.
  virtual void release(std::string key) = 0;
  /// Gives back all claims, and calls nobody any more when it returns. It may begin again.
  virtual void end() = 0;
};

}  // namespace aether::journal
