// SPDX-License-Identifier: Apache-2.0
// What holds for every command.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace aether::cli {

/// Exit codes of every command.
inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;

enum class Output : unsigned char { Text, Json };

struct Globals {
  std::string program = "aether";  ///< The name it was called by.
  std::optional<std::string> config;
  bool verbose = false;
  Output output = Output::Text;
  /// "http://host:port" of an Aether elsewhere: --url or AETHER_URL. Absent: the control socket.
  std::optional<std::string> url;
  std::optional<std::string> token_file;  ///< --token-file; else AETHER_TOKEN is the token.

  /// Files looked for when -c is not given, in order; they depend on the name.
  [[nodiscard]] std::vector<std::string> default_files() const;
  /// -c, or the first default file that exists, or the first default.
  [[nodiscard]] std::string config_file() const;
};

[[nodiscard]] std::string_view version();

}  // namespace aether::cli
