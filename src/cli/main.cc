// SPDX-License-Identifier: Apache-2.0
// aether, aeterna, aetheris: one program. The commands are in cli/commands.h.
#include "cli/command_line.h"
#include "os/unique_fd.h"

int main(int argc, char** argv) {
  // Whoever starts us may have closed 0, 1 or 2: no listener may get one of these numbers.
  if (!aether::os::fill_standard_fds()) return 1;
  return aether::cli::run(argc, argv);
}
