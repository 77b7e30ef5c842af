// SPDX-License-Identifier: Apache-2.0
// fsck: reads a whole journal and says what in it is not as it must be. Changes nothing.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "journal/journal.h"
#include "journal/laws.h"

namespace aether::journal {

struct Finding {
  enum class Kind : std::uint8_t {
    Storage,           ///< The back end's own check found damage.
    Unreadable,        ///< Events from `position` on cannot be read.
    Law,               ///< The event at `position` breaks a law.
    EventChanged,      ///< The event at `position` is not what was hashed when it was appended.
    NodeWrong,         ///< A kept node of the tree is not what the events give.
    StreamRowWrong,    ///< What is stored of a stream is not what its events come to.
    KeyRowWrong,       ///< A key is not held by the event that took it.
    BlobMissing,       ///< A blob that an event names is not stored.
    BlobChanged,       ///< A blob is not what its address says.
    CheckpointBroken,  ///< A checkpoint was signed for another history, or is none.
    TreeHeadWrong,     ///< The tree in use is not the tree of the events.
  };
  Kind kind = Kind::Storage;
  Position position;  ///< 0 where no event is meant.
  std::string what;
  bool operator==(Finding const&) const = default;
};
[[nodiscard]] std::string_view text_of(Finding::Kind kind);
[[nodiscard]] std::string describe(Finding const& finding);

/// More are not told: somebody wrote over the file.
inline constexpr std::size_t kFindingsMax = 1000;

struct FsckReport {
  TreeHead head;  ///< As the events give it.
  std::uint64_t blobs = 0;
  std::uint64_t blobs_erased = 0;
  std::uint64_t checkpoints = 0;
  std::vector<Finding> findings;
};
/// The journal should not be appended to meanwhile: what comes later is not looked at.
/// @param verifier The key that the checkpoints must be signed with; empty: not looked at.
/// @param kept A checkpoint that was kept elsewhere, which is compared as the stored ones are.
[[nodiscard]] Result<FsckReport> fsck(Journal& journal, std::string_view verifier,
                                      std::string const& kept = {});

}  // namespace aether::journal
