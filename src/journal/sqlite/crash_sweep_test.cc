// SPDX-License-Identifier: Apache-2.0
// The power goes at every moment: after each write, sync, truncation and removal that SQLite made,
// the files are put together as a disk could have them then. Each such store must open, be clean,
// and hold every event that was acknowledged.
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <set>

#include <gtest/gtest.h>

#include "journal/fsck.h"
#include "journal/memory/memory_journal.h"
#include "journal/sqlite/recording_vfs.h"
#include "journal/sqlite/sqlite_journal.h"
#include "journal/testing.h"
#include "os/temp_dir.h"

namespace aether::journal {
namespace {

using testing::append_to;
using testing::appended;
using testing::batch_of;
using testing::blob_of;
using testing::close_span;
using testing::open_span;
using testing::point;
using testing::RecordingVfs;
using testing::value_of;
using Operation = RecordingVfs::Operation;
using Kind = Operation::Kind;

/// How much of what was not yet synced has reached the disk.
enum class Unsynced : std::uint8_t { Dropped, Kept, Some };

/// What the disk knows of one file.
class DiskFile {
 public:
  void take(Operation const& operation) {
    if (operation.kind == Kind::Sync) {
      apply_all(synced_, {});
      unsynced_.clear();
    } else {
      unsynced_.push_back(operation);
    }
  }
  [[nodiscard]] std::string content(Unsynced unsynced, Chance& chance) const {
    std::string content = synced_;
    if (unsynced == Unsynced::Dropped) return content;
    std::set<std::size_t> lost;
    for (std::size_t at = 0; at < unsynced_.size(); ++at) {
      if (unsynced == Unsynced::Some && chance.one_in(2)) lost.insert(at);
    }
    apply_all(content, lost);
    return content;
  }

 private:
  void apply_all(std::string& content, std::set<std::size_t> const& lost) const {
    for (std::size_t at = 0; at < unsynced_.size(); ++at) {
      if (!lost.contains(at)) apply(content, unsynced_[at]);
    }
  }
  static void apply(std::string& content, Operation const& operation) {
    auto const offset = static_cast<std::size_t>(operation.offset);
    if (operation.kind == Kind::Truncate) return content.resize(offset);
    content.resize(std::max(content.size(), offset + operation.bytes.size()));
    content.replace(offset, operation.bytes.size(), operation.bytes);
  }
  std::string synced_;
  std::vector<Operation> unsynced_;
};

std::string const& memory_folder() {
  static std::string const folder = std::ifstream("/dev/shm/.").good() ? "/dev/shm" : "/tmp";
  return folder;
}

Batch some_batch(int number) {
  std::string const span = "s" + std::to_string(number);
  Batch batch = batch_of({open_span("run" + std::to_string(number % 3), span),
                          point("audit", "\"" + std::string(700, 'x') + "\""),
                          close_span("run" + std::to_string(number % 3), span)});
  batch.events[0].keys = {"key" + std::to_string(number)};
  batch.records = {{.view = "due", .key = span, .value = "x"}};
  if (number % 4 == 0) {
    batch.blobs = {blob_of(span + std::string(40'000, 'b'))};
    batch.events[1].blobs = {batch.blobs[0].hash};
  }
  return batch;
}

/// Works on a store three times, each ended by copying the log; every acknowledgement is noted with
/// the size of the tree. Gives the roots by size.
std::map<std::uint64_t, Hash> work(RecordingVfs& vfs, std::string const& path) {
  std::map<std::uint64_t, Hash> roots;
  int number = 0;
  for (int session = 0; session < 3; ++session) {
    std::unique_ptr<Journal> const journal =
        value_of(open_sqlite_journal({.path = path, .vfs = vfs.name()}));
    if (!journal) return roots;
    for (int left = 8; left > 0; --left) {
      appended(*journal, some_batch(number++));
      TreeHead const head = value_of(journal->tree_head());
      roots[head.size] = head.root;
      vfs.note(static_cast<std::int64_t>(head.size));
    }
  }
  return roots;
}

void expect_whole(std::string const& path, std::uint64_t acknowledged, Hash const& root) {
  Result<std::unique_ptr<Journal>> journal = open_sqlite_journal({.path = path});
  ASSERT_TRUE(journal) << journal.error().describe();
  FsckReport const report = value_of(fsck(**journal, ""));
  for (Finding const& finding : report.findings) ADD_FAILURE() << describe(finding);
  ASSERT_GE(report.head.size, acknowledged);
  if (acknowledged > 0) EXPECT_EQ(value_of(tree_root(**journal, acknowledged)), root);
  EXPECT_EQ(appended(**journal, batch_of({point("after")})).value, report.head.size + 1);
}

TEST(CrashSweep, EveryPrefixOpensIsCleanAndHoldsWhatWasAcknowledged) {
  os::TempDir const folder = value_of(os::TempDir::create("journal-crash", memory_folder()));
  RecordingVfs vfs("recording-crash-sweep");
  std::map<std::uint64_t, Hash> const roots = work(vfs, folder.file("store.db"));
  std::vector<Operation> const operations = vfs.operations();
  EXPECT_GT(operations.size(), 100U);
  std::map<std::string, DiskFile> disk;
  std::uint64_t acknowledged = 0;
  Chance chance(11);
  for (std::size_t at = 0; at < operations.size() && !HasFailure(); ++at) {
    Operation const& operation = operations[at];
    if (operation.kind == Kind::Note) {
      acknowledged = static_cast<std::uint64_t>(operation.offset);
    } else if (operation.kind == Kind::Remove) {
      disk.erase(operation.file);
    } else {
      disk[operation.file].take(operation);
    }
    for (Unsynced const unsynced : {Unsynced::Dropped, Unsynced::Kept, Unsynced::Some}) {
      SCOPED_TRACE("operation " + std::to_string(at) + " of " + std::to_string(operations.size()) +
                   ", unsynced " + std::to_string(static_cast<int>(unsynced)));
      os::TempDir const image = value_of(os::TempDir::create("journal-image", memory_folder()));
      for (auto const& [name, file] : disk) {
        std::ofstream(image.file(name), std::ios::binary) << file.content(unsynced, chance);
      }
      expect_whole(image.file("store.db"), acknowledged,
                   acknowledged > 0 ? roots.at(acknowledged) : Hash{});
    }
  }
}

}  // namespace
}  // namespace aether::journal
