// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"

#include <errno.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <optional>
#include <string>

#include <fmt/format.h>

namespace aether::fault {
namespace {

enum class Action : std::uint8_t { None, Kill, Stop, Eio };

constexpr std::array kPoints{
#define AETHER_FAULT_POINT(name, text, meaning) PointInfo{text, meaning},
#include "base/fault_points.def"
#undef AETHER_FAULT_POINT
};

struct Armed {
  std::atomic<std::uint64_t> hits{0};
  std::uint64_t at = 0;  // Acts when hits becomes this; 0 is never.
  Action action = Action::None;
};

// The one global of the project: a fault must be reachable from any depth, and is for tests only.
// Rows are written by configure(), before the points are passed.
std::array<Armed, kPoints.size()> armed;
std::atomic<bool> configured{false};

std::size_t row(Point point) {
  return static_cast<std::size_t>(point);
}

std::string known_points() {
  std::string names;
  for (PointInfo const& point : kPoints) {
    names += names.empty() ? "" : ", ";
    names += point.text;
  }
  return names;
}

std::optional<Action> action_of(std::string_view word) {
  if (word == "kill") return Action::Kill;
  if (word == "stop") return Action::Stop;
  if (word == "eio") return Action::Eio;
  return std::nullopt;
}

Status arm(std::string_view entry) {
  std::size_t const first = entry.find(':');
  std::size_t const second = first == entry.npos ? entry.npos : entry.find(':', first + 1);
  if (second == entry.npos) {
    return fail(ErrorCode::UsageInvalid,
                fmt::format("AETHER_FAULT: \"{}\" is not point:n:action", entry));
  }
  std::string_view const name = entry.substr(0, first);
  std::string_view const count = entry.substr(first + 1, second - first - 1);
  std::string_view const word = entry.substr(second + 1);
  auto const point = std::ranges::find(kPoints, name, &PointInfo::text);
  if (point == kPoints.end()) {
    return fail(ErrorCode::UsageInvalid,
                fmt::format("AETHER_FAULT: no point \"{}\"; there are: {}", name, known_points()));
  }
  std::uint64_t at = 0;
  auto const [end, error] = std::from_chars(count.data(), count.data() + count.size(), at);
  if (error != std::errc() || end != count.data() + count.size() || at == 0) {
    return fail(ErrorCode::UsageInvalid,
                fmt::format("AETHER_FAULT: \"{}\" is not a count from 1", count));
  }
  std::optional<Action> const action = action_of(word);
  if (!action) {
    return fail(ErrorCode::UsageInvalid,
                fmt::format("AETHER_FAULT: no action \"{}\"; there are: kill, stop, eio", word));
  }
  Armed& target = armed.at(static_cast<std::size_t>(point - kPoints.begin()));
  target.at = at;
  target.action = *action;
  return {};
}

Status act(Point point, Action action) {
  switch (action) {
    case Action::None:
      break;
    case Action::Kill:
      ::raise(SIGKILL);
      break;
    case Action::Stop:
      ::raise(SIGSTOP);
      break;
    case Action::Eio:
      return fail(ErrorCode::SystemCall,
                  fmt::format("the fault point {} was told to fail by AETHER_FAULT",
                              kPoints.at(row(point)).text),
                  EIO);
  }
  return {};
}

}  // namespace

std::span<PointInfo const> points() {
  return kPoints;
}

Status configure(std::string_view value) {
  for (Armed& point : armed) {
    point.hits = 0;
    point.at = 0;
    point.action = Action::None;
  }
  configured = !value.empty();
  while (!value.empty()) {
    std::size_t const comma = std::min(value.find(','), value.size());
    TRY(arm(value.substr(0, comma)));
    value.remove_prefix(std::min(comma + 1, value.size()));
  }
  return {};
}

Status pass(Point point) {
  if (!configured.load(std::memory_order_relaxed)) [[likely]]
    return {};
  Armed& here = armed.at(row(point));
  std::uint64_t const count = here.hits.fetch_add(1) + 1;
  if (count != here.at) return {};
  return act(point, here.action);
}

std::uint64_t hits(Point point) {
  return armed.at(row(point)).hits;
}

}  // namespace aether::fault
