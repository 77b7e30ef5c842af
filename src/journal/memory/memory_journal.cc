// SPDX-License-Identifier: Apache-2.0
#include "journal/memory/memory_journal.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "journal/limits.h"

namespace aether::journal {
namespace {

/// Ordered maps over one list of what happened: easy to see to be right.
class MemoryJournal final : public Journal {
 public:
  void append(Batch batch, Answer answer) override {
    Result<AppendOutcome> outcome = append_checked(batch);
    answer(std::move(outcome));
  }

  Result<std::vector<Event>> read(Position from, std::size_t count) override {
    std::lock_guard const lock(mutex_);
    std::size_t const first = std::max<std::uint64_t>(from.value, 1) - 1;
    std::vector<Event> found;
    for (std::size_t at = first; at < events_.size() && found.size() < limited(count); ++at) {
      found.push_back(events_[at]);
    }
    return found;
  }
  Result<std::vector<Event>> read_stream(std::string_view stream, Sequence from,
                                         std::size_t count) override {
    std::lock_guard const lock(mutex_);
    std::vector<Event> found;
    auto const known = streams_.find(stream);
    if (known == streams_.end()) return found;
    std::vector<Position> const& events = known->second.events;
    std::size_t const first = std::max<std::uint64_t>(from.value, 1) - 1;
    for (std::size_t at = first; at < events.size() && found.size() < limited(count); ++at) {
      found.push_back(events_[events[at].value - 1]);
    }
    return found;
  }
  Result<StreamState> stream(std::string_view stream) override {
    std::lock_guard const lock(mutex_);
    return state_of(stream);
  }
  Result<std::vector<std::string>> streams(std::string_view after, std::size_t count) override;
  Result<std::optional<Position>> key_holder(std::string_view key) override {
    std::lock_guard const lock(mutex_);
    return holder_of(key);
  }
  Result<std::optional<Blob>> blob(BlobHash const& hash) override {
    std::lock_guard const lock(mutex_);
    auto const found = blobs_.find(hash);
    return found == blobs_.end() ? std::nullopt : std::optional(found->second);
  }
  Result<std::optional<std::string>> record(std::string_view view, std::string_view key) override {
    std::lock_guard const lock(mutex_);
    auto const found = records_.find({std::string(view), std::string(key)});
    return found == records_.end() ? std::nullopt : std::optional(found->second);
  }
  Result<std::vector<Record>> records(std::string_view view, std::string_view from,
                                      std::string_view to, std::size_t count) override;
  Result<TreeHead> tree_head() override {
    std::lock_guard const lock(mutex_);
    return TreeHead{.size = tree_.size(), .root = tree_.root()};
  }
  Result<std::vector<std::string>> checkpoints() override {
    std::lock_guard const lock(mutex_);
    return checkpoints_;
  }
  Result<std::vector<StorageFault>> check_storage() override { return std::vector<StorageFault>(); }
  Result<std::vector<Hash>> leaves(std::uint64_t first, std::size_t count) override {
    std::lock_guard const lock(mutex_);
    auto const begin = leaves_.begin() + static_cast<std::ptrdiff_t>(first);
    return std::vector<Hash>(begin, begin + static_cast<std::ptrdiff_t>(count));
  }
  Result<std::optional<Hash>> node(unsigned, std::uint64_t) override { return std::nullopt; }

 private:
  struct Span {
    Position opened;
    Position closed;
  };
  struct Stream {
    std::vector<Position> events;
    std::map<std::string, Span> spans;
  };

  static std::size_t limited(std::size_t count) { return std::min(count, kReadEventsMax); }

  [[nodiscard]] StreamState state_of(std::string_view stream) const {
    auto const known = streams_.find(stream);
    if (known == streams_.end()) return {};
    Event const& last = events_[known->second.events.back().value - 1];
    return {.last = last.sequence, .fence = last.fence, .head = last.position};
  }
  [[nodiscard]] std::optional<Position> holder_of(std::string_view key) const {
    auto const found = keys_.find(key);
    return found == keys_.end() ? std::nullopt : std::optional(found->second);
  }
  [[nodiscard]] Span span_of(NewEvent const& event) const {
    auto const stream = streams_.find(event.stream);
    if (stream == streams_.end()) return {};
    auto const span = stream->second.spans.find(event.span);
    return span == stream->second.spans.end() ? Span() : span->second;
  }

  Result<AppendOutcome> append_checked(Batch& batch) {
    TRY(check_batch(batch));
    std::lock_guard const lock(mutex_);
    std::size_t const events_before = events_.size();
    std::optional<Refusal> refusal = refused_check(batch);
    std::vector<BlobHash> new_blobs;
    for (Blob const& blob : batch.blobs) {
      if (blobs_.try_emplace(blob.hash, blob).second) new_blobs.push_back(blob.hash);
    }
    for (NewEvent& event : batch.events) {
      if (!refusal) refusal = take(std::move(event), batch.checks);
    }
    if (!refusal) refusal = refused_erasure(batch);
    if (refusal) {
      while (events_.size() > events_before) take_back();
      for (BlobHash const& hash : new_blobs) blobs_.erase(hash);
      return AppendOutcome(std::unexpected(*refusal));
    }
    finish(batch, events_before);
    return AppendOutcome(Appended{.first = Position{events_before + (batch.events.empty() ? 0 : 1)},
                                  .count = events_.size() - events_before});
  }

  [[nodiscard]] std::optional<Refusal> refused_check(Batch const& batch) const {
    using enum Refusal::Why;
    for (StreamCheck const& check : batch.checks) {
      StreamState const state = state_of(check.stream);
      auto const refuse = [&](Refusal::Why why, std::uint64_t current) {
        return Refusal{.why = why, .stream = check.stream, .name = {}, .current = current};
      };
      if (check.expected && *check.expected != state.last) {
        return refuse(SequenceMoved, state.last.value);
      }
      if (check.held && *check.held != state.fence) return refuse(FenceStale, state.fence.value);
      if (check.raised && *check.raised <= state.fence) {
        return refuse(FenceNotHigher, state.fence.value);
      }
    }
    return std::nullopt;
  }

  [[nodiscard]] std::optional<Refusal> refused_event(NewEvent const& event) const {
    using enum Refusal::Why;
    auto const [opened, closed] = span_of(event);
    auto const refuse = [&](Refusal::Why why, std::string name, std::uint64_t current) {
      return Refusal{
          .why = why, .stream = event.stream, .name = std::move(name), .current = current};
    };
    if (event.mark == Mark::Open && opened.value > 0) {
      return refuse(SpanOpenedOnce, event.span, opened.value);
    }
    if (event.mark == Mark::Close && opened.value == 0) return refuse(SpanNotOpen, event.span, 0);
    if (event.mark == Mark::Close && closed.value > 0) {
      return refuse(SpanClosedOnce, event.span, closed.value);
    }
    for (std::string const& key : event.keys) {
      if (auto const holder = holder_of(key)) return refuse(KeyTaken, key, holder->value);
    }
    if (event.cause && (event.cause->value == 0 || event.cause->value > events_.size())) {
      return refuse(CauseAhead, "", event.cause->value);
    }
    for (BlobHash const& hash : event.blobs) {
      if (!blobs_.contains(hash)) {
        return Refusal{.why = BlobUnknown, .stream = {}, .name = text_of(hash), .current = 0};
      }
    }
    return std::nullopt;
  }

  std::optional<Refusal> take(NewEvent event, std::vector<StreamCheck> const& checks) {
    if (auto refusal = refused_event(event)) return refusal;
    StreamState const state = state_of(event.stream);
    Fence fence = state.fence;
    for (StreamCheck const& check : checks) {
      if (check.stream == event.stream && check.raised) fence = *check.raised;
    }
    Event recorded;
    static_cast<NewEvent&>(recorded) = std::move(event);
    recorded.at = std::chrono::floor<std::chrono::milliseconds>(recorded.at);
    recorded.position = Position{events_.size() + 1};
    recorded.sequence = Sequence{state.last.value + 1};
    recorded.fence = fence;
    Stream& stream = streams_[recorded.stream];
    stream.events.push_back(recorded.position);
    if (recorded.mark == Mark::Open) stream.spans[recorded.span].opened = recorded.position;
    if (recorded.mark == Mark::Close) stream.spans[recorded.span].closed = recorded.position;
    for (std::string const& key : recorded.keys) keys_[key] = recorded.position;
    events_.push_back(std::move(recorded));
    return std::nullopt;
  }

  /// Undoes the last take().
  void take_back() {
    Event const& event = events_.back();
    auto const known = streams_.find(event.stream);
    Stream& stream = known->second;
    stream.events.pop_back();
    if (event.mark == Mark::Open) stream.spans.erase(event.span);
    if (event.mark == Mark::Close) stream.spans[event.span].closed = {};
    for (std::string const& key : event.keys) keys_.erase(key);
    if (stream.events.empty()) streams_.erase(known);
    events_.pop_back();
  }

  [[nodiscard]] std::optional<Refusal> refused_erasure(Batch const& batch) const {
    for (BlobHash const& hash : batch.blobs_erased) {
      if (blobs_.contains(hash)) continue;
      return Refusal{
          .why = Refusal::Why::BlobUnknown, .stream = {}, .name = text_of(hash), .current = 0};
    }
    return std::nullopt;
  }

  void finish(Batch& batch, std::size_t events_before) {
    std::vector<TreeNode> kept;
    for (std::size_t at = events_before; at < events_.size(); ++at) {
      leaves_.push_back(leaf_hash(event_line(events_[at])));
      tree_.add(leaves_.back(), kept);
    }
    for (BlobHash const& hash : batch.blobs_erased) {
      blobs_[hash] = {.hash = hash, .salt = {}, .content = std::nullopt};
    }
    for (std::string const& view : batch.views_dropped) {
      std::erase_if(records_, [&](auto const& row) { return row.first.first == view; });
    }
    for (RecordChange& change : batch.records) {
      std::pair<std::string, std::string> row(std::move(change.view), std::move(change.key));
      if (change.value) {
        records_[std::move(row)] = std::move(*change.value);
      } else {
        records_.erase(row);
      }
    }
    if (batch.checkpoint) checkpoints_.push_back(std::move(*batch.checkpoint));
  }

  std::mutex mutex_;
  std::vector<Event> events_;
  std::map<std::string, Stream, std::less<>> streams_;
  std::map<std::string, Position, std::less<>> keys_;
  std::vector<Hash> leaves_;
  GrowingTree tree_;
  std::map<BlobHash, Blob> blobs_;
  std::map<std::pair<std::string, std::string>, std::string> records_;
  std::vector<std::string> checkpoints_;
};

Result<std::vector<std::string>> MemoryJournal::streams(std::string_view after, std::size_t count) {
  std::lock_guard const lock(mutex_);
  std::vector<std::string> names;
  for (auto stream = streams_.upper_bound(after); stream != streams_.end(); ++stream) {
    if (names.size() == count) break;
    names.push_back(stream->first);
  }
  return names;
}

Result<std::vector<Record>> MemoryJournal::records(std::string_view view, std::string_view from,
                                                   std::string_view to, std::size_t count) {
  std::lock_guard const lock(mutex_);
  std::vector<Record> found;
  for (auto row = records_.lower_bound({std::string(view), std::string(from)});
       row != records_.end() && found.size() < count; ++row) {
    auto const& [view_of_row, key] = row->first;
    if (view_of_row != view || (!to.empty() && key >= to)) break;
    found.push_back({.key = key, .value = row->second});
  }
  return found;
}

}  // namespace

std::unique_ptr<Journal> open_memory_journal() {
  return std::make_unique<MemoryJournal>();
}

}  // namespace aether::journal
