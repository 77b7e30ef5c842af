// SPDX-License-Identifier: Apache-2.0
// The manifest of an image: what it was made of and for, what is to be given to its process when it
// is restored, and the size and checksum of each of its files. Written last: an image without a
// whole manifest is none. Text, one fact a line, the last one a checksum of those before it. Pure.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "clone/image_patch.h"

namespace aether::clone {

/// All that must be as it was for an image to be used: "kernel 6.18.44", "handler 512 1a2b3c4d".
using ImageKey = std::vector<std::string>;
/// The name of its folder, of hexadecimal digits.
[[nodiscard]] std::string key_name(ImageKey const& key);

struct ImageManifest {
  ImageKey key;
  std::vector<pid_t> threads;  ///< The process first.
  /// Where the C library keeps the number of that thread.
  std::map<pid_t, std::uint64_t> number_addresses;
  std::vector<ImageListener> listeners;
  std::uint16_t port = 0;   ///< Of the listener that it serves at.
  std::string stdout_name;  ///< "pipe:[123]", as CRIU names it; empty: it has none of ours.
  std::string stderr_name;
  std::string ready_name;          ///< Its connection to AETHER_SOCKET: "socket:[123]".
  std::string rights;              ///< rights_of(), in one line.
  std::vector<std::string> notes;  ///< What its maker wants to know of it.
  struct File {
    std::uint64_t size = 0;
    std::uint32_t checksum = 0;  ///< CRC-32C.
    bool operator==(File const&) const = default;
  };
  std::map<std::string, File> files;
  bool operator==(ImageManifest const&) const = default;
};

[[nodiscard]] std::string write_manifest(ImageManifest const& manifest);
/// ChecksumMismatch if it is torn.
[[nodiscard]] Result<ImageManifest> read_manifest(std::string_view text);

/// Of /proc/PID/status: users, groups, capabilities and the sandbox, in one line.
[[nodiscard]] std::string rights_of(std::string_view status);

}  // namespace aether::clone
