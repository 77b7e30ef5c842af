// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace aether::detail {

void check_failed(char const* condition, char const* file, int line, std::string_view context) {
  std::fputs(fmt::format("{}:{}: check failed: {} {}\n", file, line, condition, context).c_str(),
             stderr);
  std::abort();
}

}  // namespace aether::detail
