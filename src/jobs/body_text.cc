// SPDX-License-Identifier: Apache-2.0
#include "jobs/body_text.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "journal/json_extent.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;

/// How deep arrays and objects are within each other. Outside of texts, brackets are only that.
std::size_t depth_of(std::string_view canonical) {
  std::size_t depth = 0;
  std::size_t deepest = 0;
  bool in_text = false;
  for (std::size_t at = 0; at < canonical.size(); ++at) {
    char const c = canonical[at];
    if (c == '"') in_text = !in_text;
    if (in_text && c == '\\') ++at;
    if (in_text) continue;
    if (c == '{' || c == '[') deepest = std::max(deepest, ++depth);
    if (c == '}' || c == ']') --depth;
  }
  return deepest;
}

std::string blob_member(std::string_view name) {
  return std::string(name) + "_blob";
}

std::string describe_event(journal::Event const& event) {
  return fmt::format("the event {} at position {} (stream {}, number {})", event.kind,
                     event.position.value, event.stream, event.sequence.value);
}

}  // namespace

std::string quoted(std::string_view text) {
  if (journal::is_name(text)) return '"' + std::string(text) + '"';
  return canonical_json(json::value(json::string_view(text.data(), text.size())));
}

// ---- writing

void BodyWriter::wrong(std::string_view name, std::string_view why) {
  if (mistake_) return;
  mistake_ = Error(ErrorCode::RequestInvalid,
                   fmt::format("the member '{}' of an event cannot be recorded: {}", name, why));
}

void BodyWriter::raw(std::string_view name, std::string_view json) {
  if (!first_) body_ += ',';
  first_ = false;
  body_ += '"';
  body_ += name;
  body_ += "\":";
  body_ += json;
}

void BodyWriter::text(std::string_view name, std::string const& text) {
  if (text.empty()) return;
  std::string const json = quoted(text);
  if (!journal::json_extent(json)) return wrong(name, "it is not UTF-8");
  raw(name, json);
}

void BodyWriter::long_text(std::string_view name, std::string const& text) {
  if (!text.empty()) canonical(name, quoted(text), 0);
}

void BodyWriter::value(std::string_view name, json::value const& value) {
  if (value.is_null()) return;
  std::string text = canonical_json(value);
  std::size_t const depth = depth_of(text);
  canonical(name, std::move(text), depth);
}

void BodyWriter::canonical(std::string_view name, std::string json, std::size_t depth) {
  if (depth > kJsonDepthMax) {
    return wrong(name, fmt::format("it is deeper than {} arrays and objects", kJsonDepthMax));
  }
  if (journal::json_extent(json) != json.size()) return wrong(name, "it is not UTF-8");
  if (json.size() <= salts_.inline_bytes_max() && depth <= kInlineDepthMax) return raw(name, json);
  journal::Blob blob = journal::make_blob(std::move(json), salts_());
  raw(blob_member(name), '"' + journal::text_of(blob.hash) + '"');
  blobs_.push_back(blob.hash);
  batch_.blobs.push_back(std::move(blob));
}

void BodyWriter::number(std::string_view name, std::uint64_t number) {
  if (number > kIntegerMax) return wrong(name, "it is beyond 2^53");
  raw(name, fmt::format_int(number).str());
}

void BodyWriter::number(std::string_view name, std::uint32_t number) {
  this->number(name, std::uint64_t{number});
}

void BodyWriter::number(std::string_view name, int number) {
  raw(name, fmt::format_int(number).str());
}

void BodyWriter::number(std::string_view name, std::optional<std::uint64_t> const& number) {
  if (number) this->number(name, *number);
}

void BodyWriter::real(std::string_view name, double number) {
  if (!std::isfinite(number)) return wrong(name, "it is not a finite number");
  raw(name, canonical_json(json::value(number)));
}

void BodyWriter::real(std::string_view name, std::optional<double> const& number) {
  if (number) real(name, *number);
}

void BodyWriter::flag(std::string_view name, bool flag) {
  if (flag) raw(name, "true");
}

void BodyWriter::time(std::string_view name, std::optional<WallTime> const& time) {
  if (!time) return;
  auto const since = time->time_since_epoch();
  if (since < Duration::zero()) return wrong(name, "it is before 1970");
  auto const count = std::chrono::floor<std::chrono::milliseconds>(since).count();
  number(name, static_cast<std::uint64_t>(count));
}

void BodyWriter::duration(std::string_view name, std::optional<Duration> const& duration) {
  if (!duration) return;
  if (*duration < Duration::zero()) return wrong(name, "it is negative");
  raw(name, '"' + format_duration(*duration) + '"');
}

Result<std::string> BodyWriter::end() && {
  if (mistake_) return fail(std::move(*mistake_));
  body_ += '}';
  return std::move(body_);
}

// ---- reading

BodyReader::BodyReader(journal::Event const& event, BlobSource const* blobs, Values values)
    : event_(event), blobs_(blobs), values_(values) {
  Result<json::value> parsed = parse_json(event.body, "body");
  static json::object const kNothing;
  object_ = &kNothing;
  if (!parsed) wrong("body", parsed.error().message());
  if (parsed) body_ = std::move(*parsed);
  if (body_.is_object()) object_ = &body_.get_object();
  if (parsed && !body_.is_object()) wrong("body", "is not an object");
}

void BodyReader::wrong(std::string_view name, std::string_view why) {
  if (mistake_) return;
  mistake_ = Error(ErrorCode::StoreDamaged, fmt::format("{} is not one that Aether writes: '{}' {}",
                                                        describe_event(event_), name, why));
}

json::value const* BodyReader::take(std::string_view name) {
  json::value const* const found = object_->if_contains({name.data(), name.size()});
  if (found != nullptr) ++taken_;
  return found;
}

BodyReader::Level BodyReader::enter(std::string_view name, json::value const& value) {
  Level const outer{.object = object_, .taken = taken_};
  static json::object const kNothing;
  object_ = value.is_object() ? &value.get_object() : &kNothing;
  if (!value.is_object()) wrong(name, "is not an object");
  taken_ = 0;
  return outer;
}

void BodyReader::leave(Level outer) {
  check_left();
  object_ = outer.object;
  taken_ = outer.taken;
}

void BodyReader::check_left() {
  if (taken_ != object_->size()) wrong("body", "has members that nobody knows");
}

void BodyReader::text(std::string_view name, std::string& text) {
  json::value const* const found = take(name);
  text.clear();
  if (found == nullptr) return;
  if (!found->is_string()) return wrong(name, "is not a text");
  text.assign(found->get_string().data(), found->get_string().size());
}

std::optional<json::value> BodyReader::blob_of(std::string_view name) {
  std::string const member = blob_member(name);
  json::value const* const found = take(member);
  if (found == nullptr) return std::nullopt;
  std::string address;
  if (found->is_string()) address.assign(found->get_string().data(), found->get_string().size());
  std::optional<journal::BlobHash> const hash = journal::hash_of_text(address);
  if (!hash || std::ranges::count(event_.blobs, *hash) == 0) {
    wrong(member, "is not the address of a blob of the event");
    return std::nullopt;
  }
  ++blobs_named_;
  if (values_ == Values::Skip) return json::value(nullptr);
  Result<std::optional<journal::Blob>> const blob = (*blobs_)(*hash);
  if (!blob || !*blob) {
    wrong(member, blob ? "is a blob that is not stored" : blob.error().message());
    return std::nullopt;
  }
  if (!(*blob)->content) return json::object{{"$erased", address}};
  Result<json::value> parsed = parse_json(*(*blob)->content, member);
  if (parsed) return std::move(*parsed);
  wrong(member, parsed.error().message());
  return std::nullopt;
}

void BodyReader::value(std::string_view name, json::value& value) {
  json::value const* const found = take(name);
  value = nullptr;
  if (found != nullptr && values_ == Values::Read) value = *found;
  if (found != nullptr) return;
  if (std::optional<json::value> blob = blob_of(name)) value = std::move(*blob);
}

void BodyReader::long_text(std::string_view name, std::string& text) {
  this->text(name, text);
  if (!text.empty()) return;
  std::optional<json::value> const blob = blob_of(name);
  if (!blob || blob->is_null()) return;
  // An erased one is told as its address.
  json::value const* const erased =
      blob->is_object() ? blob->get_object().if_contains("$erased") : nullptr;
  json::value const& found = erased != nullptr ? *erased : *blob;
  if (!found.is_string()) return wrong(name, "is not a text");
  text.assign(found.get_string().data(), found.get_string().size());
}

std::optional<std::uint64_t> BodyReader::unsigned_of(std::string_view name) {
  json::value const* const found = take(name);
  if (found == nullptr) return std::nullopt;
  bool const good = found->is_int64() && found->get_int64() >= 0;
  if (!good || static_cast<std::uint64_t>(found->get_int64()) > kIntegerMax) {
    wrong(name, "is not a whole number from 0 to 2^53");
    return std::nullopt;
  }
  return static_cast<std::uint64_t>(found->get_int64());
}

void BodyReader::number(std::string_view name, std::uint64_t& number) {
  std::optional<std::uint64_t> const found = unsigned_of(name);
  if (!found) wrong(name, "is missing");
  number = found.value_or(0);
}

void BodyReader::number(std::string_view name, std::uint32_t& number) {
  std::uint64_t wide = 0;
  this->number(name, wide);
  number = static_cast<std::uint32_t>(wide);
  if (number != wide) wrong(name, "is beyond 2^32");
}

void BodyReader::number(std::string_view name, int& number) {
  json::value const* const found = take(name);
  bool const good = found != nullptr && found->is_int64();
  if (good) number = static_cast<int>(found->get_int64());
  if (!good || number != found->get_int64()) wrong(name, "is not a whole number of 32 bits");
}

void BodyReader::number(std::string_view name, std::optional<std::uint64_t>& number) {
  number = unsigned_of(name);
}

void BodyReader::real(std::string_view name, std::optional<double>& number) {
  json::value const* const found = take(name);
  number.reset();
  if (found == nullptr) return;
  if (!found->is_number()) return wrong(name, "is not a number");
  number = found->to_number<double>();
}

void BodyReader::real(std::string_view name, double& number) {
  std::optional<double> found;
  real(name, found);
  if (!found) wrong(name, "is missing");
  number = found.value_or(0);
}

void BodyReader::flag(std::string_view name, bool& flag) {
  json::value const* const found = take(name);
  flag = found != nullptr;
  if (found != nullptr && *found != true) wrong(name, "is not true");
}

void BodyReader::time(std::string_view name, std::optional<WallTime>& time) {
  std::optional<std::uint64_t> const found = unsigned_of(name);
  time.reset();
  if (!found) return;
  // Nanoseconds in 64 bits end in the year 2262.
  constexpr std::uint64_t kLast = std::uint64_t{1} << 43U;
  if (*found > kLast) return wrong(name, "is a time after 2248");
  time = WallTime(std::chrono::milliseconds(*found));
}

void BodyReader::duration(std::string_view name, std::optional<Duration>& duration) {
  std::string found;
  text(name, found);
  duration.reset();
  if (found.empty()) return;
  Result<Duration> const parsed = parse_duration(found);
  if (!parsed) return wrong(name, parsed.error().message());
  duration = *parsed;
}

Status BodyReader::end() {
  check_left();
  if (!mistake_ && blobs_named_ != event_.blobs.size()) {
    wrong("blobs", "has one that the body does not name");
  }
  if (mistake_) return fail(std::move(*mistake_));
  return {};
}

}  // namespace aether::jobs
