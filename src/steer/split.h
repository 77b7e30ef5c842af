// SPDX-License-Identifier: Apache-2.0
// Split: how two revisions share what is new.
#pragma once
#include <cstdint>

#include "base/ids.h"

namespace aether::steer {

/// What decides for one connection (or datagram).
enum class Stick : std::uint8_t {
  None,    ///< Each is drawn by itself.
  Source,  ///< All of one source address go to one share, while the shares stay; as the part of one
           ///< revision grows, clients only ever go over to it.
};

/// `other` gets what `revision` does not.
struct Split {
  RevisionId revision;
  int percent = 100;  ///< Of what is new, to `revision`.
  RevisionId other;
  Stick stick = Stick::None;
};

}  // namespace aether::steer
