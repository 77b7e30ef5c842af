// SPDX-License-Identifier: Apache-2.0
#include "cli/job_proofs.h"

#include <fstream>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/json_text.h"
#include "cli/terminal.h"
#include "daemon/jobs_reading.h"
#include "journal/checkpoint.h"
#include "journal/evidence.h"
#include "journal/growth.h"
#include "os/file.h"

namespace aether::cli {
namespace {

namespace json = boost::json;

constexpr std::size_t kProofBytesMax = std::size_t{1} << 30U;

struct Judged {
  json::object told;
  std::string text;  ///< The same for people.
};

Result<Judged> judge_evidence(std::string const& text, std::string const& trusted) {
  TRY_ASSIGN(journal::Verified const verified, journal::verify_evidence(text, trusted));
  TRY(daemon::check_run_laws(verified.events));
  Judged judged;
  judged.told = {{"valid", true},
                 {"stream", verified.stream},
                 {"events", verified.events.size()},
                 {"blobs", verified.blobs},
                 {"blobs_erased", verified.blobs_erased},
                 {"checkpoint_size", verified.checkpoint.head.size},
                 {"key", verified.key},
                 {"key_trusted", !trusted.empty()}};
  judged.text = fmt::format(
      "{}: {} events, {} blobs ({} erased), in a journal of {} events\n  signed by {}\n",
      verified.stream, verified.events.size(), verified.blobs, verified.blobs_erased,
      verified.checkpoint.head.size, verified.key);
  if (trusted.empty())
    judged.text +=
        "  whose key that is, the file cannot prove: compare it, or give it with --key\n";
  return judged;
}

Result<Judged> judge_growth(std::string const& text, std::string const& kept,
                            std::string const& trusted) {
  if (kept.empty() || trusted.empty()) {
    return fail(ErrorCode::UsageInvalid,
                "this file proves that a journal grew: give the checkpoint that you kept with "
                "--old, and the journal's key with --key");
  }
  TRY_ASSIGN(journal::VerifiedGrowth const grown, journal::verify_growth(text, kept, trusted));
  Judged judged;
  judged.told = {{"valid", true},
                 {"old_size", grown.from.head.size},
                 {"checkpoint_size", grown.to.head.size},
                 {"root", journal::text_of(grown.to.head.root)},
                 {"key", trusted},
                 {"key_trusted", true}};
  judged.text =
      fmt::format("the journal of {} events begins with the {} of the checkpoint that was kept\n",
                  grown.to.head.size, grown.from.head.size);
  return judged;
}

/// Evidence ends with a note, too, but is no note of three lines.
bool is_checkpoint(std::string const& text) {
  Result<journal::SignedNote> const note = journal::parse_note(text);
  return note && journal::parse_checkpoint_text(note->text);
}

/// Only who signed it, and for what.
Result<Judged> judge_checkpoint(std::string const& text, std::string const& trusted) {
  TRY_ASSIGN(journal::VerifierKey const key, journal::VerifierKey::parse(trusted));
  TRY_ASSIGN(journal::Checkpoint const checkpoint, journal::open_checkpoint(text, key));
  Judged judged;
  judged.told = {{"valid", true},
                 {"checkpoint_size", checkpoint.head.size},
                 {"root", journal::text_of(checkpoint.head.root)},
                 {"key", trusted},
                 {"key_trusted", true}};
  judged.text =
      fmt::format("a checkpoint of {} events, signed by {}\n", checkpoint.head.size, trusted);
  return judged;
}

Result<Judged> judge(std::string const& file, std::string const& kept, std::string const& trusted) {
  TRY_ASSIGN(std::string const text, os::read_file(file, kProofBytesMax));
  if (journal::is_growth(text)) return judge_growth(text, kept, trusted);
  if (kept.empty() && !trusted.empty() && is_checkpoint(text))
    return judge_checkpoint(text, trusted);
  if (kept.empty()) return judge_evidence(text, trusted);
  return fail(ErrorCode::UsageInvalid,
              fmt::format("{} does not prove that a journal grew: `aether checkpoint --old` makes "
                          "a file that does",
                          file));
}

void print_fault(Globals const& globals, std::string const& file, Error const& error) {
  if (globals.output == Output::Json) {
    fmt::print("{}\n", api::json_text(json::object{{"valid", false},
                                                   {"file", file},
                                                   {"code", info(error.code()).name},
                                                   {"message", error.message()}}));
    return;
  }
  Paint const paint = paint_for(stderr);
  fmt::print(stderr, "{}✗{} {}: {}\n", paint.red, paint.reset, file, error.describe());
}

}  // namespace

Result<std::string> key_from(std::string const& text) {
  if (text.empty() || text.contains('+')) return text;
  std::ifstream file(text);
  std::string line;
  if (!file || !std::getline(file, line)) return fail(system_error("open", text));
  return line;
}

Result<std::string> kept_note(std::string const& file) {
  if (file.empty()) return std::string();
  TRY_ASSIGN(std::string const text, os::read_file(file, kProofBytesMax));
  return journal::note_in(text);
}

Result<int> verify_files(Globals const& globals, VerifyOptions const& options) {
  TRY_ASSIGN(std::string const trusted, key_from(options.key));
  TRY_ASSIGN(std::string const kept, kept_note(options.old));
  bool good = true;
  for (std::string const& file : options.files) {
    Result<Judged> judged = judge(file, kept, trusted);
    if (!judged && options.files.size() == 1) return fail(std::move(judged).error());
    if (!judged) {
      print_fault(globals, file, judged.error());
      good = false;
      continue;
    }
    if (options.files.size() > 1) judged->told["file"] = file;
    if (globals.output == Output::Json) fmt::print("{}\n", api::json_text(judged->told));
    if (globals.output != Output::Json) fmt::print("✓ {}", judged->text);
  }
  return good ? kDone : kFailed;
}

}  // namespace aether::cli
