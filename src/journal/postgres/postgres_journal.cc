// SPDX-License-Identifier: Apache-2.0
#include "journal/postgres/postgres_journal.h"

#include <algorithm>
#include <mutex>
#include <optional>

#include <fmt/format.h>

#include "journal/limits.h"
#include "journal/postgres/claims.h"
#include "journal/postgres/reader.h"
#include "journal/postgres/schema.h"
#include "journal/postgres/writer.h"

namespace aether::journal {
namespace {

/// Leaves that are read at once to bring the tree up to date.
constexpr std::uint64_t kLeavesPage = 10'000;

class PostgresJournal final : public Journal {
 public:
  /// @param looks_at Of a reader: the size that it shows.
  PostgresJournal(std::string const& url, std::unique_ptr<postgres::Reader> reader,
                  std::unique_ptr<postgres::Writer> writer, std::optional<Position> looks_at)
      : reader_(std::move(reader)), writer_(std::move(writer)), looks_at_(looks_at) {
    if (writer_) claims_.emplace(url, [this] { return writer_->process(); });
  }

  void append(Batch batch, Answer answer) override {
    if (Status const checked = check_batch(batch); !checked) return answer(fail(checked.error()));
    if (writer_) return writer_->append(std::move(batch), std::move(answer));
    answer(fail(ErrorCode::StoreInUse, "appending: the store was opened for reading only"));
  }

  Sharing* sharing() override { return claims_ ? &*claims_ : nullptr; }

  Result<std::vector<Event>> read(Position from, std::size_t count) override {
    if (!looks_at_) return reader_->read(from, count);
    std::uint64_t const first = std::max<std::uint64_t>(from.value, 1);
    std::uint64_t const left = looks_at_->value >= first ? looks_at_->value - first + 1 : 0;
    return reader_->read(from, std::min<std::uint64_t>(count, left));
  }
  Result<std::vector<Event>> read_stream(std::string_view stream, Sequence from,
                                         std::size_t count) override {
    TRY_ASSIGN(std::vector<Event> events, reader_->read_stream(stream, from, count));
    if (looks_at_)
      std::erase_if(events, [this](Event const& each) { return each.position > *looks_at_; });
    return events;
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
  Result<TreeHead> tree_head() override;
  Result<std::vector<std::string>> checkpoints() override { return reader_->checkpoints(); }
  Result<std::vector<StorageFault>> check_storage() override { return reader_->check(); }
  Result<std::vector<Hash>> leaves(std::uint64_t first, std::size_t count) override {
    return reader_->leaves(first, count);
  }
  Result<std::optional<Hash>> node(unsigned level, std::uint64_t index) override {
    return reader_->node(level, index);
  }

 private:
  // In this order: the writer asks the reader until it has ended, and the claims ask the writer.
  std::unique_ptr<postgres::Reader> reader_;
  std::unique_ptr<postgres::Writer> writer_;
  std::optional<postgres::Claims> claims_;
  std::optional<Position> const looks_at_;
  std::mutex tree_mutex_;
  std::optional<GrowingTree> tree_;  ///< Of what was there when it was last asked for.
};

/// Leaves are there with their events; the tree over them is brought up to date here, by whoever
/// wants to know it.
Result<TreeHead> PostgresJournal::tree_head() {
  std::lock_guard const lock(tree_mutex_);
  Position last;
  if (looks_at_) {
    last = *looks_at_;
  } else {
    TRY_ASSIGN(last, reader_->last());
  }
  if (!tree_) {
    std::uint64_t const whole = last.value >> kKeptLevels << kKeptLevels;
    TRY_ASSIGN(tree_, GrowingTree::load(*reader_, whole));
  }
  std::vector<TreeNode> kept;
  while (tree_->size() < last.value) {
    std::uint64_t const count = std::min(last.value - tree_->size(), kLeavesPage);
    TRY_ASSIGN(std::vector<Hash> const leaves, reader_->leaves(tree_->size(), count));
    for (Hash const& leaf : leaves) tree_->add(leaf, kept);
  }
  // They are what any process would keep; that they are kept late, or not, changes nothing.
  if (writer_) (void)reader_->keep(kept);
  return TreeHead{.size = tree_->size(), .root = tree_->root()};
}

}  // namespace

Result<std::unique_ptr<Journal>> open_postgres_journal(PostgresOptions options) {
  TRY_ASSIGN(postgres::Connection writing, postgres::Connection::open(options.url, "writer"));
  TRY(postgres::look_at_durability(writing));
  TRY(postgres::prepare_store(writing));
  TRY_ASSIGN(postgres::Connection reading, postgres::Connection::open(options.url, "reader"));
  auto reader = std::make_unique<postgres::Reader>(options.url, std::move(reading));
  TRY_ASSIGN(std::unique_ptr<postgres::Writer> writer,
             postgres::Writer::open(options, std::move(writing), *reader));
  return std::make_unique<PostgresJournal>(options.url, std::move(reader), std::move(writer),
                                           std::nullopt);
}

Result<std::unique_ptr<Journal>> open_postgres_reader(PostgresOptions options) {
  TRY_ASSIGN(postgres::Connection connection, postgres::Connection::open(options.url, "look"));
  TRY(postgres::check_store(connection));
  auto reader = std::make_unique<postgres::Reader>(options.url, std::move(connection));
  TRY_ASSIGN(Position const last, reader->last());
  return std::make_unique<PostgresJournal>(options.url, std::move(reader), nullptr, last);
}

std::string postgres_name(std::string_view url) {
  return postgres::name_of_url(url);
}

}  // namespace aether::journal
