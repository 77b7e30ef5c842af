// SPDX-License-Identifier: Apache-2.0
#include "cli/dashboard_model.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>
#include <tuple>
#include <utility>

namespace aether::cli {
namespace {

StatsRow const* find_row(StatsSnapshot const& snapshot, StatsRow const& like) {
  auto const found = std::ranges::find_if(snapshot.rows, [&](StatsRow const& row) {
    return row.kind == like.kind && row.name == like.name;
  });
  return found == snapshot.rows.end() ? nullptr : &*found;
}

/// Counters that began anew (Aether was started again) count from zero.
double per_second(std::uint64_t before, std::uint64_t now, Duration between) {
  double const more = static_cast<double>(now >= before ? now - before : now);
  return between > Duration::zero() ? more / to_seconds(between) : 0;
}

std::string lowered(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

std::uint32_t count_instances(StatsRow const& row) {
  std::uint32_t all = 0;
  for (auto const& [state, count] : row.instances) all += count;
  return all;
}

/// What is most worth looking at comes first.
double weight(DashboardModel const& model, StatsRow const& row, SortBy sort) {
  switch (sort) {
    case SortBy::Requests:
      return model.live(row).requests_per_second;
    case SortBy::P99:
      return to_seconds(model.live(row).p99.value_or(Duration::zero()));
    case SortBy::Memory:
      return static_cast<double>(row.memory_bytes);
    case SortBy::Instances:
      return count_instances(row);
    case SortBy::Name:
      break;
  }
  return 0;
}

void select(DashboardView& view, std::vector<StatsRow const*> const& rows, std::size_t index) {
  view.selected = rows[index]->name;
  view.selected_kind = rows[index]->kind;
}

/// Where a key leads to from a row; nothing for other keys.
std::optional<std::size_t> moved(Key key, std::size_t from, std::size_t count, std::size_t page) {
  std::size_t const last = count - 1;
  switch (key) {
    case Key::Up:
      return from == 0 ? 0 : from - 1;
    case Key::Down:
      return std::min(last, from + 1);
    case Key::PageUp:
      return from > page ? from - page : 0;
    case Key::PageDown:
      return std::min(last, from + page);
    case Key::Home:
      return 0;
    case Key::End:
      return last;
    default:
      return std::nullopt;
  }
}

void type_filter(DashboardView& view, KeyPress pressed) {
  constexpr std::size_t kLongest = 64;  // As long as an id can be.
  if (pressed.key == Key::Backspace && !view.filter.empty()) view.filter.pop_back();
  if (pressed.key == Key::Escape) view.filter.clear();
  if (pressed.key == Key::Escape || pressed.key == Key::Enter) view.typing_filter = false;
  bool const more = pressed.key == Key::Character && view.filter.size() < kLongest;
  if (more) view.filter += pressed.character;
}

DashboardCommand answer_restart(DashboardView& view, KeyPress pressed) {
  view.asking_restart = false;
  bool const yes = pressed.key == Key::Character && pressed.character == 'y';
  if (!yes) return {};
  return {DashboardCommand::What::Restart, view.selected_kind, view.selected};
}

DashboardCommand press_character(DashboardView& view, bool has_rows, char character) {
  using Page = DashboardView::Page;
  switch (character) {
    case 'q':
      return {DashboardCommand::What::Quit, {}, {}};
    case '?':
      view.page = view.page == Page::Help ? Page::List : Page::Help;
      break;
    case '/':
      view.page = Page::List;
      view.typing_filter = true;
      break;
    case 's':
      view.sort = static_cast<SortBy>((static_cast<int>(view.sort) + 1) % 5);
      break;
    case 'r':
      view.asking_restart = has_rows && view.page != Page::Help;
      break;
    default:
      break;
  }
  return {};
}

DashboardCommand press_on(DashboardView& view, DashboardModel const& model, KeyPress pressed,
                          Reach const& reach) {
  using Page = DashboardView::Page;
  view.message.clear();
  if (view.typing_filter) {
    type_filter(view, pressed);
    return {};
  }
  if (view.asking_restart) return answer_restart(view, pressed);
  if (view.page != Page::List) {
    view.scroll = moved(pressed.key, std::min(view.scroll, reach.scroll_max), reach.scroll_max + 1,
                        reach.page_rows)
                      .value_or(view.scroll);
  }
  std::vector<StatsRow const*> const rows = visible_rows(model, view);
  if (!rows.empty()) {
    std::size_t const from = selected_index(rows, view);
    // On the other pages these keys scroll: the row that is looked at stays.
    bool const selects = view.page == Page::List;
    auto const to = selects ? moved(pressed.key, from, rows.size(), reach.page_rows) : std::nullopt;
    select(view, rows, to.value_or(from));
  }
  if (pressed.key == Key::Enter && !rows.empty())
    view.page = view.page == Page::List ? Page::Inspect : Page::List;
  if (pressed.key == Key::Escape && view.page == Page::List) view.filter.clear();
  if (pressed.key == Key::Escape) view.page = Page::List;
  if (pressed.key != Key::Character) return {};
  return press_character(view, !rows.empty(), pressed.character);
}

}  // namespace

std::string_view sort_name(SortBy sort) {
  constexpr std::array<std::string_view, 5> kNames{"name", "req/s", "p99", "memory", "instances"};
  return kNames[static_cast<std::size_t>(sort)];
}

DashboardModel::Past DashboardModel::followed(Past past, StatsRow const* before,
                                              StatsRow const& now, Duration between) {
  if (before == nullptr) {
    past = {};
    past.latencies.push_back(now.latency);
    return past;
  }
  LiveNumbers& live = past.live;
  live.requests_per_second = per_second(before->requests, now.requests, between);
  live.errors_per_second = per_second(before->errors, now.errors, between);
  live.medians.push_back(now.latency.since(before->latency).quantile(0.50));
  if (live.medians.size() > kLooksKept) live.medians.pop_front();
  BucketCounts const lately = now.latency.since(past.latencies.front());
  live.p50 = lately.quantile(0.50);
  live.p99 = lately.quantile(0.99);
  past.latencies.push_back(now.latency);
  if (past.latencies.size() > kLooksKept) past.latencies.pop_front();
  return past;
}

void DashboardModel::take(StatsSnapshot snapshot, Instant at) {
  Duration const between = seen_ ? at - *seen_ : Duration::zero();
  std::map<RowKey, Past> next;
  for (StatsRow const& row : snapshot.rows) {
    RowKey const key{row.kind, row.name};
    StatsRow const* const before = seen_ ? find_row(snapshot_, row) : nullptr;
    next[key] = followed(std::move(past_[key]), before, row, between);
  }
  past_ = std::move(next);
  snapshot_ = std::move(snapshot);
  seen_ = at;
  lost_.clear();
}

LiveNumbers const& DashboardModel::live(StatsRow const& row) const {
  static LiveNumbers const nothing;
  auto const found = past_.find(RowKey{row.kind, row.name});
  return found == past_.end() ? nothing : found->second.live;
}

Tiers DashboardModel::all_starts() const {
  Tiers all{};
  for (StatsRow const& row : snapshot_.rows) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      all[i].count += row.starts[i].count;
      all[i].failed += row.starts[i].failed;
      all[i].took += row.starts[i].took;
    }
  }
  return all;
}

std::vector<StatsRow const*> visible_rows(DashboardModel const& model, DashboardView const& view) {
  std::string const wanted = lowered(view.filter);
  std::vector<StatsRow const*> rows;
  for (StatsRow const& row : model.snapshot().rows) {
    if (lowered(row.name).contains(wanted)) rows.push_back(&row);
  }
  std::ranges::sort(rows, [&](StatsRow const* a, StatsRow const* b) {
    double const left = weight(model, *a, view.sort);
    double const right = weight(model, *b, view.sort);
    return left != right ? left > right : std::tie(a->kind, a->name) < std::tie(b->kind, b->name);
  });
  return rows;
}

std::size_t selected_index(std::vector<StatsRow const*> const& rows, DashboardView const& view) {
  auto const found = std::ranges::find_if(rows, [&](StatsRow const* row) {
    return row->kind == view.selected_kind && row->name == view.selected;
  });
  return found == rows.end() ? 0 : static_cast<std::size_t>(found - rows.begin());
}

DashboardCommand press(DashboardView& view, DashboardModel const& model, KeyPress pressed,
                       Reach const& reach) {
  using Page = DashboardView::Page;
  Page const page = view.page;
  DashboardCommand const command = press_on(view, model, pressed, reach);
  if (view.page != page) view.scroll = 0;
  return command;
}

}  // namespace aether::cli
