// SPDX-License-Identifier: Apache-2.0
// Reader: what is durable in a store, read over a connection of its own. Thread-safe.
#pragma once
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "journal/journal.h"
#include "journal/sqlite/database.h"

namespace aether::journal {

class Reader final : public TreeNodes {
 public:
  static Result<std::unique_ptr<Reader>> open(std::string const& path, std::string const& vfs);

  Result<std::vector<Event>> read(Position from, std::size_t count);
  Result<std::vector<Event>> read_stream(std::string_view stream, Sequence from, std::size_t count);
  Result<StreamState> stream(std::string_view stream);
  Result<std::vector<std::string>> streams(std::string_view after, std::size_t count);
  Result<std::optional<Position>> key_holder(std::string_view key);
  Result<std::optional<Blob>> blob(BlobHash const& hash);
  Result<std::optional<std::string>> record(std::string_view view, std::string_view key);
  Result<std::vector<Record>> records(std::string_view view, std::string_view from,
                                      std::string_view to, std::size_t count);
  Result<std::vector<std::string>> checkpoints();
  Result<std::vector<StorageFault>> check();
  Result<Position> last();
  /// From here on it sees the store as it is now, whatever is appended.
  Status hold();
  Result<std::vector<Hash>> leaves(std::uint64_t first, std::size_t count) override;
  Result<std::optional<Hash>> node(unsigned level, std::uint64_t index) override;

 private:
  explicit Reader(Database database) : database_(std::move(database)) {}
  Status prepare();
  /// The positions of a stream's events from `from` on, as far as `count` goes.
  Result<std::vector<std::uint64_t>> positions(std::string_view stream, Sequence from,
                                               std::size_t count);

  std::mutex mutex_;
  Database database_;
  Statement find_stream_, next_streams_, find_link_, find_event_, next_events_, find_key_,
      find_blob_, find_record_, next_records_, notes_, next_leaves_, find_node_, last_;
};

}  // namespace aether::journal
