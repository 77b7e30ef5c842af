// SPDX-License-Identifier: Apache-2.0
#include "journal/event.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "journal/event_text.h"
#include "journal/json_extent.h"
#include "journal/limits.h"

namespace aether::journal {
namespace {

Failure wrong_field(std::string_view what, std::string_view why) {
  return fail(ErrorCode::RequestInvalid, fmt::format("an event's {} {}", what, why));
}

Status check_name(std::string_view what, std::string_view text, bool may_be_empty) {
  if (is_name(text) || (may_be_empty && text.empty())) return {};
  return wrong_field(what, fmt::format("must be 1 to {} printable ASCII characters, without quotes "
                                       "and backslashes",
                                       kNameBytesMax));
}

Status check_lists(NewEvent const& event) {
  if (event.keys.size() > kEventKeysMax) {
    return wrong_field("keys", fmt::format("are more than {}", kEventKeysMax));
  }
  for (std::string const& key : event.keys) TRY(check_name("key", key, false));
  std::set<std::string_view> const keys(event.keys.begin(), event.keys.end());
  if (keys.size() != event.keys.size()) return wrong_field("keys", "name one key twice");
  if (event.blobs.size() > kEventBlobsMax) {
    return wrong_field("blobs", fmt::format("are more than {}", kEventBlobsMax));
  }
  return {};
}

/// The milliseconds since 1970 that are recorded; before is no time that a journal has seen.
std::int64_t milliseconds_of(WallTime at) {
  return std::chrono::floor<std::chrono::milliseconds>(at.time_since_epoch()).count();
}

void add_list(std::string& line, std::string_view name, std::vector<std::string> const& texts) {
  if (texts.empty()) return;
  line += fmt::format("\"{}\":[\"{}\"],", name, fmt::join(texts, "\",\""));
}

/// Reads a line from left to right; the first thing that is not as expected spoils all.
class LineReader {
 public:
  explicit LineReader(std::string_view line) : rest_(line) {}

  void expect(std::string_view text) { good_ = good_ && take(text); }
  bool take(std::string_view text) {
    if (!good_ || !rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }
  std::string name() {
    std::size_t const end = rest_.find('"');
    good_ = good_ && end != std::string_view::npos;
    if (!good_) return {};
    std::string text(rest_.substr(0, end));
    rest_.remove_prefix(end + 1);
    return text;
  }
  /// `"name":"text",` or nothing.
  std::string optional_name(std::string_view field) {
    return take(fmt::format("\"{}\":\"", field)) ? comma_after(name()) : std::string();
  }
  std::vector<std::string> optional_list(std::string_view field) {
    std::vector<std::string> texts;
    if (!take(fmt::format("\"{}\":[\"", field))) return texts;
    texts.push_back(name());
    while (take(",\"")) texts.push_back(name());
    expect("],");
    return texts;
  }
  std::uint64_t number() {
    std::uint64_t value = 0;
    std::size_t digits = 0;
    while (digits < rest_.size() && rest_[digits] >= '0' && rest_[digits] <= '9') ++digits;
    good_ = good_ && digits > 0 && digits <= 16;
    if (!good_) return 0;
    for (char const digit : rest_.substr(0, digits)) {
      value = value * 10 + static_cast<std::uint64_t>(digit - '0');
    }
    rest_.remove_prefix(digits);
    return value;
  }
  std::uint64_t number_of(std::string_view field) {
    expect(fmt::format("\"{}\":", field));
    return comma_after(number());
  }
  std::string body() {
    expect("\"body\":");
    std::size_t const extent = json_extent(rest_).value_or(0);
    good_ = good_ && extent > 0;
    if (!good_) return {};
    std::string text(rest_.substr(0, extent));
    rest_.remove_prefix(extent);
    return comma_after(std::move(text));
  }
  void spoil() { good_ = false; }
  [[nodiscard]] bool ended_well() const { return good_ && rest_.empty(); }

 private:
  template <class Value>
  Value comma_after(Value value) {
    expect(",");
    return value;
  }
  std::string_view rest_;
  bool good_ = true;
};

Mark mark_of(LineReader& line, std::string_view text) {
  for (Mark const mark : {Mark::Point, Mark::Open, Mark::Close}) {
    if (text == text_of(mark)) return mark;
  }
  line.spoil();
  return Mark::Point;
}

}  // namespace

std::string_view text_of(Mark mark) {
  switch (mark) {
    case Mark::Open:
      return "open";
    case Mark::Close:
      return "close";
    case Mark::Point:
      break;
  }
  return "point";
}

BlobHash blob_hash(std::string_view salt, std::string_view content) {
  return sha256({salt, content});
}

Blob make_blob(std::string content, std::string salt) {
  BlobHash const hash = blob_hash(salt, content);
  return {.hash = hash, .salt = std::move(salt), .content = std::move(content)};
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kNameBytesMax && std::ranges::all_of(text, [](char c) {
    return c >= ' ' && c <= '~' && c != '"' && c != '\\';
  });
}

Status check_event(NewEvent const& event) {
  TRY(check_name("stream", event.stream, false));
  TRY(check_name("kind", event.kind, false));
  TRY(check_name("span", event.span, event.mark == Mark::Point));
  TRY(check_name("actor", event.actor, true));
  TRY(check_lists(event));
  std::int64_t const at = milliseconds_of(event.at);
  if (at < 0 || at > static_cast<std::int64_t>(kMillisecondsMax)) {
    return wrong_field("time", "is before 1970 or after 2248");
  }
  if (event.body.size() > kBodyBytesMax) {
    return fail(ErrorCode::LimitReached,
                fmt::format("an event's body has {} bytes, at most {} are recorded "
                            "(kBodyBytesMax): put it into a blob",
                            event.body.size(), kBodyBytesMax));
  }
  if (json_extent(event.body) != event.body.size()) {
    return wrong_field("body", "is not one JSON value without white space between its tokens");
  }
  return {};
}

EventText text_of_event(NewEvent const& event) {
  EventText text;
  std::string& head = text.before_fence;
  head.reserve(128 + event.body.size());
  head = "{";
  auto const to = std::back_inserter(head);
  if (!event.actor.empty()) fmt::format_to(to, "\"actor\":\"{}\",", event.actor);
  fmt::format_to(to, "\"at\":{},", milliseconds_of(event.at));
  if (!event.blobs.empty()) {
    std::vector<std::string> texts;
    for (BlobHash const& hash : event.blobs) texts.push_back(text_of(hash));
    add_list(head, "blobs", texts);
  }
  head += "\"body\":";
  head += event.body;
  if (event.cause) fmt::format_to(to, ",\"cause\":{}", event.cause->value);
  head += ",\"fence\":";
  text.before_position = ",";
  add_list(text.before_position, "keys", event.keys);
  fmt::format_to(std::back_inserter(text.before_position),
                 "\"kind\":\"{}\",\"mark\":\"{}\",\"position\":", event.kind, text_of(event.mark));
  text.after_sequence = ",";
  auto const end = std::back_inserter(text.after_sequence);
  if (!event.span.empty()) fmt::format_to(end, "\"span\":\"{}\",", event.span);
  fmt::format_to(end, "\"stream\":\"{}\"}}", event.stream);
  return text;
}

std::string event_line(Event const& event) {
  EventText text = text_of_event(event);
  std::string line = std::move(text.before_fence);
  fmt::format_to(std::back_inserter(line), "{}{}{},\"sequence\":{}{}", event.fence.value,
                 text.before_position, event.position.value, event.sequence.value,
                 text.after_sequence);
  return line;
}

Result<Event> parse_event_line(std::string_view line) {
  LineReader reader(line);
  Event event;
  reader.expect("{");
  event.actor = reader.optional_name("actor");
  event.at = WallTime(
      std::chrono::milliseconds(std::min<std::uint64_t>(reader.number_of("at"), kMillisecondsMax)));
  for (std::string const& text : reader.optional_list("blobs")) {
    std::optional<BlobHash> const hash = hash_of_text(text);
    if (!hash) reader.spoil();
    event.blobs.push_back(hash.value_or(BlobHash{}));
  }
  event.body = reader.body();
  if (reader.take("\"cause\":")) {
    event.cause = Position{reader.number()};
    reader.expect(",");
  }
  event.fence = Fence{reader.number_of("fence")};
  event.keys = reader.optional_list("keys");
  reader.expect("\"kind\":\"");
  event.kind = reader.name();
  reader.expect(",\"mark\":\"");
  event.mark = mark_of(reader, reader.name());
  reader.expect(",");
  event.position = Position{reader.number_of("position")};
  event.sequence = Sequence{reader.number_of("sequence")};
  event.span = reader.optional_name("span");
  reader.expect("\"stream\":\"");
  event.stream = reader.name();
  reader.expect("}");
  // What was read must be what would be written, so that one event has one line.
  if (!reader.ended_well() || !check_event(event) || event_line(event) != line) {
    return fail(ErrorCode::EvidenceInvalid, "a line is not an event as a journal writes it");
  }
  return event;
}

}  // namespace aether::journal
