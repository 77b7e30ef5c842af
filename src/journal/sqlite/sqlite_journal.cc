// SPDX-License-Identifier: Apache-2.0
#include "journal/sqlite/sqlite_journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <optional>

#include <fmt/format.h>

#include "base/log.h"
#include "journal/sqlite/reader.h"
#include "journal/sqlite/schema.h"
#include "journal/sqlite/store_lock.h"
#include "journal/sqlite/writer.h"

namespace aether::journal {
namespace {

void end_process(std::string_view why) {
  log::error(
      "the journal could not be written, and what is on the disk is not known; Aether ends "
      "here and reads it again at its next start: {}",
      why);
  ::_exit(1);
}

class SqliteJournal final : public Journal {
 public:
  SqliteJournal(std::optional<StoreLock> lock, std::unique_ptr<Reader> reader,
                std::unique_ptr<Writer> writer, TreeHead opened)
      : lock_(std::move(lock)),
        writer_(std::move(writer)),
        reader_(std::move(reader)),
        opened_(opened) {}

  void append(Batch batch, Answer answer) override {
    if (Status const checked = check_batch(batch); !checked) return answer(fail(checked.error()));
    if (writer_) return writer_->append(std::move(batch), std::move(answer));
    answer(fail(ErrorCode::StoreInUse, "appending: the store was opened for reading only"));
  }

  Result<std::vector<Event>> read(Position from, std::size_t count) override {
    return reader_->read(from, count);
  }
  Result<std::vector<Event>> read_stream(std::string_view stream, Sequence from,
                                         std::size_t count) override {
    return reader_->read_stream(stream, from, count);
  }
  Result<StreamState> stream(std::string_view stream) override { return reader_->stream(stream); }
  Result<std::vector<std::string>> streams(std::string_view after, std::size_t count) override {
    return reader_->streams(after, count);
  }
  Result<std::optional<Position>> key_holder(std::string_view key) override {
    return reader_->key_holder(key);
  }
  Result<std::optional<Blob>> blob(BlobHash const& hash) override { return reader_->blob(hash); }
  Result<std::optional<std::string>> record(std::string_view view, std::string_view key) override {
    return reader_->record(view, key);
  }
  Result<std::vector<Record>> records(std::string_view view, std::string_view from,
                                      std::string_view to, std::size_t count) override {
    return reader_->records(view, from, to, count);
  }
  Result<TreeHead> tree_head() override { return writer_ ? writer_->tree_head() : opened_; }
  Result<std::vector<std::string>> checkpoints() override { return reader_->checkpoints(); }
  Result<std::vector<StorageFault>> check_storage() override { return reader_->check(); }
  Result<std::vector<Hash>> leaves(std::uint64_t first, std::size_t count) override {
    return reader_->leaves(first, count);
  }
  Result<std::optional<Hash>> node(unsigned level, std::uint64_t index) override {
    return reader_->node(level, index);
  }

 private:
  // In this order: the last connection to end is the writer's, which takes the log away, and the
  // lock is given back after that.
  std::optional<StoreLock> lock_;
  std::unique_ptr<Writer> writer_;
  std::unique_ptr<Reader> reader_;
  TreeHead opened_;
};

}  // namespace

Result<std::unique_ptr<Journal>> open_sqlite_journal(SqliteOptions options) {
  // By whatever links a store is named, it has one lock.
  std::error_code ignored;
  std::filesystem::path const real = std::filesystem::weakly_canonical(options.path, ignored);
  if (!real.empty()) options.path = real.string();
  TRY_ASSIGN(StoreLock lock, StoreLock::take(options.path));
  // SQLite makes the log and the shared memory with the mode of the store: nobody else's to read.
  // Closed before SQLite opens it: closing it later would end SQLite's locks.
  os::UniqueFd(::open(options.path.c_str(), O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  TRY_ASSIGN(Database database, Database::open(options.path, Database::Access::Write, options.vfs));
  TRY(prepare_store(database));
  TRY_ASSIGN(std::unique_ptr<Reader> reader, Reader::open(options.path, options.vfs));
  TRY_ASSIGN(Position const last, reader->last());
  Writer::EndProcess const at_fault = options.end_process ? options.end_process : end_process;
  TRY_ASSIGN(std::unique_ptr<Writer> writer,
             Writer::open(std::move(database), *reader, last, at_fault));
  return std::make_unique<SqliteJournal>(std::move(lock), std::move(reader), std::move(writer),
                                         TreeHead{});
}

Result<std::unique_ptr<Journal>> open_sqlite_reader(SqliteOptions options) {
  TRY_ASSIGN(std::unique_ptr<Reader> reader, Reader::open(options.path, options.vfs));
  TRY(reader->hold());
  TRY_ASSIGN(Position const last, reader->last());
  TRY_ASSIGN(Hash const root, tree_root(*reader, last.value));
  return std::make_unique<SqliteJournal>(std::nullopt, std::move(reader), nullptr,
                                         TreeHead{.size = last.value, .root = root});
}

}  // namespace aether::journal
