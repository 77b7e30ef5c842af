// SPDX-License-Identifier: Apache-2.0
#include "cli/dashboard_model.h"

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "cli/testing.h"

namespace aether::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::answering;
using testing::serving;
using testing::snapshot_of;

constexpr std::size_t kPage = 10;

/// A model that looked at these functions, and the keys of a person before it.
struct Desk {
  DashboardModel model;
  DashboardView view;
  Instant now{seconds(100)};
  Reach reach{.page_rows = kPage};

  void look(std::vector<functions::FunctionStatus> const& functions,
            std::vector<relay::ServiceStatus> const& services = {}) {
    model.take(snapshot_of(functions, services), now);
    now += seconds(2);
  }
  DashboardCommand key(Key key) { return press(view, model, {key}, reach); }
  DashboardCommand type(std::string_view text) {
    DashboardCommand last;
    for (char const c : text) last = press(view, model, {Key::Character, c}, reach);
    return last;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (StatsRow const* row : visible_rows(model, view)) all.push_back(row->name);
    return all;
  }
};

using Names = std::vector<std::string>;
using What = DashboardCommand::What;

TEST(DashboardModel, TellsRequestsAndErrorsASecond) {
  Desk desk;
  functions::FunctionStatus function = answering("hello");
  desk.look({function});
  EXPECT_EQ(desk.model.live(desk.model.snapshot().rows[0]).requests_per_second, 0);
  function.requests.requests += 50;
  function.requests.by_status[500] += 4;
  desk.look({function});
  LiveNumbers const& live = desk.model.live(desk.model.snapshot().rows[0]);
  EXPECT_DOUBLE_EQ(live.requests_per_second, 25);
  EXPECT_DOUBLE_EQ(live.errors_per_second, 2);
}

TEST(DashboardModel, OfAnAetherThatWasStartedAgainCountsFromZero) {
  Desk desk;
  functions::FunctionStatus function = answering("hello");
  function.requests.requests = 1000;
  desk.look({function});
  function.requests.requests = 10;
  desk.look({function});
  EXPECT_DOUBLE_EQ(desk.model.live(desk.model.snapshot().rows[0]).requests_per_second, 5);
}

TEST(DashboardModel, HasTheMedianOfWhatCameBetweenTwoLooks) {
  Desk desk;
  functions::FunctionStatus function = answering("hello");
  desk.look({function});
  function.requests.latency.add(milliseconds(100));
  desk.look({function});
  desk.look({function});
  LiveNumbers const& live = desk.model.live(desk.model.snapshot().rows[0]);
  ASSERT_EQ(live.medians.size(), 2U);
  ASSERT_TRUE(live.medians[0]);
  EXPECT_GE(*live.medians[0], milliseconds(100)) << "what came before does not count";
  EXPECT_LT(*live.medians[0], milliseconds(151));
  EXPECT_FALSE(live.medians[1]) << "none came";
  EXPECT_EQ(live.p50, live.medians[0]);
}

TEST(DashboardModel, KeepsAMinuteAndNoMore) {
  Desk desk;
  functions::FunctionStatus function = answering("hello");
  for (std::size_t i = 0; i < kLooksKept + 10; ++i) desk.look({function});
  LiveNumbers const& live = desk.model.live(desk.model.snapshot().rows[0]);
  EXPECT_EQ(live.medians.size(), kLooksKept);
  EXPECT_FALSE(live.p99) << "no request came in that minute";
}

TEST(DashboardModel, ForgetsWhoIsGoneAndBeginsAnewWithWhoComes) {
  Desk desk;
  functions::FunctionStatus function = answering("hello");
  desk.look({function});
  function.requests.requests += 50;
  desk.look({function});
  desk.look({});
  desk.look({function});
  EXPECT_EQ(desk.model.live(desk.model.snapshot().rows[0]).requests_per_second, 0);
}

TEST(DashboardModel, AddsTheStartsOfAllFunctions) {
  Desk desk;
  desk.look({answering("a"), answering("b")}, {serving("web")});
  auto const clone = static_cast<std::size_t>(functions::StartTier::Clone);
  EXPECT_EQ(desk.model.all_starts()[clone].count, 4U);
  EXPECT_EQ(desk.model.all_starts()[clone].took.total(), 4U);
}

TEST(DashboardKeys, FilterByWhatIsTyped) {
  Desk desk;
  desk.look({answering("hello"), answering("help-desk"), answering("other")});
  desk.type("/HEL");
  EXPECT_TRUE(desk.view.typing_filter);
  EXPECT_EQ(desk.names(), (Names{"hello", "help-desk"}));
  desk.type("lq");
  EXPECT_EQ(desk.names(), Names{}) << "q is a letter here";
  desk.key(Key::Backspace);
  desk.key(Key::Enter);
  EXPECT_FALSE(desk.view.typing_filter);
  EXPECT_EQ(desk.names(), Names{"hello"});
  desk.key(Key::Escape);
  EXPECT_EQ(desk.names().size(), 3U);
}

TEST(DashboardKeys, SortByEachColumnInTurn) {
  Desk desk;
  functions::FunctionStatus busy = answering("z-busy");
  functions::FunctionStatus large = answering("large");
  functions::FunctionStatus many = answering("many");
  desk.look({busy, large, many}, {serving("a-web")});
  busy.requests.requests += 100;
  large.instances[1].memory_bytes = 1'000'000;
  many.instances.push_back(many.instances.back());
  large.requests.latency.add(seconds(5));
  desk.look({busy, large, many}, {serving("a-web")});
  EXPECT_EQ(desk.names(), (Names{"large", "many", "z-busy", "a-web"})) << "functions first";
  for (std::string const first : {"z-busy", "large", "large", "many", "large"}) {
    desk.type("s");
    EXPECT_EQ(desk.names().front(), first) << sort_name(desk.view.sort);
  }
  EXPECT_EQ(desk.view.sort, SortBy::Name);
}

TEST(DashboardKeys, MoveTheSelectionAndStopAtTheEnds) {
  Desk desk;
  std::vector<functions::FunctionStatus> all;
  for (char c = 'a'; c < 'z'; ++c) all.push_back(answering(std::string(1, c)));
  desk.look(all);
  auto const selected = [&] { return desk.view.selected; };
  desk.key(Key::Up);
  EXPECT_EQ(selected(), "a");
  desk.key(Key::Down);
  EXPECT_EQ(selected(), "b");
  desk.key(Key::PageDown);
  EXPECT_EQ(selected(), "l");
  desk.key(Key::PageUp);
  EXPECT_EQ(selected(), "b");
  desk.key(Key::End);
  EXPECT_EQ(selected(), "y");
  desk.key(Key::Down);
  EXPECT_EQ(selected(), "y");
  desk.key(Key::Home);
  EXPECT_EQ(selected(), "a");
}

TEST(DashboardKeys, KeepTheSelectedRowWhenTheOrderChanges) {
  Desk desk;
  functions::FunctionStatus b = answering("b");
  desk.look({answering("a"), b});
  desk.key(Key::End);
  b.requests.requests += 10;
  desk.look({answering("a"), b});
  desk.type("s");
  EXPECT_EQ(desk.names().front(), "b");
  EXPECT_EQ(selected_index(visible_rows(desk.model, desk.view), desk.view), 0U);
}

TEST(DashboardKeys, InspectAndComeBack) {
  Desk desk;
  desk.look({answering("hello")});
  desk.key(Key::Enter);
  EXPECT_EQ(desk.view.page, DashboardView::Page::Inspect);
  desk.key(Key::Escape);
  EXPECT_EQ(desk.view.page, DashboardView::Page::List);
  desk.type("?");
  EXPECT_EQ(desk.view.page, DashboardView::Page::Help);
  desk.type("?");
  EXPECT_EQ(desk.view.page, DashboardView::Page::List);
}

TEST(DashboardKeys, ScrollWhereThereIsNoListAndComeBackToItsTop) {
  Desk desk;
  desk.look({answering("a"), answering("b")});
  desk.key(Key::Enter);
  desk.reach.scroll_max = 12;
  auto const after = [&](Key key) {
    desk.key(key);
    return desk.view.scroll;
  };
  EXPECT_EQ(after(Key::Up), 0U);
  EXPECT_EQ(after(Key::Down), 1U);
  EXPECT_EQ(after(Key::PageDown), 1 + kPage);
  EXPECT_EQ(after(Key::End), 12U);
  EXPECT_EQ(after(Key::Down), 12U);
  desk.reach.scroll_max = 3;  // The terminal was made higher.
  EXPECT_EQ(after(Key::Up), 2U);
  EXPECT_EQ(after(Key::Home), 0U);
  EXPECT_EQ(desk.view.selected, "a") << "the row that is looked at stays";
  desk.key(Key::End);
  desk.key(Key::Escape);
  desk.key(Key::Enter);
  EXPECT_EQ(desk.view.scroll, 0U);
}

TEST(DashboardKeys, RestartOnlyWhatIsConfirmed) {
  Desk desk;
  desk.look({answering("hello")}, {serving("web")});
  desk.key(Key::End);
  EXPECT_EQ(desk.type("r").what, What::Nothing);
  EXPECT_TRUE(desk.view.asking_restart);
  EXPECT_EQ(desk.type("n").what, What::Nothing);
  EXPECT_FALSE(desk.view.asking_restart);
  DashboardCommand const command = desk.type("ry");
  EXPECT_EQ(command.what, What::Restart);
  EXPECT_EQ(command.kind, StatsRow::Kind::Service);
  EXPECT_EQ(command.name, "web");
}

TEST(DashboardKeys, OnAnEmptyListDoNothingButQuit) {
  Desk desk;
  desk.look({});
  for (Key const key : {Key::Up, Key::Down, Key::PageUp, Key::PageDown, Key::Home, Key::End,
                        Key::Enter, Key::Escape, Key::Backspace}) {
    EXPECT_EQ(desk.key(key).what, What::Nothing);
  }
  desk.type("r");
  EXPECT_FALSE(desk.view.asking_restart);
  EXPECT_EQ(desk.type("q").what, What::Quit);
}

}  // namespace
}  // namespace aether::cli
