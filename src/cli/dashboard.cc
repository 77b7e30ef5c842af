// SPDX-License-Identifier: Apache-2.0
// The one file that sees ncurses: keys in, lines out. What they mean is decided elsewhere.
#include "cli/dashboard.h"

#include <langinfo.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "base/error.h"
#include "base/time.h"
#include "cli/dashboard_model.h"
#include "cli/dashboard_view.h"
#include "cli/stats_snapshot.h"
#include "cli/terminal.h"
#include "http/url.h"

// Last, and functions only: its macros have names like timeout and move.
#define NCURSES_NOMACROS 1
#include <curses.h>

namespace aether::cli {
namespace {

namespace json = boost::json;

/// Between two looks: a bar of the latency is one of these.
constexpr Duration kLookEvery = std::chrono::seconds(1);
/// An Aether that does not answer within this is shown as lost, and asked again.
constexpr Duration kLookLimit = std::chrono::seconds(2);
/// How long a key may be late that the terminal sends as several bytes.
constexpr int kEscapeDelayMs = 25;

enum ColourPair : short { kGreen = 1, kRed = 2 };

/// The terminal, as ncurses has it: one a process. Gives it back at the end.
class CursesScreen {
 public:
  /// UsageInvalid if this is no terminal, or one that nobody knows.
  static Result<CursesScreen> open() {
    if (!is_terminal(stdin) || !is_terminal(stdout)) {
      return fail(ErrorCode::UsageInvalid,
                  "stats --dashboard needs a terminal; `aether stats`, --watch and -o json do not");
    }
    std::setlocale(LC_CTYPE, "");
    char const* const term = std::getenv("TERM");
    SCREEN* const screen = ::newterm(nullptr, stdout, stdin);
    if (screen == nullptr) {
      return fail(ErrorCode::UsageInvalid,
                  fmt::format("the kind of terminal \"{}\" is not known: set TERM, for example to "
                              "xterm or vt100",
                              term == nullptr ? "" : term));
    }
    return CursesScreen(screen);
  }
  CursesScreen(CursesScreen&& other) noexcept
      : screen_(std::exchange(other.screen_, nullptr)), coloured_(other.coloured_) {}
  CursesScreen& operator=(CursesScreen&&) = delete;
  ~CursesScreen() {
    if (screen_ == nullptr) return;
    ::endwin();
    ::delscreen(screen_);
  }

  [[nodiscard]] static Screen size() {
    bool const unicode = std::string_view(::nl_langinfo(CODESET)) == "UTF-8";
    return {.columns = static_cast<std::size_t>(std::max(0, getmaxx(stdscr))),
            .rows = static_cast<std::size_t>(std::max(0, getmaxy(stdscr))),
            .charset = unicode ? Charset::Unicode : Charset::Ascii};
  }

  void show(std::vector<ScreenLine> const& lines) const {
    ::erase();
    int y = 0;
    for (ScreenLine const& one : lines) {
      ::move(y++, 0);
      for (Span const& span : one) {
        ::attrset(attributes(span.style));
        ::addstr(span.text.c_str());
      }
    }
    ::refresh();
  }

  /// A key of ncurses, or ERR if none came in time.
  [[nodiscard]] static int key_within(Duration limit) {
    auto const ms = std::chrono::duration_cast<std::chrono::milliseconds>(limit).count();
    ::timeout(static_cast<int>(std::max<std::int64_t>(0, ms)));
    return ::getch();
  }

 private:
  explicit CursesScreen(SCREEN* screen) : screen_(screen) {
    ::cbreak();
    ::noecho();
    ::keypad(stdscr, TRUE);
    ::set_escdelay(kEscapeDelayMs);
    ::curs_set(0);
    char const* const no_colour = std::getenv("NO_COLOR");
    bool const forbidden = no_colour != nullptr && *no_colour != '\0';
    coloured_ = !forbidden && ::has_colors() && ::start_color() == OK;
    if (!coloured_) return;
    ::use_default_colors();
    ::init_pair(kGreen, COLOR_GREEN, -1);
    ::init_pair(kRed, COLOR_RED, -1);
  }

  [[nodiscard]] int attributes(Style style) const {
    switch (style) {
      case Style::Title:
      case Style::Selected:
        return static_cast<int>(A_REVERSE);
      case Style::Heading:
        return static_cast<int>(A_BOLD);
      case Style::Good:
        return static_cast<int>(coloured_ ? COLOR_PAIR(kGreen) : A_NORMAL);
      case Style::Bad:
        return static_cast<int>(coloured_ ? COLOR_PAIR(kRed) | A_BOLD : A_BOLD);
      case Style::Dim:
        return static_cast<int>(A_DIM);
      case Style::Plain:
        break;
    }
    return static_cast<int>(A_NORMAL);
  }

  SCREEN* screen_;
  bool coloured_ = false;
};

/// Nothing for keys that have no meaning here.
std::optional<KeyPress> key_press(int key) {
  switch (key) {
    case KEY_UP:
      return KeyPress{Key::Up};
    case KEY_DOWN:
      return KeyPress{Key::Down};
    case KEY_PPAGE:
      return KeyPress{Key::PageUp};
    case KEY_NPAGE:
      return KeyPress{Key::PageDown};
    case KEY_HOME:
      return KeyPress{Key::Home};
    case KEY_END:
      return KeyPress{Key::End};
    case KEY_ENTER:
    case '\n':
    case '\r':
      return KeyPress{Key::Enter};
    case '\x1b':
      return KeyPress{Key::Escape};
    case KEY_BACKSPACE:
    case '\b':
    case '\x7f':
      return KeyPress{Key::Backspace};
    default:
      break;
  }
  bool const character = key >= ' ' && key < '\x7f';
  if (!character) return std::nullopt;
  return KeyPress{Key::Character, static_cast<char>(key)};
}

/// What became of a restart, in a line.
std::string told(std::string const& name, Result<json::value> const& answer) {
  if (!answer) return fmt::format("{}: {}", name, answer.error().message());
  json::object const& body = answer->as_object();
  json::value const& one = body.at(body.contains("deploys") ? "deploys" : "swaps").at(0);
  if (one.at("verdict").as_string() == "succeeded") {
    return fmt::format("{}: revision {} serves", name,
                       one.at("revision").to_number<std::uint64_t>());
  }
  return fmt::format("{}: {}", name, one.at("why").as_string().c_str());
}

/// Takes as long as the verdict does, on a thread of its own.
std::future<std::string> restart(ControlClient const& client, DashboardCommand const& command) {
  bool const function = command.kind == StatsRow::Kind::Function;
  std::string path = fmt::format("/v1/{}/{}/reload?wait=true", function ? "functions" : "services",
                                 http::percent_encode(command.name));
  return std::async(std::launch::async, [client, path = std::move(path), name = command.name] {
    return told(name, client.call("POST", path, {}, kVerdictLimit));
  });
}

class Dashboard {
 public:
  Dashboard(ControlClient const& client, Clock const& clock) : client_(client), clock_(clock) {}

  void look() {
    next_look_ = clock_.now() + kLookEvery;
    auto const status = client_.call("GET", "/v1/status", {}, kLookLimit);
    if (status) {
      model_.take(read_snapshot(*status), clock_.now());
    } else {
      model_.lose(status.error().message());
    }
  }

  void run(CursesScreen const& screen) {
    for (;;) {
      take_answer();
      screen.show(draw(model_, view_, CursesScreen::size()));
      int const key = CursesScreen::key_within(next_look_ - clock_.now());
      if (clock_.now() >= next_look_) look();
      auto const pressed = key_press(key);
      if (!pressed) continue;
      DashboardCommand const command =
          press(view_, model_, *pressed, reach(model_, view_, CursesScreen::size()));
      if (command.what == DashboardCommand::What::Quit) return;
      if (command.what == DashboardCommand::What::Restart) begin_restart(command);
    }
  }

  /// A restart that was begun is not left half asked for.
  void finish() {
    if (!restarting_.valid()) return;
    fmt::print("waiting for the verdict of the restart\n");
    std::fflush(stdout);
    fmt::print("{}\n", restarting_.get());
  }

 private:
  void begin_restart(DashboardCommand const& command) {
    if (restarting_.valid()) {
      view_.message = "a restart is under way already";
      return;
    }
    restarting_ = restart(client_, command);
    view_.message = fmt::format("{}: restarting", command.name);
  }

  void take_answer() {
    bool const there =
        restarting_.valid() && restarting_.wait_for(Duration::zero()) == std::future_status::ready;
    if (there) view_.message = restarting_.get();
  }

  ControlClient const& client_;
  Clock const& clock_;
  DashboardModel model_;
  DashboardView view_;
  Instant next_look_{};
  std::future<std::string> restarting_;
};

}  // namespace

Result<int> run_dashboard(ControlClient const& client) {
  SystemClock const clock;
  Dashboard dashboard(client, clock);
  {
    TRY_ASSIGN(CursesScreen const screen, CursesScreen::open());
    dashboard.look();
    dashboard.run(screen);
  }
  dashboard.finish();
  return kDone;
}

}  // namespace aether::cli
