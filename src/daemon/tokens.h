// SPDX-License-Identifier: Apache-2.0
// Tokens: what the configuration says about who may use the API, read into digests.
#pragma once
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "api/access.h"
#include "base/result.h"
#include "config/config.h"

namespace aether::daemon {

/// Below this a token can be guessed; `aether token` makes 43 characters.
inline constexpr std::size_t kTokenBytesMin = 16;
/// More than any kind of token has, and far below the limit of a request's headers.
inline constexpr std::size_t kTokenBytesMax = 4096;

/// The one word in a file that nobody else may read or change; ConfigInvalid with the cure.
[[nodiscard]] Result<std::string> read_token_file(std::string const& path);

class Tokens {
 public:
  /// Reads every token named in the configuration. ConfigInvalid, naming each that cannot be used
  /// and the cure: a file that others may read, an empty variable, a token that is too short.
  /// Variables are taken out of the environment when they are first read, so that no service
  /// inherits them; later calls remember their digests.
  [[nodiscard]] Result<std::vector<api::KnownToken>> load(config::Config const& config);

 private:
  std::map<std::string, api::Digest> of_variables_;
};

}  // namespace aether::daemon
