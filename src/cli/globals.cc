// SPDX-License-Identifier: Apache-2.0
#include "cli/globals.h"

#include <unistd.h>

namespace aether::cli {

std::vector<std::string> Globals::default_files() const {
  if (program == "aeterna") return {"aeterna.yaml", "aether.yaml"};
  if (program == "aetheris") return {"aetheris.yaml", "aether.yaml"};
  return {"aether.yaml", "aetherless.yaml", "aeterna.yaml"};
}

std::string Globals::config_file() const {
  if (config) return *config;
  std::vector<std::string> const files = default_files();
  for (std::string const& file : files) {
    if (::access(file.c_str(), F_OK) == 0) return file;
  }
  return files.front();
}

std::string_view version() {
  return AETHER_VERSION;
}

}  // namespace aether::cli
