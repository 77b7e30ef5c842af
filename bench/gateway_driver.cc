// SPDX-License-Identifier: Apache-2.0
// gateway-driver TRIGGER-PORT HANDLER-PORT: the gateway alone before one handler that runs already,
// for bench/gateway.py. Ends with its stdin.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include <fmt/core.h>

#include "async/loop.h"
#include "async/wait_fd.h"
#include "functions/gateway.h"

namespace {

using namespace aether;

/// There is one instance, and it stays.
class Deaf final : public functions::Demand {
 public:
  void wanted(std::string_view /*function*/, std::uint32_t /*waiting*/) override {}
  void busy(std::string_view /*function*/, InstanceId /*instance*/,
            std::uint32_t /*in_flight*/) override {}
  void timed_out(std::string_view /*function*/, InstanceId /*instance*/) override {}
  void unreachable(std::string_view /*function*/, InstanceId /*instance*/,
                   std::string why) override {
    fmt::print(stderr, "gateway-driver: {}\n", why);
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: gateway-driver TRIGGER-PORT HANDLER-PORT\n");
    return 2;
  }
  SystemClock const clock;
  async::Loop loop(clock);
  Deaf demand;
  functions::Gateway gateway(loop.executor(), clock, demand);
  Status const opened =
      gateway.open({.function = "bench",
                    .trigger_port = static_cast<std::uint16_t>(std::stoi(argv[1])),
                    .concurrency = 0,
                    .max_inflight = 100'000});
  if (!opened) {
    fmt::print(stderr, "gateway-driver: {}\n", opened.error().describe());
    return 1;
  }
  gateway.add("bench", {.instance = {1}, .port = static_cast<std::uint16_t>(std::stoi(argv[2]))});
  loop.run_task(async::readable(STDIN_FILENO));
  loop.run_task(gateway.stop(std::chrono::seconds(1)));
  return 0;
}
