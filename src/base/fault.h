// SPDX-License-Identifier: Apache-2.0
// Named fault points: places where a test may make the process die, stop, or see an I/O error.
// AETHER_FAULT=point:n:kill|stop|eio acts at the n-th time (from 1) the point is passed; several
// are separated by commas. Without the variable a point costs one relaxed load.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"

namespace aether::fault {

/// Every point, from fault_points.def.
enum class Point : std::uint8_t {
#define AETHER_FAULT_POINT(name, text, meaning) name,
#include "base/fault_points.def"
#undef AETHER_FAULT_POINT
  Count_
};

struct PointInfo {
  std::string_view text;     ///< The name used in AETHER_FAULT.
  std::string_view meaning;  ///< When it is passed.
};
[[nodiscard]] std::span<PointInfo const> points();

/// Reads AETHER_FAULT's value. An unknown point or action is an error that lists the known ones.
[[nodiscard]] Status configure(std::string_view value);
/// Passes a point: kills or stops this process, or returns the EIO fault, when it was asked to.
[[nodiscard]] Status pass(Point point);
/// How often a point was passed in this process while any fault was configured. For the test that
/// lists unhit points.
[[nodiscard]] std::uint64_t hits(Point point);

}  // namespace aether::fault
