// SPDX-License-Identifier: Apache-2.0
// DashboardModel: what the dashboard knows: the last snapshots, and what follows from comparing
// them. DashboardView: what the person at it has chosen. Both pure.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/time.h"
#include "cli/stats_snapshot.h"

namespace aether::cli {

/// Looks that are kept of each row: at one a second, the last minute.
inline constexpr std::size_t kLooksKept = 60;

/// What comparing snapshots tells of one row.
struct LiveNumbers {
  double requests_per_second = 0;
  double errors_per_second = 0;
  std::optional<Duration> p50;  ///< Of the looks that are kept.
  std::optional<Duration> p99;
  /// The median between each look and the one before, oldest first; nothing where none came.
  std::deque<std::optional<Duration>> medians;
};

class DashboardModel {
 public:
  /// The newest snapshot, seen at `at`.
  void take(StatsSnapshot snapshot, Instant at);
  /// Aether did not answer: why. The last snapshot stays.
  void lose(std::string why) { lost_ = std::move(why); }

  [[nodiscard]] StatsSnapshot const& snapshot() const { return snapshot_; }
  [[nodiscard]] LiveNumbers const& live(StatsRow const& row) const;
  [[nodiscard]] std::string const& lost() const { return lost_; }
  /// The starts of all functions together.
  [[nodiscard]] Tiers all_starts() const;

 private:
  /// Functions and services may share a name.
  using RowKey = std::pair<StatsRow::Kind, std::string>;
  struct Past {
    std::deque<BucketCounts> latencies;  ///< Oldest first.
    LiveNumbers live;
  };
  static Past followed(Past past, StatsRow const* before, StatsRow const& now, Duration between);

  StatsSnapshot snapshot_;
  std::optional<Instant> seen_;
  std::map<RowKey, Past> past_;
  std::string lost_;
};

enum class SortBy : std::uint8_t { Name, Requests, P99, Memory, Instances };
[[nodiscard]] std::string_view sort_name(SortBy sort);

struct DashboardView {
  enum class Page : std::uint8_t { List, Inspect, Help } page = Page::List;
  SortBy sort = SortBy::Name;
  std::string filter;
  bool typing_filter = false;
  bool asking_restart = false;
  std::string message;   ///< What became of the last action.
  std::string selected;  ///< Name of the row; it stays selected when the order changes.
  StatsRow::Kind selected_kind = StatsRow::Kind::Function;
  std::size_t scroll = 0;  ///< Of Inspect and Help: lines above the first one to be seen.
};

enum class Key : std::uint8_t {
  Up,
  Down,
  PageUp,
  PageDown,
  Home,
  End,
  Enter,
  Escape,
  Backspace,
  Character
};
struct KeyPress {
  Key key = Key::Character;
  char character = 0;
};

/// What the shell has to do.
struct DashboardCommand {
  enum class What : std::uint8_t { Nothing, Quit, Restart } what = What::Nothing;
  StatsRow::Kind kind = StatsRow::Kind::Function;
  std::string name;
};

/// The rows that the filter lets pass, in their order.
[[nodiscard]] std::vector<StatsRow const*> visible_rows(DashboardModel const& model,
                                                        DashboardView const& view);
/// The selected one of these; the first if the selected one is not there. `rows` is not empty.
[[nodiscard]] std::size_t selected_index(std::vector<StatsRow const*> const& rows,
                                         DashboardView const& view);
/// How far the keys move.
struct Reach {
  std::size_t page_rows = 1;   ///< Rows that a page key moves.
  std::size_t scroll_max = 0;  ///< Of the page that is shown: scroll_limit().
};
[[nodiscard]] DashboardCommand press(DashboardView& view, DashboardModel const& model,
                                     KeyPress pressed, Reach const& reach);

}  // namespace aether::cli
