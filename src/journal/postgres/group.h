// SPDX-License-Identifier: Apache-2.0
// Group: batches that are appended by one statement. Those whose order among themselves would
// matter do not go into one group: then all of it can be compared with the store at once.
#pragma once
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "journal/journal.h"
#include "journal/postgres/connection.h"

namespace aether::journal::postgres {

class Group {
 public:
  struct Waiting {
    Batch batch;
    Answer answer;
    bool alone = false;  ///< It, or what was with it, was refused: to be asked about by itself.
    int refusals = 0;    ///< How often it was refused for no reason that could be found.
  };

  /// True if the batch may go with those that are here already.
  [[nodiscard]] bool takes(Waiting const& next) const;
  void add(Waiting next);

  /// What the function `append` gets, after the writer's id and the group's number.
  [[nodiscard]] Values values(std::string_view writer, std::uint64_t number) const;
  /// A batch that no state could accept: a span opened twice in it, a key taken twice.
  [[nodiscard]] bool is_hopeless() const { return is_hopeless_; }

  std::vector<Waiting> batches;
  std::uint64_t number = 0;
  bool sent = false;

 private:
  using Row = std::pair<std::string_view, std::string_view>;
  void take_names(Batch const& batch);

  std::size_t events_ = 0;
  bool is_closed_ = false;  ///< Takes nothing more.
  bool is_hopeless_ = false;
  std::set<std::string_view> streams_;
  std::set<std::string_view> keys_;
  std::set<Row> rows_;
};

/// The statement that values() fills.
[[nodiscard]] std::string append_call();

}  // namespace aether::journal::postgres
