// SPDX-License-Identifier: Apache-2.0
// aether-load HOST:PORT [options]: HTTP requests at a fixed rate or as fast as they are answered,
// on new connections or on kept ones; or clients of event streams. Prints one JSON object: what
// became of each request, and how long the answers took.
#include <sched.h>
#include <signal.h>

#include <fmt/format.h>

#include "options.h"
#include "requests.h"
#include "streams.h"

namespace {

/// Real clients are on other machines: here the judge shall not wait for whom it judges.
void become_realtime() {
  sched_param const lowest{.sched_priority = 1};
  if (::sched_setscheduler(0, SCHED_FIFO, &lowest) != 0)
    fmt::print(stderr, "aether-load: no real-time priority; it competes with what it measures\n");
}

}  // namespace

int main(int argc, char** argv) {
  using namespace aether::load;
  ::signal(SIGTERM, [](int) { interrupted = 1; });
  ::signal(SIGINT, [](int) { interrupted = 1; });
  Options options = parse({argv + 1, argv + argc});
  if (options.realtime) become_realtime();
  if (options.stream != Stream::None) return Streams(std::move(options)).run();
  return Requests(std::move(options)).run();
}
