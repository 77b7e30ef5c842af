// SPDX-License-Identifier: Apache-2.0
#include "jobs/view_check.h"

#include <array>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "jobs/run_event_codec.h"
#include "jobs/run_rows.h"
#include "journal/fsck.h"

namespace aether::jobs {
namespace {

/// "wake" is not among them: its rows are gone with the next start of the engine.
constexpr std::array<std::string_view, 3> kCheckedViews = {kRunView, kReadyView, kDueView};
constexpr std::size_t kPageRows = 1000;

/// View and key -> value.
using RowTable = std::map<std::pair<std::string, std::string>, std::string>;

Result<RowTable> rows_of_events(journal::Journal& journal) {
  RowTable table;
  std::string after;
  while (true) {
    TRY_ASSIGN(std::vector<std::string> const page, journal.streams(after, kPageRows));
    if (page.empty()) return table;
    for (std::string const& stream : page) {
      Result<RunId> const run = parse_run_id(stream);
      if (!run) continue;
      Result<RunState> const state = load_run(journal, *run);
      if (!state && state.error().code() == ErrorCode::StoreDamaged) continue;
      if (!state) return fail(state.error());
      std::vector<journal::RecordChange> rows;
      add_changes(*run, nullptr, rows_of(*state), rows);
      for (journal::RecordChange& row : rows) {
        table.emplace(std::pair(row.view, std::move(row.key)), std::move(row.value).value_or(""));
      }
    }
    after = page.back();
  }
}

Status add_kept(journal::Journal& journal, std::string_view view, RowTable& table) {
  std::string from;
  while (true) {
    TRY_ASSIGN(std::vector<journal::Record> page, journal.records(view, from, {}, kPageRows));
    if (page.empty()) return {};
    from = page.back().key + '\0';
    for (journal::Record& row : page) {
      table.emplace(std::pair(std::string(view), std::move(row.key)), std::move(row.value));
    }
  }
}

Status append_rows(journal::Journal& journal, journal::Batch batch) {
  TRY_ASSIGN(journal::AppendOutcome const outcome, journal::append_now(journal, std::move(batch)));
  if (outcome) return {};
  return fail(ErrorCode::Internal, journal::describe(outcome.error()));
}

}  // namespace

Result<std::vector<std::string>> check_views(journal::Journal& journal) {
  TRY_ASSIGN(RowTable const wanted, rows_of_events(journal));
  RowTable kept;
  for (std::string_view const view : kCheckedViews) TRY(add_kept(journal, view, kept));
  std::vector<std::string> findings;
  auto const tell = [&findings](RowTable::value_type const& row, std::string_view what) {
    if (findings.size() >= journal::kFindingsMax) return;
    findings.push_back(
        fmt::format("the row '{}' of the index '{}' {}", row.first.second, row.first.first, what));
  };
  for (RowTable::value_type const& row : wanted) {
    auto const found = kept.find(row.first);
    if (found == kept.end()) tell(row, "is missing");
    if (found != kept.end() && found->second != row.second) tell(row, "is not what the events say");
  }
  for (RowTable::value_type const& row : kept) {
    if (!wanted.contains(row.first)) tell(row, "is there, and no event says so");
  }
  return findings;
}

Status rebuild_views(journal::Journal& journal) {
  TRY_ASSIGN(RowTable table, rows_of_events(journal));
  journal::Batch batch;
  batch.views_dropped.assign(kCheckedViews.begin(), kCheckedViews.end());
  for (auto& [name, value] : table) {
    batch.records.push_back({name.first, name.second, std::move(value)});
    if (batch.records.size() < kPageRows) continue;
    TRY(append_rows(journal, std::move(batch)));
    batch = {};
  }
  return append_rows(journal, std::move(batch));
}

}  // namespace aether::jobs
