// SPDX-License-Identifier: Apache-2.0
// The tool `http`: one request to anybody.
//
// args {method = GET, url, headers {}, body (a string, or a value that is sent as JSON),
//       expect [statuses that are a yes], max_bytes, lookup {method, url, headers, found}}
// result {status, headers {lower case}, body (a value if its type says JSON, else text),
//         truncated?, retry_after_ms?}
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "tools/tool.h"

namespace aether::tools {

struct HttpOptions {
  /// Who may be called: "api.example.com", "*.example.com", "127.0.0.1:8080". Empty: everybody.
  std::vector<std::string> hosts;
  std::string ca_file;  ///< PEM of the authorities for https; empty: the system's.
};

[[nodiscard]] std::unique_ptr<Tool> make_http_tool(HttpOptions options);

}  // namespace aether::tools
