// SPDX-License-Identifier: Apache-2.0
// Reader: what is asked of a store. One connection behind a mutex, made again when it is lost.
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "journal/journal.h"
#include "journal/postgres/connection.h"

namespace aether::journal::postgres {

class Reader final : public TreeNodes {
 public:
  /// Of a question whose connection was lost: for so long it is asked again. Short, because who
  /// asks may have other things to do.
  static constexpr Duration kAgain = std::chrono::seconds(3);

  Reader(std::string url, Connection connection)
      : url_(std::move(url)), connection_(std::move(connection)) {}

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
  /// Where the span was opened, and closed; 0: it was not.
  struct Span {
    Position opened;
    Position closed;
  };
  Result<Span> span(std::string_view stream, std::string_view span);

  Result<std::vector<Hash>> leaves(std::uint64_t first, std::size_t count) override;
  /// One that is not kept yet is computed.
  Result<std::optional<Hash>> node(unsigned level, std::uint64_t index) override;
  /// Keeps a node; that it is kept already is well.
  Status keep(std::vector<TreeNode> const& nodes);

 private:
  Result<Rows> ask(std::string const& sql, Values const& values = {});
  Result<std::vector<Event>> events(std::string const& sql, Values const& values);

  std::string const url_;
  std::mutex mutex_;
  Connection connection_;
  std::optional<Instant> lost_;  ///< Since when there is none.
};

}  // namespace aether::journal::postgres
