// SPDX-License-Identifier: Apache-2.0
#include "api/streams.h"

#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/json_text.h"
#include "api/status_json.h"

namespace aether::api {

namespace {

namespace json = boost::json;

}  // namespace

std::string log_text(std::string_view service, supervise::LogLine const& line) {
  return json_text(log_line_json(service, line)) + "\n";
}

async::Task<void> follow_log(supervise::LogBook* book, std::uint64_t cursor,
                             http::BodyWriter& writer) {
  for (;;) {
    supervise::LogBatch const batch = book->since(cursor);
    std::string text;
    if (batch.missed > 0) {
      json::object const note{{"missed", batch.missed}};
      text = json_text(note) + "\n";
    }
    for (supervise::LogLine const& line : batch.lines) text += log_text(book->service(), line);
    cursor = batch.next;
    if (!text.empty()) co_await writer.write(std::move(text));
    if (book->closed()) co_return;
    co_await book->changed(cursor);
  }
}

async::Task<void> follow_events(EventFeed* feed, std::uint64_t last, http::BodyWriter& writer) {
  co_await writer.write(": aether events\n\n");
  for (;;) {
    std::string text;
    for (FeedEvent const& event : feed->after(last)) {
      text += fmt::format("id: {}\nevent: {}\ndata: {}\n\n", event.id, event.type, event.json);
      last = event.id;
    }
    if (!text.empty()) co_await writer.write(std::move(text));
    co_await feed->changed(last);
  }
}

}  // namespace aether::api
