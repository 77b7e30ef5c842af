// SPDX-License-Identifier: Apache-2.0
#include "os/turned_clock.h"

#include <cstdlib>
#include <fstream>
#include <string_view>

#include "base/log.h"

namespace aether::os {
namespace {

/// Nothing, if the text is no duration with an optional sign.
Result<Duration> parse_turn(std::string_view text) {
  bool const is_back = text.starts_with('-');
  if (is_back || text.starts_with('+')) text.remove_prefix(1);
  TRY_ASSIGN(Duration const by, parse_duration(text));
  return is_back ? -by : by;
}

}  // namespace

Duration FileTurnedClock::turned() const {
  std::ifstream file(file_);
  std::string word;
  if (!file) {
    last_ = 0;
  } else if (file >> word) {
    if (auto const by = parse_turn(word)) last_ = by->count();
  }
  return Duration(last_.load());
}

WallTime FileTurnedClock::wall() const {
  return system_.wall() + turned();
}

std::unique_ptr<Clock> clock_of_environment() {
  char const* const file = std::getenv("AETHER_CLOCK");
  if (file == nullptr || *file == '\0') return std::make_unique<SystemClock>();
  auto clock = std::make_unique<FileTurnedClock>(file);
  log::warn("the wall clock is turned by what {} says, now {} (AETHER_CLOCK): for tests only", file,
            format_duration(clock->turned()));
  return clock;
}

}  // namespace aether::os
