// SPDX-License-Identifier: Apache-2.0
#include "cli/dashboard_view.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/bytes.h"

namespace aether::cli {
namespace {

/// Below this nothing can be read any more.
constexpr Screen kSmallest{.columns = 40, .rows = 8};
/// From this height on there is room for the table of starts.
constexpr std::size_t kRowsForStarts = 18;

std::string rate_text(double per_second) {
  if (per_second >= 1000) return fmt::format("{:.1f}k", per_second / 1000);
  return fmt::format("{:.1f}", per_second);
}

Style state_style(StatsRow const& row) {
  if (!row.problem.empty() && !row.serves) return Style::Bad;
  return row.serves ? Style::Good : Style::Dim;
}

std::uint64_t started(StatsRow const& row, functions::StartTier tier) {
  return row.starts[static_cast<std::size_t>(tier)].count;
}

// ---- the list's columns

struct Cell {
  StatsRow const& row;
  LiveNumbers const& live;
  std::size_t width;
  Charset charset;
};

struct Column {
  std::string_view title;
  std::size_t width;
  std::size_t from_columns;  ///< Screens narrower than this have no room for it.
  Align align;
  std::string (*text)(Cell const&);
};

using functions::StartTier;
bool is_service(Cell const& cell) {
  return cell.row.kind == StatsRow::Kind::Service;
}
std::string of_function(Cell const& cell, std::string text) {
  return is_service(cell) ? "-" : std::move(text);
}

/// The name and the bars take what the others leave.
constexpr std::size_t kNameColumn = 0;
constexpr std::array kColumns{
    Column{"NAME", 18, 0, Align::Left, [](Cell const& c) { return plain_ascii(c.row.name); }},
    Column{"STATE", 8, 0, Align::Left, [](Cell const& c) { return plain_ascii(c.row.state); }},
    Column{"PORT", 5, 110, Align::Right,
           [](Cell const& c) { return of_function(c, std::to_string(c.row.port)); }},
    Column{"REV", 4, 110, Align::Right,
           [](Cell const& c) { return std::to_string(c.row.revision); }},
    Column{"INSTANCES", 10, 56, Align::Left,
           [](Cell const& c) { return instances_text(c.row.instances); }},
    Column{"REQ/S", 7, 0, Align::Right,
           [](Cell const& c) { return of_function(c, rate_text(c.live.requests_per_second)); }},
    Column{"ERR/S", 7, 120, Align::Right,
           [](Cell const& c) { return of_function(c, rate_text(c.live.errors_per_second)); }},
    Column{"FLIGHT", 6, 130, Align::Right,
           [](Cell const& c) { return of_function(c, std::to_string(c.row.in_flight)); }},
    Column{"QUEUED", 6, 130, Align::Right,
           [](Cell const& c) { return of_function(c, std::to_string(c.row.queued)); }},
    Column{"P50", 8, 100, Align::Right, [](Cell const& c) { return duration_text(c.live.p50); }},
    Column{"P99", 8, 0, Align::Right, [](Cell const& c) { return duration_text(c.live.p99); }},
    Column{"LATENCY", 12, 72, Align::Left,
           [](Cell const& c) { return sparkline(c.live.medians, c.width, c.charset); }},
    Column{"MEMORY", 9, 62, Align::Right,
           [](Cell const& c) { return humanize_bytes(c.row.memory_bytes); }},
    Column{"PARKED", 7, 150, Align::Right,
           [](Cell const& c) {
             return of_function(c, std::to_string(started(c.row, StartTier::Parked)));
           }},
    Column{"CLONE", 7, 150, Align::Right,
           [](Cell const& c) {
             return of_function(c, std::to_string(started(c.row, StartTier::Clone)));
           }},
    Column{"COLD", 7, 150, Align::Right,
           [](Cell const& c) {
             return of_function(c, std::to_string(started(c.row, StartTier::Cold)));
           }},
};
constexpr std::size_t kBarsColumn = 11;
static_assert(kColumns[kBarsColumn].title == "LATENCY");

/// The width of each column; 0: not shown. The sum, with a space between, is the screen's.
std::array<std::size_t, kColumns.size()> column_widths(std::size_t columns) {
  std::array<std::size_t, kColumns.size()> widths{};
  std::size_t taken = 1;  // A column is left free at the left edge.
  for (std::size_t i = 0; i < kColumns.size(); ++i) {
    if (columns < kColumns[i].from_columns) continue;
    widths[i] = kColumns[i].width;
    taken += widths[i] + 1;
  }
  constexpr std::size_t kLongestName = 40;
  std::size_t left = columns > taken ? columns - taken : 0;
  std::size_t const more_name = std::min(left, kLongestName - widths[kNameColumn]);
  widths[kNameColumn] += more_name;
  left -= more_name;
  if (widths[kBarsColumn] > 0)
    widths[kBarsColumn] = std::min(kLooksKept, widths[kBarsColumn] + left);
  return widths;
}

ScreenLine list_heading(std::size_t columns) {
  std::string text = " ";
  auto const widths = column_widths(columns);
  for (std::size_t i = 0; i < kColumns.size(); ++i) {
    if (widths[i] > 0) text += fit(kColumns[i].title, widths[i], kColumns[i].align) + " ";
  }
  return line(fit(text, columns), Style::Heading);
}

ScreenLine list_row(DashboardModel const& model, StatsRow const& row, bool selected,
                    Screen const& screen) {
  ScreenLine made;
  auto const widths = column_widths(screen.columns);
  std::size_t used = 1;
  made.push_back({selected ? ">" : " ", selected ? Style::Selected : Style::Plain});
  for (std::size_t i = 0; i < kColumns.size(); ++i) {
    if (widths[i] == 0 || used >= screen.columns) continue;
    Cell const cell{row, model.live(row), widths[i], screen.charset};
    std::string text = fit(kColumns[i].text(cell), widths[i], kColumns[i].align) + " ";
    text = cut(text, screen.columns - used);
    used += width_of(text);
    Style const style = kColumns[i].title == "STATE" ? state_style(row) : Style::Plain;
    made.push_back({std::move(text), selected ? Style::Selected : style});
  }
  if (selected) made.push_back({std::string(screen.columns - used, ' '), Style::Selected});
  return made;
}

// ---- the parts of a screen

std::string counted(std::size_t count, std::string_view thing) {
  return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s");
}

std::vector<ScreenLine> head_lines(DashboardModel const& model, DashboardView const& view,
                                   Screen const& screen) {
  StatsSnapshot const& now = model.snapshot();
  std::size_t functions = 0;
  std::uint64_t memory = 0;
  std::uint32_t in_flight = 0;
  std::uint32_t queued = 0;
  double requests = 0;
  double errors = 0;
  for (StatsRow const& row : now.rows) {
    functions += row.kind == StatsRow::Kind::Function ? 1 : 0;
    memory += row.memory_bytes;
    in_flight += row.in_flight;
    queued += row.queued;
    requests += model.live(row).requests_per_second;
    errors += model.live(row).errors_per_second;
  }
  std::string const left =
      fmt::format(" aether {}  PID {}  up {}", plain_ascii(now.version), now.pid, now.uptime);
  std::string const right =
      fmt::format("{}, {}  sort: {} ", counted(functions, "function"),
                  counted(now.rows.size() - functions, "service"), sort_name(view.sort));
  std::size_t const space = std::max(screen.columns, left.size() + right.size() + 1) - right.size();
  ScreenLine second = line(
      cut(fmt::format(" {} req/s  {} errors/s  {} in flight  {} queued  {}", rate_text(requests),
                      rate_text(errors), in_flight, queued, humanize_bytes(memory)),
          screen.columns));
  if (!model.lost().empty()) {
    second = line(cut(" Aether does not answer: " + plain_ascii(model.lost()), screen.columns),
                  Style::Bad);
  }
  return {line(fit(fit(left, space) + right, screen.columns), Style::Title), second, {}};
}

/// The tiers side by side: count, failures, p50 and p99 of each.
std::vector<ScreenLine> starts_lines(Tiers const& tiers, std::size_t columns) {
  constexpr std::size_t kLabel = 9;
  constexpr std::size_t kWidth = 9;
  std::string heading = fit(" STARTS", kLabel);
  std::array<std::string, 4> rows{fit(" count", kLabel), fit(" failed", kLabel),
                                  fit(" p50", kLabel), fit(" p99", kLabel)};
  for (std::size_t i = 0; i < tiers.size(); ++i) {
    auto const cell = [](std::string const& text) { return fit(text, kWidth, Align::Right); };
    heading += cell(std::string(tier_name(static_cast<StartTier>(i))));
    rows[0] += cell(std::to_string(tiers[i].count));
    rows[1] += cell(std::to_string(tiers[i].failed));
    rows[2] += cell(duration_text(tiers[i].took.quantile(0.50)));
    rows[3] += cell(duration_text(tiers[i].took.quantile(0.99)));
  }
  std::vector<ScreenLine> lines{line(fit(heading, columns), Style::Heading)};
  for (std::string const& row : rows) lines.push_back(line(cut(row, columns)));
  lines.emplace_back();
  return lines;
}

bool has_starts(Screen const& screen) {
  return screen.rows >= kRowsForStarts;
}

std::vector<ScreenLine> list_lines(DashboardModel const& model, DashboardView const& view,
                                   Screen const& screen) {
  std::vector<ScreenLine> lines;
  if (has_starts(screen)) lines = starts_lines(model.all_starts(), screen.columns);
  lines.push_back(list_heading(screen.columns));
  std::vector<StatsRow const*> const rows = visible_rows(model, view);
  if (rows.empty()) {
    bool const filtered = !view.filter.empty();
    lines.push_back(line(filtered ? " nothing has that in its name" : " nothing runs", Style::Dim));
    return lines;
  }
  std::size_t const selected = selected_index(rows, view);
  std::size_t const room = list_rows(screen);
  std::size_t const first = selected >= room ? selected - room + 1 : 0;
  for (std::size_t i = first; i < std::min(rows.size(), first + room); ++i) {
    lines.push_back(list_row(model, *rows[i], i == selected, screen));
  }
  return lines;
}

void add_fact(std::vector<ScreenLine>& lines, std::string_view name, std::string_view value,
              std::size_t columns) {
  constexpr std::size_t kLabel = 16;
  std::string label = fmt::format(" {}", name);
  for (std::string& part : wrapped(plain_ascii(value), columns - kLabel)) {
    lines.push_back({{fit(label, kLabel), Style::Dim}, {std::move(part), Style::Plain}});
    label.clear();
  }
}

std::vector<ScreenLine> inspect_lines(DashboardModel const& model, StatsRow const& row,
                                      Screen const& screen) {
  std::vector<ScreenLine> lines;
  std::string const name = cut(fmt::format(" {}  ", plain_ascii(row.name)), screen.columns);
  std::string const state = cut(plain_ascii(row.state), screen.columns - width_of(name));
  lines.push_back({{name, Style::Heading}, {state, state_style(row)}});
  if (!row.problem.empty()) add_fact(lines, "problem", row.problem, screen.columns);
  for (auto const& [name, value] : row.facts) add_fact(lines, name, value, screen.columns);
  if (row.kind == StatsRow::Kind::Function) {
    LiveNumbers const& live = model.live(row);
    add_fact(lines, "requests",
             fmt::format("{}, of which {} failed; {}/s; p50 {}, p99 {}", row.requests, row.errors,
                         rate_text(live.requests_per_second), duration_text(live.p50),
                         duration_text(live.p99)),
             screen.columns);
    lines.emplace_back();
    for (ScreenLine& one : starts_lines(row.starts, screen.columns)) lines.push_back(one);
  } else {
    lines.emplace_back();
  }
  lines.push_back(line(fit(fmt::format(" {:>4} {:<4} {:<9} {:<6} {:>8} {:>6} {:>10}  {}", "INST",
                                       "REV", "STATE", "MADE", "PID", "PORT", "MEMORY", "SINCE"),
                           screen.columns),
                       Style::Heading));
  for (std::string const& instance : row.instance_lines) {
    lines.push_back(line(cut(" " + plain_ascii(instance), screen.columns)));
  }
  return lines;
}

std::vector<ScreenLine> help_lines(std::size_t columns) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 14> kHelp{{
      {"up, down", "select a row, or scroll; PgUp, PgDn, Home, End too"},
      {"Enter", "all about the selected row, and back"},
      {"/", "only names that contain the text; Enter keeps it, Esc clears it"},
      {"s", "sort by name, requests, p99, memory, instances"},
      {"r", "restart: a swap of a service, a new revision of a function"},
      {"q", "quit"},
      {"?", "this page, and back"},
      {"", ""},
      {"INSTANCES", "w warm, p parked (frozen), t template, s starting, d draining"},
      {"REQ/S", "requests between the last two looks"},
      {"P50, P99", "of the requests of the last minute"},
      {"LATENCY", "the median of each second, the highest one full height"},
      {"MEMORY", "of all instances; what they share is counted once"},
      {"STARTS", "since Aether started, by how the instance was made"},
  }};
  std::vector<ScreenLine> lines;
  for (auto const& [name, meaning] : kHelp) {
    std::string const text = fmt::format(" {:<11} {}", name, meaning);
    lines.push_back(line(cut(text, columns)));
  }
  return lines;
}

ScreenLine foot_line(DashboardView const& view, Screen const& screen) {
  if (view.typing_filter) {
    return line(fit(fmt::format(" /{}_", plain_ascii(view.filter)), screen.columns),
                Style::Heading);
  }
  if (view.asking_restart) {
    return line(fit(fmt::format(" restart {}? y or n", plain_ascii(view.selected)), screen.columns),
                Style::Heading);
  }
  if (!view.message.empty())
    return line(fit(" " + plain_ascii(view.message), screen.columns), Style::Heading);
  std::string keys = " / filter  s sort  Enter inspect  r restart  ? help  q quit";
  if (!view.filter.empty())
    keys = fmt::format(" filter: {} (Esc)  {}", view.filter, keys.substr(1));
  return line(fit(keys, screen.columns), Style::Title);
}

std::vector<ScreenLine> body_lines(DashboardModel const& model, DashboardView const& view,
                                   Screen const& screen) {
  if (view.page == DashboardView::Page::Help) return help_lines(screen.columns);
  std::vector<StatsRow const*> const rows = visible_rows(model, view);
  if (view.page == DashboardView::Page::Inspect && !rows.empty())
    return inspect_lines(model, *rows[selected_index(rows, view)], screen);
  return list_lines(model, view, screen);
}

/// Of what is below the head.
struct Room {
  std::size_t rows = 0;        ///< Lines of the page that are seen.
  std::size_t scroll_max = 0;  ///< 0: all of them.
};
/// @param left Rows that the head leaves; the last one is the foot's, and the one above tells how
/// much there is besides.
Room room_for(std::size_t lines, std::size_t left) {
  if (left < 2 || lines < left) return {.rows = lines};
  return {.rows = left - 2, .scroll_max = lines - (left - 2)};
}

}  // namespace

Reach reach(DashboardModel const& model, DashboardView const& view, Screen const& screen) {
  Reach reach{.page_rows = list_rows(screen)};
  bool const fits = screen.columns >= kSmallest.columns && screen.rows >= kSmallest.rows;
  if (!fits || view.page == DashboardView::Page::List) return reach;
  Room const room = room_for(body_lines(model, view, screen).size(),
                             screen.rows - head_lines(model, view, screen).size());
  reach.scroll_max = room.scroll_max;
  if (room.scroll_max > 0) reach.page_rows = std::max<std::size_t>(1, room.rows);
  return reach;
}

std::size_t list_rows(Screen const& screen) {
  std::size_t const around = (has_starts(screen) ? 6 : 0) + 5;  // Head, heading and foot.
  return screen.rows > around ? screen.rows - around : 1;
}

std::vector<ScreenLine> draw(DashboardModel const& model, DashboardView const& view,
                             Screen const& screen) {
  if (screen.columns < kSmallest.columns || screen.rows < kSmallest.rows) {
    std::vector<ScreenLine> lines(screen.rows);
    if (screen.rows > 0) {
      lines[0] =
          line(cut(fmt::format("{}x{} is too small", screen.columns, screen.rows), screen.columns));
    }
    return lines;
  }
  std::vector<ScreenLine> lines = head_lines(model, view, screen);
  std::vector<ScreenLine> body = body_lines(model, view, screen);
  Room const room = room_for(body.size(), screen.rows - lines.size());
  std::size_t const above = std::min(view.scroll, room.scroll_max);
  std::size_t const shown = std::min(body.size() - above, room.rows);
  auto const first = body.begin() + static_cast<std::ptrdiff_t>(above);
  lines.insert(lines.end(), first, first + static_cast<std::ptrdiff_t>(shown));
  if (room.scroll_max > 0) {
    std::size_t const below = body.size() - above - shown;
    lines.push_back(line(cut(fmt::format(" {} more lines{}", below,
                                         above > 0 ? fmt::format(", {} above", above) : ""),
                             screen.columns),
                         Style::Dim));
  }
  lines.resize(screen.rows);
  lines.back() = foot_line(view, screen);
  return lines;
}

}  // namespace aether::cli
