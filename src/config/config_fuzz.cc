// SPDX-License-Identifier: Apache-2.0
// Any bytes as a configuration: no crash, no endless work, and an answer that holds together.
// Corpus: testdata/corpus and the seeds beside it.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/address.h"
#include "base/check.h"
#include "config/loader.h"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  using namespace aether;
  static config::Environment const environment{
      {"A", "1"}, {"EMPTY", ""}, {"LONG", "xxxxxxxxxxxxxxxx"}};
  std::string_view const text(reinterpret_cast<char const*>(data), size);
  auto const config = config::parse(text, "fuzz.yaml", environment);
  if (!config) {
    AETHER_CHECK(config.error().code() == ErrorCode::ConfigInvalid);
    AETHER_CHECK(config.error().message().starts_with("fuzz.yaml:"));
    return 0;
  }
  AETHER_CHECK(!config->services.empty() || !config->functions.empty());
  for (config::Service const& service : config->services) {
    AETHER_CHECK(!service.command.empty() && !service.command[0].empty());
    AETHER_CHECK(!service.name.empty() && service.name.size() <= 64);
    for (config::Listen const& listen : config::effective_listeners(service)) {
      AETHER_CHECK(parse_address(listen.address).has_value() && !listen.name.empty());
    }
  }
  for (config::Function const& function : config->functions) {
    AETHER_CHECK(function.trigger_port != 0 && function.memory_limit_mb >= 1);
    AETHER_CHECK(!function.id.empty() && !function.handler_path.empty());
  }
  AETHER_CHECK(!config::validation_summary(*config).empty());
  return 0;
}
