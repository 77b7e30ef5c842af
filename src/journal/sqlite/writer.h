// SPDX-License-Identifier: Apache-2.0
// Writer: the one thread and the one connection that write a store. What waits together is
// committed together, with one sync; a lone batch waits for nobody.
#pragma once
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

#include "journal/journal.h"
#include "journal/sqlite/database.h"
#include "journal/sqlite/ledger.h"

namespace aether::journal {

class Writer {
 public:
  /// Called when a file could not be written or synced, and must not return: after a failed sync
  /// nobody knows what is on the disk, and the next one may succeed without having written it.
  using EndProcess = std::function<void(std::string_view why)>;

  /// @param nodes Where the tree is read from, once.
  static Result<std::unique_ptr<Writer>> open(Database database, TreeNodes& nodes, Position last,
                                              EndProcess end_process);
  /// Commits what waits, then copies the log into the store.
  ~Writer();
  Writer(Writer const&) = delete;
  Writer& operator=(Writer const&) = delete;

  void append(Batch batch, Answer answer);
  /// The tree of what is durable.
  [[nodiscard]] TreeHead tree_head();

 private:
  struct Waiting {
    Batch batch;
    Answer answer;
  };
  Writer(Database database, Ledger ledger, GrowingTree tree, EndProcess end_process);
  Status prepare();
  void serve();
  /// Takes from the queue what fits into one commit; nothing when all is done.
  std::vector<Waiting> next_group();
  void commit_group(std::vector<Waiting> group);
  Result<std::vector<AppendOutcome>> write_group(std::vector<Waiting>& group);
  Result<AppendOutcome> write_batch(Batch& batch);
  Status write_event(NewEvent event, std::vector<StreamCheck> const& checks);
  Status write_beside(Batch const& batch);
  void copy_log();
  void empty_log();
  /// Never returns.
  [[noreturn]] void end_process(std::string_view why);

  Database database_;
  Ledger ledger_;
  GrowingTree tree_;
  EndProcess end_process_;
  Statement insert_event_, insert_blob_, erase_blob_, insert_record_, delete_record_, drop_view_,
      insert_note_, insert_node_;
  std::vector<TreeNode> new_nodes_;
  bool has_erased_ = false;
  int pages_in_log_ = 0;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Waiting> queue_;
  bool ending_ = false;
  GrowingTree durable_;
  std::thread thread_;
};

}  // namespace aether::journal
