// SPDX-License-Identifier: Apache-2.0
// What a worker says is refused or read; nothing of it ends Aether.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/json.h"
#include "jobs/code_driver.h"
#include "jobs/work_message.h"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  using namespace aether;
  auto const parsed = parse_json({reinterpret_cast<char const*>(data), size}, "fuzz");
  if (!parsed) return 0;
  auto const read_job = [](boost::json::value const&) -> Result<jobs::RunSpec> {
    return jobs::RunSpec{};
  };
  auto messages = jobs::read_work_messages(*parsed, read_job);
  if (!messages) return 0;
  jobs::RunState state;
  jobs::CodeDriver driver;
  for (std::size_t i = 0; i < messages->size(); ++i)
    driver.ask({.frame = 1, .index = i}, std::move((*messages)[i]));
  (void)driver.decide(state);
  (void)driver.answers(state);
  return 0;
}
