// SPDX-License-Identifier: Apache-2.0
#include "daemon/jobs_erasing.h"

#include <optional>
#include <set>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "async/offload.h"
#include "daemon/jobs_plane.h"
#include "jobs/run_event_codec.h"
#include "journal/limits.h"

namespace aether::daemon {
namespace {

/// Events that are read at once.
constexpr std::size_t kErasePage = 1000;

struct ErasableValues {
  std::set<journal::BlobHash> named;
  std::uint64_t events = 0;
  bool has_ended = false;
};

Result<ErasableValues> values_of(journal::Journal& journal, jobs::RunId const& run) {
  ErasableValues values;
  for (;;) {
    TRY_ASSIGN(std::vector<journal::Event> const page,
               journal.read_stream(run.text, journal::Sequence{values.events + 1}, kErasePage));
    for (journal::Event const& event : page) {
      values.named.insert(event.blobs.begin(), event.blobs.end());
      values.has_ended = values.has_ended || event.kind == jobs::kind_of(jobs::RunClosed{});
    }
    values.events += page.size();
    if (page.size() < kErasePage) return values;
  }
}

Status erase_batch(journal::Journal& journal, std::vector<journal::BlobHash> hashes) {
  if (hashes.empty()) return {};
  journal::Batch batch;
  batch.blobs_erased = std::move(hashes);
  TRY_ASSIGN(journal::AppendOutcome const done, journal::append_now(journal, std::move(batch)));
  if (!done) return fail(ErrorCode::StoreDamaged, journal::describe(done.error()));
  return {};
}

}  // namespace

Result<api::Erasure> erase_values(journal::Journal& journal, jobs::RunId const& run) {
  TRY_ASSIGN(ErasableValues const values, values_of(journal, run));
  if (values.events == 0) return fail(ErrorCode::NotFound, "there is no job " + run.text);
  if (!values.has_ended) {
    return fail(ErrorCode::Conflict,
                fmt::format("{} has not ended, and may need its values: wait for its end, or "
                            "cancel it first",
                            run.text));
  }
  api::Erasure erasure;
  std::vector<journal::BlobHash> waiting;
  for (journal::BlobHash const& hash : values.named) {
    TRY_ASSIGN(std::optional<journal::Blob> const blob, journal.blob(hash));
    bool const is_gone = !blob || !blob->content;
    ++(is_gone ? erasure.gone : erasure.erased);
    if (is_gone) continue;
    waiting.push_back(hash);
    if (waiting.size() == journal::kBatchBlobsMax)
      TRY(erase_batch(journal, std::exchange(waiting, {})));
  }
  TRY(erase_batch(journal, std::move(waiting)));
  return erasure;
}

Status check_values_stay(journal::Journal& journal, jobs::RunId const& run) {
  TRY_ASSIGN(ErasableValues const values, values_of(journal, run));
  for (journal::BlobHash const& hash : values.named) {
    TRY_ASSIGN(std::optional<journal::Blob> const blob, journal.blob(hash));
    if (blob && blob->content) continue;
    return fail(ErrorCode::Conflict,
                fmt::format("values of {} were erased, and nothing can be decided again without "
                            "them; its trace and its evidence are there",
                            run.text));
  }
  return {};
}

async::Task<api::Erasure> Jobs::erase(jobs::Asker asker, jobs::RunId run, std::string reason) {
  async::Task<Result<api::Erasure>> erasing = async::offload(
      readers_, [journal = journal_.get(), run] { return erase_values(*journal, run); });
  Result<api::Erasure> const done = co_await std::move(erasing);
  or_throw(done);
  note(std::move(asker.name),
       {.action = "erase",
        .target = run.text,
        .decision = "done",
        .detail = fmt::format("{} values{}{}", done->erased, reason.empty() ? "" : ": ", reason)});
  co_return *done;
}

}  // namespace aether::daemon
