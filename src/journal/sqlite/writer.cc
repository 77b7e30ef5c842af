// SPDX-License-Identifier: Apache-2.0
#include "journal/sqlite/writer.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/fault.h"
#include "base/log.h"
#include "journal/limits.h"
#include "journal/sqlite/event_rows.h"
#include "os/signals_blocked.h"

namespace aether::journal {

Writer::Writer(Database database, Ledger ledger, GrowingTree tree, EndProcess end_process)
    : database_(std::move(database)),
      ledger_(std::move(ledger)),
      tree_(std::move(tree)),
      end_process_(std::move(end_process)),
      durable_(tree_) {}

Result<std::unique_ptr<Writer>> Writer::open(Database database, TreeNodes& nodes, Position last,
                                             EndProcess end_process) {
  TRY_ASSIGN(GrowingTree tree, GrowingTree::load(nodes, last.value));
  std::unique_ptr<Writer> writer(
      new Writer(std::move(database), Ledger(), std::move(tree), std::move(end_process)));
  TRY_ASSIGN(writer->ledger_, Ledger::open(writer->database_));
  TRY(writer->prepare());
  os::SignalsBlocked const blocked;
  writer->thread_ = std::thread([self = writer.get()] { self->serve(); });
  return writer;
}

Status Writer::prepare() {
  struct {
    Statement& statement;
    std::string_view sql;
  } const all[] = {
      {insert_event_, kInsertEvent},
      {insert_blob_, "INSERT INTO blob(hash,salt,content) VALUES(?1,?2,?3) ON CONFLICT DO NOTHING"},
      {erase_blob_, "UPDATE blob SET salt=NULL,content=NULL WHERE hash=?1"},
      {insert_record_, "INSERT OR REPLACE INTO record VALUES(?1,?2,?3)"},
      {delete_record_, "DELETE FROM record WHERE view=?1 AND key=?2"},
      {drop_view_, "DELETE FROM record WHERE view=?1"},
      {insert_note_, "INSERT INTO checkpoint(note) VALUES(?1)"},
      {insert_node_, "INSERT INTO node VALUES(?1,?2,?3)"},
  };
  for (auto const& [statement, sql] : all) {
    TRY_ASSIGN(statement, database_.prepare(sql));
  }
  database_.watch_log(&pages_in_log_);
  return {};
}

Writer::~Writer() {
  {
    std::lock_guard const lock(mutex_);
    ending_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Writer::append(Batch batch, Answer answer) {
  bool is_full = false;
  {
    std::lock_guard const lock(mutex_);
    is_full = queue_.size() >= kQueuedBatchesMax;
    if (!is_full) queue_.push_back({.batch = std::move(batch), .answer = std::move(answer)});
  }
  if (!is_full) {
    wake_.notify_one();
    return;
  }
  answer(fail(ErrorCode::LimitReached,
              fmt::format("appending: {} batches wait for the disk already (kQueuedBatchesMax)",
                          kQueuedBatchesMax)));
}

TreeHead Writer::tree_head() {
  std::lock_guard const lock(mutex_);
  return {.size = durable_.size(), .root = durable_.root()};
}

void Writer::serve() {
  for (std::vector<Waiting> group = next_group(); !group.empty(); group = next_group()) {
    commit_group(std::move(group));
    ledger_.trim();
    if (pages_in_log_ >= kCheckpointPages) copy_log();
  }
  copy_log();
}

std::vector<Writer::Waiting> Writer::next_group() {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [this] { return ending_ || !queue_.empty(); });
  std::size_t events = 0;
  auto end = queue_.begin();
  while (end != queue_.end() && events < kGroupEventsMax)
    events += 1 + (end++)->batch.events.size();
  std::vector<Waiting> group(std::move_iterator(queue_.begin()), std::move_iterator(end));
  queue_.erase(queue_.begin(), end);
  return group;
}

void Writer::commit_group(std::vector<Waiting> group) {
  GrowingTree const tree_before = tree_;
  Result<std::vector<AppendOutcome>> outcomes = write_group(group);
  if (!outcomes) {
    if (database_.failed_at_file()) end_process(outcomes.error().describe());
    (void)database_.run("ROLLBACK");  // which is done already after some errors
    ledger_.forget();
    tree_ = tree_before;
    for (Waiting& each : group) each.answer(fail(outcomes.error()));
    return;
  }
  {
    std::lock_guard const lock(mutex_);
    durable_ = tree_;
  }
  if (has_erased_) empty_log();
  if (Status const passed = fault::pass(fault::Point::JournalAnswer); !passed) {
    end_process(passed.error().describe());
  }
  for (std::size_t at = 0; at < group.size(); ++at) {
    group[at].answer(std::move((*outcomes)[at]));
  }
}

Result<std::vector<AppendOutcome>> Writer::write_group(std::vector<Waiting>& group) {
  if (Status const passed = fault::pass(fault::Point::JournalBegin); !passed) {
    end_process(passed.error().describe());
  }
  new_nodes_.clear();
  TRY(database_.run("BEGIN IMMEDIATE"));
  std::vector<AppendOutcome> outcomes;
  outcomes.reserve(group.size());
  for (Waiting& each : group) {
    TRY_ASSIGN(AppendOutcome outcome, write_batch(each.batch));
    outcomes.push_back(std::move(outcome));
  }
  TRY(ledger_.write_streams());
  for (TreeNode const& node : new_nodes_) {
    TRY(insert_node_.bind(std::uint64_t{node.level}, node.index, Statement::Bytes{node.hash.view()})
            .run());
  }
  if (Status const passed = fault::pass(fault::Point::JournalCommit); !passed) {
    end_process(passed.error().describe());
  }
  TRY(database_.run("COMMIT"));
  return outcomes;
}

Result<AppendOutcome> Writer::write_batch(Batch& batch) {
  Position const last{tree_.size()};
  TRY_ASSIGN(std::optional<Refusal> refused, ledger_.refusal(batch, Position{last.value + 1}));
  if (refused) return AppendOutcome(std::unexpected(std::move(*refused)));
  for (Blob const& blob : batch.blobs) {
    TRY(insert_blob_
            .bind(Statement::Bytes{blob.hash.view()}, Statement::Bytes{blob.salt},
                  Statement::Bytes{*blob.content})
            .run());
  }
  std::uint64_t const count = batch.events.size();
  for (NewEvent& event : batch.events) TRY(write_event(std::move(event), batch.checks));
  TRY(write_beside(batch));
  return AppendOutcome(
      Appended{.first = Position{last.value + (count == 0 ? 0 : 1)}, .count = count});
}

Status Writer::write_event(NewEvent event, std::vector<StreamCheck> const& checks) {
  Event recorded;
  static_cast<NewEvent&>(recorded) = std::move(event);
  TRY_ASSIGN(Ledger::Stream* const stream, ledger_.stream(recorded.stream));
  recorded.position = Position{tree_.size() + 1};
  recorded.sequence = Sequence{stream->state.last.value + 1};
  recorded.fence = stream->state.fence;
  auto const check = std::ranges::find(checks, recorded.stream, &StreamCheck::stream);
  if (check != checks.end() && check->raised) recorded.fence = *check->raised;
  Position const previous = stream->state.head;
  Hash const leaf = leaf_hash(event_line(recorded));
  ledger_.note(recorded, *stream);
  TRY(insert_event(insert_event_, recorded, stream->id, previous, leaf));
  for (std::string const& key : recorded.keys) TRY(ledger_.note_key(key, recorded.position));
  tree_.add(leaf, new_nodes_);
  return {};
}

Status Writer::write_beside(Batch const& batch) {
  for (BlobHash const& hash : batch.blobs_erased) {
    TRY(erase_blob_.bind(Statement::Bytes{hash.view()}).run());
    has_erased_ = true;
  }
  for (std::string const& view : batch.views_dropped) {
    TRY(drop_view_.bind(std::string_view(view)).run());
  }
  for (RecordChange const& change : batch.records) {
    std::string_view const view = change.view;
    Statement::Bytes const key{change.key};
    TRY(change.value ? insert_record_.bind(view, key, Statement::Bytes{*change.value}).run()
                     : delete_record_.bind(view, key).run());
  }
  if (batch.checkpoint) TRY(insert_note_.bind(std::string_view(*batch.checkpoint)).run());
  return {};
}

void Writer::copy_log() {
  if (Status const passed = fault::pass(fault::Point::JournalCheckpoint); !passed) {
    end_process(passed.error().describe());
  }
  Result<int> const left = database_.copy_log();
  if (!left) {
    if (database_.failed_at_file()) end_process(left.error().describe());
    // The log keeps everything; it is copied when there is room.
    log::warn("{}", left.error().describe());
  }
  pages_in_log_ = 0;
}

void Writer::empty_log() {
  Status const emptied = database_.empty_log();
  if (!emptied && database_.failed_at_file()) end_process(emptied.error().describe());
  has_erased_ = !emptied.has_value();
  pages_in_log_ = 0;
}

void Writer::end_process(std::string_view why) {
  end_process_(why);
  AETHER_CHECK(false, "the process should have ended: {}", why);
  std::abort();
}

}  // namespace aether::journal
