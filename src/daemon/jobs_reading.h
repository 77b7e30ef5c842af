// SPDX-License-Identifier: Apache-2.0
// What can be read of jobs in a journal: for the API of a running Aether, and for commands on the
// store of one that does not run. Blocking.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/jobs_plane.h"
#include "base/json.h"
#include "base/result.h"
#include "journal/journal.h"
#include "journal/signer.h"

namespace aether::daemon {

/// Events of a stream, oldest first, with the payloads of blobs put into their bodies.
[[nodiscard]] Result<std::vector<journal::Event>> read_events(journal::Journal& journal,
                                                              std::string_view stream,
                                                              std::uint64_t after,
                                                              std::size_t count);
[[nodiscard]] Result<std::string> read_trace(journal::Journal& journal, jobs::RunId const& run,
                                             api::TraceForm form, WallTime now);
/// {id, status, calls: 0, equal, output, ...}. Makes no call: it has no tools.
[[nodiscard]] Result<boost::json::value> replay_recorded(journal::Journal& journal,
                                                         jobs::RunId const& run);
/// Signs a checkpoint over all of the journal, for the proof. The journal must take appends.
[[nodiscard]] Result<std::string> make_evidence(journal::Journal& journal,
                                                journal::Signer const& signer,
                                                jobs::RunId const& run);
/// A checkpoint over all of the journal.
/// @param old_size Of an older one: then the proof that the journal grew from it
/// (journal/growth.h).
[[nodiscard]] Result<std::string> make_checkpoint(journal::Journal& journal,
                                                  journal::Signer const& signer,
                                                  std::optional<std::uint64_t> old_size);

/// What reading a whole store found.
struct StoreCheck {
  std::uint64_t events = 0;
  std::uint64_t runs = 0;
  std::uint64_t unknown = 0;  ///< Calls of which nobody knows what became.
  std::uint64_t blobs = 0;
  std::uint64_t checkpoints = 0;
  std::string root;  ///< Of the tree, in base64.
  std::vector<std::string> findings;
};
/// Laws of the journal and of runs, hashes, tree, checkpoints.
/// @param verifier The public key of the checkpoints; empty: they are not looked at.
/// @param with_views Also compares the views with what the events give; then nothing may append.
/// @param kept A checkpoint that was kept elsewhere; empty: none.
[[nodiscard]] Result<StoreCheck> check_store(journal::Journal& journal, std::string const& verifier,
                                             bool with_views, std::string const& kept = {});
/// The laws of one run's history: EvidenceInvalid names the first that is broken, and where.
[[nodiscard]] Status check_run_laws(std::vector<journal::Event> const& events);

}  // namespace aether::daemon
