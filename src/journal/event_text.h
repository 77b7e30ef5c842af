// SPDX-License-Identifier: Apache-2.0
// The line of an event (event.h) before its place is known: for a store that gives the places
// itself.
#pragma once
#include <string>

#include "journal/event.h"

namespace aether::journal {

/// event_line() is before_fence, the fence, before_position, the position, `,"sequence":`, the
/// sequence, after_sequence.
struct EventText {
  std::string before_fence;
  std::string before_position;
  std::string after_sequence;
};
[[nodiscard]] EventText text_of_event(NewEvent const& event);

}  // namespace aether::journal
