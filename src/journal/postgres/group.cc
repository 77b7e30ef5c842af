// SPDX-License-Identifier: Apache-2.0
#include "journal/postgres/group.h"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "journal/event_text.h"
#include "journal/limits.h"

namespace aether::journal::postgres {
namespace {

using Numbers = std::vector<std::optional<std::int64_t>>;
using Texts = std::vector<std::string_view>;

/// Beyond any position: a cause that nothing can come before.
constexpr std::int64_t kNever = std::int64_t{1} << 62U;

template <class Id>
std::optional<std::int64_t> number_of(std::optional<Id> id) {
  if (!id) return std::nullopt;
  return static_cast<std::int64_t>(id->value);
}

/// The arrays that the function takes, filled batch by batch.
struct Columns {
  void add(Batch const& batch);
  void add_event(NewEvent const& event);
  void add_stream(std::string_view name, StreamCheck const* check);
  void add_records(Batch const& batch);

  std::int64_t ahead = 0;
  std::map<std::string_view, std::size_t> stream_at;
  Texts s_name, e_span, e_before, e_middle, e_after, c_span, k_key, b_named, b_hash, b_salt,
      b_content, r_view, r_key, r_value, d_view, d_key, dropped, erased, notes, told;
  Numbers s_expected, s_held, s_raised, s_count, s_last, e_stream, e_ordinal, e_mark, c_stream,
      k_event;
  std::deque<EventText> lines;  ///< Where the pieces of lines live.
};

void Columns::add_stream(std::string_view name, StreamCheck const* check) {
  auto const [known, is_new] = stream_at.try_emplace(name, s_name.size());
  if (!is_new) return;
  s_name.push_back(name);
  s_expected.push_back(check == nullptr ? std::nullopt : number_of(check->expected));
  s_held.push_back(check == nullptr ? std::nullopt : number_of(check->held));
  s_raised.push_back(check == nullptr ? std::nullopt : number_of(check->raised));
  s_count.emplace_back(0);
  s_last.emplace_back(0);
}

void Columns::add_event(NewEvent const& event) {
  auto const at = static_cast<std::int64_t>(e_stream.size()) + 1;
  std::size_t const stream = stream_at.at(event.stream);
  e_stream.emplace_back(static_cast<std::int64_t>(stream) + 1);
  e_ordinal.emplace_back(++*s_count[stream]);
  s_last[stream] = at;
  e_mark.emplace_back(static_cast<std::int64_t>(event.mark));
  e_span.emplace_back(event.span);
  EventText const& text = lines.emplace_back(text_of_event(event));
  e_before.emplace_back(text.before_fence);
  e_middle.emplace_back(text.before_position);
  e_after.emplace_back(text.after_sequence);
  for (std::string const& key : event.keys) {
    k_key.emplace_back(key);
    k_event.emplace_back(at);
  }
  // cause < base + at, and cause > 0.
  if (event.cause) {
    auto const cause = static_cast<std::int64_t>(
        std::min<std::uint64_t>(event.cause->value, static_cast<std::uint64_t>(kNever)));
    ahead = std::max(ahead, cause == 0 ? kNever : cause - at + 1);
  }
}

void Columns::add_records(Batch const& batch) {
  std::map<std::pair<std::string_view, std::string_view>, RecordChange const*> last;
  for (RecordChange const& change : batch.records) last[{change.view, change.key}] = &change;
  for (auto const& [row, change] : last) {
    (change->value ? r_view : d_view).push_back(row.first);
    (change->value ? r_key : d_key).push_back(row.second);
    if (change->value) r_value.emplace_back(*change->value);
  }
}

void Columns::add(Batch const& batch) {
  for (StreamCheck const& check : batch.checks) add_stream(check.stream, &check);
  std::set<std::pair<std::string_view, std::string_view>> opened;
  for (NewEvent const& event : batch.events) {
    add_stream(event.stream, nullptr);
    add_event(event);
    if (event.mark == Mark::Open) opened.emplace(event.stream, event.span);
    if (event.mark == Mark::Close && !opened.contains({event.stream, event.span})) {
      c_stream.push_back(e_stream.back());
      c_span.emplace_back(event.span);
    }
  }
  auto const is_here = [&](BlobHash const& hash) {
    return std::ranges::find(batch.blobs, hash, &Blob::hash) != batch.blobs.end();
  };
  auto const name = [&](BlobHash const& hash) {
    if (!is_here(hash)) b_named.push_back(hash.view());
  };
  for (NewEvent const& event : batch.events) std::ranges::for_each(event.blobs, name);
  std::ranges::for_each(batch.blobs_erased, name);
  for (Blob const& blob : batch.blobs) {
    b_hash.push_back(blob.hash.view());
    b_salt.emplace_back(blob.salt);
    b_content.emplace_back(*blob.content);
  }
  add_records(batch);
  for (BlobHash const& hash : batch.blobs_erased) erased.push_back(hash.view());
  dropped.insert(dropped.end(), batch.views_dropped.begin(), batch.views_dropped.end());
  if (batch.checkpoint) notes.emplace_back(*batch.checkpoint);
  told.insert(told.end(), batch.told.begin(), batch.told.end());
}

/// A span that the batch itself opens or closes twice, or closes before it opens it; a key that it
/// takes twice.
bool contradicts_itself(Batch const& batch) {
  std::map<std::pair<std::string_view, std::string_view>, Mark> marks;
  std::set<std::string_view> keys;
  for (NewEvent const& event : batch.events) {
    for (std::string const& key : event.keys) {
      if (!keys.insert(key).second) return true;
    }
    if (event.mark == Mark::Point) continue;
    auto const [mark, is_new] = marks.try_emplace({event.stream, event.span}, event.mark);
    if (is_new) continue;
    if (event.mark == Mark::Open || mark->second == Mark::Close) return true;
    mark->second = Mark::Close;
  }
  return false;
}

}  // namespace

bool Group::takes(Waiting const& next) const {
  if (batches.empty()) return true;
  Batch const& batch = next.batch;
  bool const is_special =
      next.alone || !batch.views_dropped.empty() || !batch.blobs_erased.empty() || batch.checkpoint;
  if (is_closed_ || is_special || events_ + batch.events.size() > kGroupEventsMax) return false;
  auto const met = [this](auto const& each) { return streams_.contains(each.stream); };
  if (std::ranges::any_of(batch.checks, met) || std::ranges::any_of(batch.events, met))
    return false;
  auto const is_taken = [this](std::string const& key) { return keys_.contains(key); };
  for (NewEvent const& event : batch.events) {
    if (std::ranges::any_of(event.keys, is_taken)) return false;
  }
  return std::ranges::none_of(batch.records, [this](RecordChange const& change) {
    return rows_.contains({change.view, change.key});
  });
}

void Group::take_names(Batch const& batch) {
  for (StreamCheck const& check : batch.checks) streams_.insert(check.stream);
  for (NewEvent const& event : batch.events) {
    streams_.insert(event.stream);
    keys_.insert(event.keys.begin(), event.keys.end());
  }
  for (RecordChange const& change : batch.records) rows_.insert({change.view, change.key});
}

void Group::add(Waiting next) {
  is_closed_ = next.alone || !next.batch.views_dropped.empty() ||
               !next.batch.blobs_erased.empty() || next.batch.checkpoint.has_value();
  is_hopeless_ = contradicts_itself(next.batch);
  is_closed_ = is_closed_ || is_hopeless_;
  events_ += next.batch.events.size() + 1;
  // The names are views of what the batch's vectors hold, which stays where it is.
  batches.push_back(std::move(next));
  take_names(batches.back().batch);
}

Values Group::values(std::string_view writer, std::uint64_t with_number) const {
  Columns all;
  for (Waiting const& each : batches) all.add(each.batch);
  Values values;
  values.bytes(writer).number(with_number).number(all.ahead);
  values.texts(all.s_name).numbers(all.s_expected).numbers(all.s_held).numbers(all.s_raised);
  values.numbers(all.s_count).numbers(all.s_last);
  values.numbers(all.e_stream).numbers(all.e_ordinal).numbers(all.e_mark).texts(all.e_span);
  values.texts(all.e_before).texts(all.e_middle).texts(all.e_after);
  values.numbers(all.c_stream).texts(all.c_span).texts(all.k_key).numbers(all.k_event);
  values.all_bytes(all.b_named).all_bytes(all.b_hash).all_bytes(all.b_salt);
  values.all_bytes(all.b_content).texts(all.r_view).all_bytes(all.r_key).all_bytes(all.r_value);
  values.texts(all.d_view).all_bytes(all.d_key).texts(all.dropped).all_bytes(all.erased);
  values.texts(all.notes).texts(all.told);
  return values;
}

std::string append_call() {
  std::string call = "SELECT aether.append(";
  std::size_t const count = Group().values("", 0).size();
  for (std::size_t at = 1; at <= count; ++at) call += fmt::format("{}${}", at > 1 ? "," : "", at);
  return call + ")";
}

}  // namespace aether::journal::postgres
