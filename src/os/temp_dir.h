// SPDX-License-Identifier: Apache-2.0
// TempDir: a folder of our own that goes away with its owner.
#pragma once
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace aether::os {

/// A new folder, mode 0700, removed with all it contains on destruction. Move only.
class TempDir {
 public:
  /// `<parent>/<prefix>.XXXXXX`; parent is $TMPDIR or /tmp if empty.
  static Result<TempDir> create(std::string_view prefix = "aether", std::string parent = {});

  TempDir(TempDir&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TempDir& operator=(TempDir&& other) noexcept;
  ~TempDir();

  [[nodiscard]] std::string const& path() const { return path_; }
  /// `<path>/<name>`.
  [[nodiscard]] std::string file(std::string_view name) const;
  /// Keeps the folder: the caller removes it.
  std::string release() && { return std::exchange(path_, {}); }

 private:
  explicit TempDir(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace aether::os
