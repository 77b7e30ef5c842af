// SPDX-License-Identifier: Apache-2.0
#include "config/suggest.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include <fmt/format.h>

namespace aether::config {
namespace {

// No word of the schema is longer; what is written may be.
constexpr std::size_t kWordMax = 64;

// In lower case and without what people mix up: soak-time, soakTime and soak_time are one.
std::string essence(std::string_view word) {
  std::string result;
  for (char const c : word) {
    if (c == '-' || c == '_' || c == ' ') continue;
    result += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return result;
}

// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> cost(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) cost[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) cost[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      std::size_t const change = cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, change});
      bool const swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

}  // namespace

std::optional<std::string_view> nearest(std::string_view written,
                                        std::span<std::string_view const> known) {
  if (written.empty() || written.size() > kWordMax) return std::nullopt;
  std::string const wanted = essence(written);
  std::optional<std::string_view> best;
  std::size_t best_distance = kWordMax;
  for (std::string_view const candidate : known) {
    std::string const word = essence(candidate);
    std::size_t off = distance(wanted, word);
    bool const begins =
        wanted.size() >= 3 && (word.starts_with(wanted) || wanted.starts_with(word));
    // A beginning counts as a near miss, but a true near miss is nearer.
    if (begins) off = std::min<std::size_t>(off, 2);
    std::size_t const allowed = begins ? 2 : std::max<std::size_t>(1, word.size() / 3);
    if (off <= allowed && off < best_distance) {
      best = candidate;
      best_distance = off;
    }
  }
  return best;
}

std::string did_you_mean(std::string_view written, std::span<std::string_view const> known) {
  auto const meant = nearest(written, known);
  return meant ? fmt::format("; did you mean \"{}\"?", *meant) : std::string();
}

}  // namespace aether::config
