// SPDX-License-Identifier: Apache-2.0
// Proofs in files: evidence of jobs, and of a journal that only grew. Needs no store and no Aether.
#pragma once
#include <string>

#include "base/result.h"
#include "cli/globals.h"
#include "cli/job_commands.h"

namespace aether::cli {

/// A key as it is written, or a file that holds one.
[[nodiscard]] Result<std::string> key_from(std::string const& text);
/// The checkpoint in a file that was kept (journal::note_in); empty if no file is named.
[[nodiscard]] Result<std::string> kept_note(std::string const& file);
/// Of several files each is judged; kFailed if one does not prove what it should.
[[nodiscard]] Result<int> verify_files(Globals const& globals, VerifyOptions const& options);

}  // namespace aether::cli
