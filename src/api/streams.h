// SPDX-License-Identifier: Apache-2.0
// The answers without an end: a log that is followed, and what happens.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "api/events.h"
#include "async/task.h"
#include "http/message.h"
#include "supervise/log_book.h"

namespace aether::api {

/// One line of a log, as a line of JSON.
[[nodiscard]] std::string log_text(std::string_view service, supervise::LogLine const& line);
/// Writes the lines from `cursor` on, as they come, until the book is closed.
[[nodiscard]] async::Task<void> follow_log(supervise::LogBook* book, std::uint64_t cursor,
                                           http::BodyWriter& writer);
/// Writes the events after `last`, as they come, as server-sent events.
[[nodiscard]] async::Task<void> follow_events(EventFeed* feed, std::uint64_t last,
                                              http::BodyWriter& writer);

}  // namespace aether::api
