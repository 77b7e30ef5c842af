// SPDX-License-Identifier: Apache-2.0
#include "cli/dashboard_view.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cli/testing.h"

namespace aether::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::answering;
using testing::serving;

DashboardModel model_of(std::vector<functions::FunctionStatus> functions,
                        std::vector<relay::ServiceStatus> const& services = {}) {
  DashboardModel model;
  model.take(testing::snapshot_of(functions, services), Instant(seconds(1)));
  for (functions::FunctionStatus& one : functions) {
    one.requests.requests += 30;
    one.requests.latency.add(milliseconds(2));
  }
  model.take(testing::snapshot_of(functions, services), Instant(seconds(2)));
  return model;
}

std::string text_of(ScreenLine const& line) {
  std::string text;
  for (Span const& span : line) text += span.text;
  return text;
}

std::string text_of(std::vector<ScreenLine> const& lines) {
  std::string text;
  for (ScreenLine const& line : lines) text += text_of(line) + "\n";
  return text;
}

void expect_fits(std::vector<ScreenLine> const& lines, Screen const& screen) {
  EXPECT_EQ(lines.size(), screen.rows);
  for (ScreenLine const& line : lines) {
    EXPECT_LE(width_of(text_of(line)), screen.columns) << text_of(line);
    EXPECT_EQ(text_of(line).find_first_of("\n\r\t\x1b"), std::string::npos);
  }
}

std::vector<DashboardView> all_views() {
  using Page = DashboardView::Page;
  DashboardView typing{.filter = "hel", .typing_filter = true};
  DashboardView filtered{.filter = "nobody"};
  DashboardView asking{.asking_restart = true, .selected = std::string(64, 'x')};
  DashboardView told{.message = "web: " + std::string(300, 'y')};
  return {{},
          {.page = Page::Inspect},
          {.page = Page::Help},
          {.page = Page::Inspect, .selected = "web", .selected_kind = StatsRow::Kind::Service},
          typing,
          filtered,
          asking,
          told};
}

TEST(DashboardView, FillsEachSizeAndNeverMore) {
  functions::FunctionStatus long_one = answering(std::string(64, 'n'));
  long_one.problem = std::string(500, 'p') + " and\nmore \x1b[31m";
  long_one.state = "FAILED";
  relay::ServiceStatus web = serving("wéb-\xf0\x9f\x9a\x80");
  web.command = {"python3", std::string(300, 'c')};
  DashboardModel const model = model_of({answering("hello"), long_one}, {web, serving("web")});
  for (std::size_t columns = 1; columns <= 250; ++columns) {
    for (std::size_t const rows : {1U, 7U, 8U, 17U, 18U, 24U, 50U}) {
      for (DashboardView const& view : all_views()) {
        Screen const screen{.columns = columns, .rows = rows, .charset = Charset::Ascii};
        SCOPED_TRACE(fmt::format("{}x{}", columns, rows));
        expect_fits(draw(model, view, screen), screen);
      }
    }
  }
}

TEST(DashboardView, At80x24ShowsTheListTheStartsAndTheKeys) {
  DashboardModel const model = model_of({answering("hello")}, {serving("web")});
  Screen const screen{.columns = 80, .rows = 24};
  std::vector<ScreenLine> const lines = draw(model, {}, screen);
  std::string const text = text_of(lines);
  for (std::string const wanted :
       {"aether 1.2.3", "PID 42", "1 function, 1 service", "30.0 req/s", "STARTS", "parked",
        "hello", "RUNNING", "w1 p1 t1", "30.0", "web", "LATENCY", "q quit"}) {
    EXPECT_TRUE(text.contains(wanted)) << wanted << "\n" << text;
  }
  EXPECT_FALSE(text.contains("QUEUED")) << "no room for it";
  EXPECT_EQ(width_of(text_of(lines.front())), 80U);
}

TEST(DashboardView, At200x50HasMoreColumns) {
  DashboardModel const model = model_of({answering("hello")});
  std::string const text = text_of(draw(model, {}, {.columns = 200, .rows = 50}));
  for (std::string const wanted : {"PORT", "8080", "QUEUED", "ERR/S", "P50", "COLD"}) {
    EXPECT_TRUE(text.contains(wanted)) << wanted << "\n" << text;
  }
}

TEST(DashboardView, MarksTheSelectedRowWithoutColourToo) {
  DashboardModel const model = model_of({answering("a"), answering("b")});
  DashboardView const view{.selected = "b"};
  std::vector<ScreenLine> const lines = draw(model, view, {});
  auto const selected = std::ranges::find_if(
      lines, [](ScreenLine const& line) { return text_of(line).starts_with(">"); });
  ASSERT_NE(selected, lines.end());
  EXPECT_TRUE(text_of(*selected).starts_with(">b "));
  EXPECT_EQ(selected->front().style, Style::Selected);
}

TEST(DashboardView, ScrollsToTheSelectedRow) {
  std::vector<functions::FunctionStatus> all;
  for (int i = 100; i < 200; ++i) all.push_back(answering(fmt::format("fn-{}", i)));
  DashboardModel const model = model_of(all);
  for (std::string const name : {"fn-100", "fn-150", "fn-199"}) {
    DashboardView const view{.selected = name};
    std::string const text = text_of(draw(model, view, {}));
    EXPECT_TRUE(text.contains(">" + name)) << text;
  }
}

TEST(DashboardView, FitsAsManyRowsAsAPageKeyMoves) {
  std::vector<functions::FunctionStatus> all;
  for (int i = 100; i < 200; ++i) all.push_back(answering(fmt::format("fn-{}", i)));
  DashboardModel const model = model_of(all);
  for (std::size_t const rows : {8U, 17U, 24U, 50U}) {
    Screen const screen{.columns = 80, .rows = rows};
    std::size_t shown = 0;
    for (ScreenLine const& line : draw(model, {}, screen)) {
      shown += text_of(line).find("fn-") == 1 ? 1 : 0;
    }
    EXPECT_EQ(shown, list_rows(screen)) << rows;
  }
}

TEST(DashboardView, InspectsAFunctionWithTheReasonsAndItsInstances) {
  functions::FunctionStatus function = answering("hello");
  function.launch = "spawn";
  function.not_cloneable = {"it has several processes"};
  DashboardModel const model = model_of({function});
  DashboardView const view{.page = DashboardView::Page::Inspect};
  std::string const text = text_of(draw(model, view, {}));
  for (std::string const wanted :
       {"hello", "spawn, because it has several processes", "no reseeding hook", "128 MB",
        "/opt/handlers/hello.py", "5002", "40001", "parked"}) {
    EXPECT_TRUE(text.contains(wanted)) << wanted << "\n" << text;
  }
}

TEST(DashboardView, SaysHowMuchDoesNotFit) {
  functions::FunctionStatus function = answering("hello");
  function.instances.resize(30, function.instances.back());
  DashboardModel const model = model_of({function});
  DashboardView const view{.page = DashboardView::Page::Inspect};
  std::string const text = text_of(draw(model, view, {}));
  EXPECT_TRUE(text.contains(" more lines\n / filter")) << text;
  EXPECT_FALSE(text_of(draw(model, view, {.columns = 80, .rows = 50})).contains("more lines"));
}

TEST(DashboardView, ShowsEachLineOfALongPageSomewhere) {
  functions::FunctionStatus function = answering("hello");
  function.instances.resize(30, function.instances.back());
  for (std::size_t i = 0; i < function.instances.size(); ++i)
    function.instances[i].port = static_cast<std::uint16_t>(50001 + i);
  DashboardModel const model = model_of({function});
  DashboardView view{.page = DashboardView::Page::Inspect};
  Reach const far = reach(model, view, {});
  ASSERT_GT(far.scroll_max, 0U);
  std::string seen;
  for (view.scroll = 0; view.scroll <= far.scroll_max; ++view.scroll) {
    expect_fits(draw(model, view, {}), {});
    seen += text_of(draw(model, view, {}));
  }
  for (int port = 50001; port <= 50030; ++port)
    EXPECT_TRUE(seen.contains(std::to_string(port))) << port;
  EXPECT_TRUE(seen.contains(" 0 more lines, ")) << "the end is reached";
  std::string const end = text_of(draw(model, view, {}));
  view.scroll = 10'000;
  EXPECT_EQ(text_of(draw(model, view, {})), end) << "no further than to the end";
  EXPECT_EQ(reach(model, view, {.columns = 80, .rows = 60}).scroll_max, 0U);
  EXPECT_EQ(reach(model, view, {.columns = 1, .rows = 1}).scroll_max, 0U);
}

TEST(DashboardView, SaysThatAetherIsGoneAndKeepsWhatItKnew) {
  DashboardModel model = model_of({answering("hello")});
  model.lose("nobody listens");
  std::vector<ScreenLine> const lines = draw(model, {}, {});
  EXPECT_EQ(lines[1].front().style, Style::Bad);
  EXPECT_TRUE(text_of(lines).contains("does not answer: nobody listens"));
  EXPECT_TRUE(text_of(lines).contains("hello"));
}

TEST(DashboardView, OfNothingSaysSo) {
  EXPECT_TRUE(text_of(draw(model_of({}), {}, {})).contains("nothing runs"));
  DashboardView const view{.filter = "zzz"};
  EXPECT_TRUE(text_of(draw(model_of({answering("a")}), view, {})).contains("nothing has that"));
}

TEST(Sparkline, IsAsWideAsAskedAndHighWhereItWasSlow) {
  std::deque<std::optional<Duration>> const values{milliseconds(1), std::nullopt, milliseconds(8),
                                                   milliseconds(4)};
  EXPECT_EQ(sparkline(values, 6, Charset::Unicode), "  ▂ █▅");
  EXPECT_EQ(sparkline(values, 6, Charset::Ascii), "  : @+");
  EXPECT_EQ(sparkline(values, 2, Charset::Ascii), "@+") << "the newest";
  EXPECT_EQ(sparkline({}, 3, Charset::Ascii), "   ");
}

TEST(ScreenText, IsCutBetweenCharacters) {
  EXPECT_EQ(cut("aé▅z", 3), "aé▅");
  EXPECT_EQ(fit("é", 3), "é  ");
  EXPECT_EQ(fit("12", 4, Align::Right), "  12");
  EXPECT_EQ(plain_ascii("a\x1b[2Jé\n"), "a?[2J??");
  EXPECT_EQ(wrapped("one two three", 8), (std::vector<std::string>{"one two", "three"}));
  EXPECT_EQ(wrapped("abcdefgh", 3), (std::vector<std::string>{"abc", "def", "gh"}));
}

}  // namespace
}  // namespace aether::cli
