// SPDX-License-Identifier: Apache-2.0
// The dashboard's layout: a model, a view and a size become lines. Pure; the shell only shows them.
#pragma once
#include <cstddef>
#include <vector>

#include "cli/dashboard_model.h"
#include "cli/screen_text.h"

namespace aether::cli {

struct Screen {
  std::size_t columns = 80;
  std::size_t rows = 24;
  Charset charset = Charset::Unicode;
};

/// Exactly `rows` lines, none wider than `columns`.
[[nodiscard]] std::vector<ScreenLine> draw(DashboardModel const& model, DashboardView const& view,
                                           Screen const& screen);
/// How many rows of the list such a screen shows.
[[nodiscard]] std::size_t list_rows(Screen const& screen);
/// How far the keys move on the page that is shown, on such a screen.
[[nodiscard]] Reach reach(DashboardModel const& model, DashboardView const& view,
                          Screen const& screen);

}  // namespace aether::cli
