// SPDX-License-Identifier: Apache-2.0
// The tool `function`: one request to one of Aether's own functions.
//
// args {function, method = POST, path = "/", headers {}, body, max_bytes}; result as of `http`.
#pragma once
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/result.h"
#include "tools/tool.h"

namespace aether::tools {

/// Where functions are called. Used on the jobs' thread: the daemon's answers under a lock.
class FunctionPorts {
 public:
  virtual ~FunctionPorts() = default;
  /// The trigger port on 127.0.0.1; FunctionUnknown.
  [[nodiscard]] virtual Result<std::uint16_t> port_of(std::string_view function) const = 0;
};

/// @param ports Borrowed; must outlive the tool.
[[nodiscard]] std::unique_ptr<Tool> make_function_tool(FunctionPorts const& ports);

}  // namespace aether::tools
