// SPDX-License-Identifier: Apache-2.0
#include "journal/fsck.h"

#include <map>
#include <unordered_set>

#include <fmt/format.h>

#include "journal/checkpoint.h"
#include "journal/limits.h"

namespace aether::journal {
namespace {

using enum Finding::Kind;

class Check {
 public:
  explicit Check(Journal& journal) : journal_(journal) {}

  Result<FsckReport> run(std::string_view verifier, std::string const& kept) {
    TRY_ASSIGN(TreeHead const in_use, journal_.tree_head());
    TRY(check_storage());
    TRY(read_notes(verifier));
    if (!kept.empty()) TRY(read_note(kept, verifier));
    read_events(in_use.size);
    report_.head = {.size = tree_.size(), .root = tree_.root()};
    if (report_.head != in_use) {
      find(TreeHeadWrong, {},
           fmt::format("the tree in use has size {} and root {}, the events "
                       "give size {} and root {}",
                       in_use.size, text_of(in_use.root), report_.head.size,
                       text_of(report_.head.root)));
    }
    for (auto const& [size, root] : notes_) {
      find(CheckpointBroken, {},
           fmt::format("a checkpoint of size {} is later than the last event", size));
    }
    TRY(check_streams());
    TRY(check_keys());
    return std::move(report_);
  }

 private:
  void find(Finding::Kind kind, Position position, std::string what) {
    if (report_.findings.size() < kFindingsMax) {
      report_.findings.push_back({.kind = kind, .position = position, .what = std::move(what)});
    }
  }

  Status check_storage() {
    TRY_ASSIGN(std::vector<StorageFault> const faults, journal_.check_storage());
    for (StorageFault const& fault : faults) find(Storage, {}, fault.what);
    return {};
  }

  Status read_notes(std::string_view verifier) {
    Result<std::vector<std::string>> const notes = journal_.checkpoints();
    if (!notes) {
      find(Unreadable, {}, notes.error().message());
      return {};
    }
    report_.checkpoints = notes->size();
    for (std::string const& text : *notes) TRY(read_note(text, verifier));
    return {};
  }

  /// Remembers what the note says, to be compared when the tree has that size.
  Status read_note(std::string const& text, std::string_view verifier) {
    Result<Checkpoint> checkpoint = fail(ErrorCode::EvidenceInvalid, "");
    if (verifier.empty()) {
      Result<SignedNote> const note = parse_note(text);
      checkpoint = note ? parse_checkpoint_text(note->text) : fail(note.error());
    } else {
      TRY_ASSIGN(VerifierKey const key, VerifierKey::parse(verifier));
      checkpoint = open_checkpoint(text, key);
    }
    if (checkpoint) {
      notes_.emplace(checkpoint->head.size, checkpoint->head.root);
    } else {
      find(CheckpointBroken, {}, checkpoint.error().message());
    }
    return {};
  }

  void read_events(std::uint64_t size) {
    check_notes();
    while (tree_.size() < size) {
      Position const from = next_;
      Result<std::vector<Event>> const events = journal_.read(from, kReadEventsMax);
      if (!events || events->empty()) {
        find(Unreadable, from, events ? "there are no more events" : events.error().message());
        return;
      }
      Result<std::vector<Hash>> const leaves = journal_.leaves(from.value - 1, events->size());
      next_ = Position{events->back().position.value + 1};
      for (std::size_t at = 0; at < events->size() && tree_.size() < size; ++at) {
        check_event_at((*events)[at], leaves ? &(*leaves)[at] : nullptr);
      }
    }
  }

  void check_event_at(Event const& event, Hash const* stored_leaf) {
    for (Breach const breach : laws_.take(event)) {
      find(Law, event.position, std::string(text_of(breach)));
    }
    Hash const leaf = leaf_hash(event_line(event));
    if (stored_leaf == nullptr || *stored_leaf != leaf) {
      find(EventChanged, event.position, "it does not give the hash that was stored with it");
    }
    std::vector<TreeNode> nodes;
    tree_.add(leaf, nodes);
    for (TreeNode const& node : nodes) check_node(node);
    check_notes();
    for (BlobHash const& hash : event.blobs) {
      if (blobs_.insert(hash).second) check_blob(event.position, hash);
    }
  }

  void check_node(TreeNode const& node) {
    Result<std::optional<Hash>> const kept = journal_.node(node.level, node.index);
    if (kept && (!*kept || **kept == node.hash)) {
      // A store may keep none, but not some: what is missing is found when one is there.
      (*kept ? has_nodes_ : lacks_nodes_) = true;
      if (!(has_nodes_ && lacks_nodes_)) return;
    }
    find(
        NodeWrong, {},
        fmt::format("the node {} of level {} is not what the events give", node.index, node.level));
  }

  void check_notes() {
    auto const [first, last] = notes_.equal_range(tree_.size());
    for (auto note = first; note != last; note = notes_.erase(note)) {
      if (note->second == tree_.root()) continue;
      find(CheckpointBroken, {},
           fmt::format("the checkpoint of size {} has the root {}, and the "
                       "events give {}",
                       note->first, text_of(note->second), text_of(tree_.root())));
    }
  }

  void check_blob(Position position, BlobHash const& hash) {
    Result<std::optional<Blob>> const blob = journal_.blob(hash);
    ++report_.blobs;
    if (!blob || !*blob) {
      find(BlobMissing, position, "it names the blob " + text_of(hash));
    } else if (!(*blob)->content) {
      ++report_.blobs_erased;
    } else if (blob_hash((*blob)->salt, *(*blob)->content) != hash) {
      find(BlobChanged, position, "it names the blob " + text_of(hash));
    }
  }

  Status check_streams() {
    for (auto const& [name, stream] : laws_.streams()) {
      Result<StreamState> const stored = journal_.stream(name);
      if (stored && *stored == stream.state) continue;
      find(StreamRowWrong, stream.state.head, "the last event of " + name);
    }
    std::string after;
    while (true) {
      TRY_ASSIGN(std::vector<std::string> const names, journal_.streams(after, 1000));
      if (names.empty()) return {};
      for (std::string const& name : names) {
        if (!laws_.streams().contains(name)) find(StreamRowWrong, {}, name + " has no events");
      }
      after = names.back();
    }
  }

  Status check_keys() {
    for (auto const& [key, position] : laws_.keys()) {
      Result<std::optional<Position>> const holder = journal_.key_holder(key);
      if (!holder || *holder != position) find(KeyRowWrong, position, "it took the key " + key);
    }
    return {};
  }

  Journal& journal_;
  Laws laws_{Laws::Positions::Gapless};
  GrowingTree tree_;
  Position next_{1};
  std::multimap<std::uint64_t, Hash> notes_;  ///< Those that are still to be compared, by size.
  std::unordered_set<BlobHash> blobs_;
  bool has_nodes_ = false;
  bool lacks_nodes_ = false;
  FsckReport report_;
};

}  // namespace

std::string_view text_of(Finding::Kind kind) {
  switch (kind) {
    case Storage:
      return "storage";
    case Unreadable:
      return "unreadable";
    case Law:
      return "law";
    case EventChanged:
      return "event-changed";
    case NodeWrong:
      return "node-wrong";
    case StreamRowWrong:
      return "stream-row-wrong";
    case KeyRowWrong:
      return "key-row-wrong";
    case BlobMissing:
      return "blob-missing";
    case BlobChanged:
      return "blob-changed";
    case CheckpointBroken:
      return "checkpoint-broken";
    case TreeHeadWrong:
      break;
  }
  return "tree-head-wrong";
}

std::string describe(Finding const& finding) {
  if (finding.position.value == 0)
    return fmt::format("{}: {}", text_of(finding.kind), finding.what);
  return fmt::format("{} at position {}: {}", text_of(finding.kind), finding.position,
                     finding.what);
}

Result<FsckReport> fsck(Journal& journal, std::string_view verifier, std::string const& kept) {
  return Check(journal).run(verifier, kept);
}

}  // namespace aether::journal
