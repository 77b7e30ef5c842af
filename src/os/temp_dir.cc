// SPDX-License-Identifier: Apache-2.0
#include "os/temp_dir.h"

#include <stdlib.h>

#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "base/log.h"

namespace aether::os {

Result<TempDir> TempDir::create(std::string_view prefix, std::string parent) {
  if (parent.empty()) {
    char const* given = ::getenv("TMPDIR");
    parent = given != nullptr && *given != '\0' ? given : "/tmp";
  }
  std::string path = fmt::format("{}/{}.XXXXXX", parent, prefix);
  if (::mkdtemp(path.data()) == nullptr) return fail(system_error("make a folder in", parent));
  return TempDir(std::move(path));
}

TempDir& TempDir::operator=(TempDir&& other) noexcept {
  std::swap(path_, other.path_);
  return *this;
}

TempDir::~TempDir() {
  if (path_.empty()) return;
  std::error_code ec;
  std::filesystem::remove_all(path_, ec);
  if (ec) log::warn("the folder {} could not be removed: {}", path_, ec.message());
}

std::string TempDir::file(std::string_view name) const {
  return fmt::format("{}/{}", path_, name);
}

}  // namespace aether::os
