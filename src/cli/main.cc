// SPDX-License-Identifier: Apache-2.0
// aether, aeterna, aetheris: one program. The commands are in cli/commands.h.
#include "cli/command_line.h"

int main(int argc, char** argv) {
  return aether::cli::run(argc, argv);
}
