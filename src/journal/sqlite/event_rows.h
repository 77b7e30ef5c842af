// SPDX-License-Identifier: Apache-2.0
// An event as a row of the table `event`, and back.
#pragma once
#include <string_view>

#include "base/result.h"
#include "journal/event.h"
#include "journal/sqlite/database.h"

namespace aether::journal {

inline constexpr std::string_view kInsertEvent =
    "INSERT INTO event VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15)";
/// What event_of() reads; `s` is the stream's row.
inline constexpr std::string_view kSelectEvent =
    "SELECT e.position,s.name,e.sequence,e.previous,e.fence,e.at,e.cause,e.kind,e.mark,e.span,"
    "e.actor,e.keys,e.blobs,e.body,e.leaf FROM event e JOIN stream s ON s.id=e.stream ";

Status insert_event(Statement& insert, Event const& event, std::int64_t stream_id,
                    Position previous, Hash const& leaf);
/// Any row at all gives an event or StoreDamaged: a store may have been changed by anybody.
[[nodiscard]] Result<Event> event_of(Statement const& row);

}  // namespace aether::journal
