// SPDX-License-Identifier: Apache-2.0
// Reads HTTP/1 answers as far as a load client must: whole or not, their headers, their body.
#pragma once
#include <string_view>

namespace aether::load {

/// By Content-Length only: the servers of the tests all send it.
[[nodiscard]] bool is_complete(std::string_view answer);
/// Empty if it is not there.
[[nodiscard]] std::string_view header(std::string_view answer, std::string_view name);
[[nodiscard]] std::string_view body(std::string_view answer);
[[nodiscard]] bool is_success(std::string_view answer);
[[nodiscard]] bool wants_close(std::string_view answer);

}  // namespace aether::load
