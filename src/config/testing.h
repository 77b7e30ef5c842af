// SPDX-License-Identifier: Apache-2.0
// For this room's tests only: configurations from text, mistakes as text.
#pragma once
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

#include "base/check.h"
#include "config/loader.h"

namespace aether::config::testing {

inline Environment const kEnvironment{{"A", "1"}, {"EMPTY", ""}, {"HOST", "127.0.0.1"}};

inline std::string read_testdata(std::string const& name) {
  std::ifstream file(std::string(AETHER_TESTDATA) + "/" + name);
  AETHER_CHECK(file.good(), "{} is missing", name);
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

/// The Config of a text without mistakes.
inline Config good(std::string_view text) {
  auto config = parse(text, "test.yaml", kEnvironment);
  AETHER_CHECK(config.has_value(), "{}", config ? std::string() : config.error().message());
  return std::move(*config);
}

/// The message of a text with mistakes, "" if it has none.
inline std::string mistakes(std::string_view text) {
  auto const config = parse(text, "test.yaml", kEnvironment);
  return config ? std::string() : config.error().message();
}

/// A service with the keys of `lines`, each of which begins with two blanks.
inline Config service_with(std::string const& lines) {
  return good("service:\n  command: [\"true\"]\n" + lines);
}

}  // namespace aether::config::testing
