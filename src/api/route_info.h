// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>

#include "api/access.h"

namespace aether::api {

/// One line of the table of routes; {name} stands for a path segment.
struct RouteInfo {
  std::string_view method;
  std::string_view path;
  std::string_view summary;
  Right right;
};

}  // namespace aether::api
