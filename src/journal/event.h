// SPDX-License-Identifier: Apache-2.0
// Event: what the journal records. The journal knows its envelope, and nothing of what it means.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "journal/hash.h"

namespace aether::journal {

/// The place of an event in the journal, counted from 1 without gaps. 0 is "before all". Leaf
/// `position - 1` of the Merkle tree; a tree of size n holds the positions 1 to n.
using Position = NumberId<struct PositionTag>;
/// The place of an event in its stream, counted from 1 without gaps. 0 is "before all".
using Sequence = NumberId<struct SequenceTag>;
/// Who may append to a stream: a number that only grows. A lease raises it; who holds an older one
/// is refused.
using Fence = NumberId<struct FenceTag>;

/// The span law: everything that takes time has exactly one open event and at most one close;
/// everything else is a point. A span's name is opened once in its stream, for all time.
enum class Mark : std::uint8_t { Point, Open, Close };
[[nodiscard]] std::string_view text_of(Mark mark);

/// The address of a blob: the SHA-256 of its salt and its content.
using BlobHash = Hash;

/// What a caller says of an event.
struct NewEvent {
  std::string stream;  ///< Usually the id of a run. Names: see is_name().
  std::string kind;    ///< "run.opened": for those who read it.
  Mark mark = Mark::Point;
  std::string span;                 ///< Empty for a point that belongs to no span.
  WallTime at;                      ///< To the millisecond; the rest is cut off.
  std::string actor;                ///< Who caused it; may be empty.
  std::optional<Position> cause;    ///< The earlier event that it follows from.
  std::vector<std::string> keys{};  ///< Taken by this event, each once in the whole journal.
  std::vector<BlobHash> blobs{};    ///< Its payloads outside of the body.
  std::string body = "{}";          ///< One JSON value without line breaks (RFC 8785 by contract).
  bool operator==(NewEvent const&) const = default;
};

/// An event as it was recorded.
struct Event : NewEvent {
  Position position;
  Sequence sequence;
  Fence fence;  ///< The stream's fence when it was appended.
  bool operator==(Event const&) const = default;
};

/// A payload outside of the log. The salt makes its address useless for guessing what it was, once
/// it is erased.
struct Blob {
  BlobHash hash;
  std::string salt;
  std::optional<std::string> content;  ///< Nothing: erased. The address stays, and every proof.
  bool operator==(Blob const&) const = default;
};
/// @param salt 16 bytes nobody can guess.
[[nodiscard]] Blob make_blob(std::string content, std::string salt);
[[nodiscard]] BlobHash blob_hash(std::string_view salt, std::string_view content);
inline constexpr std::size_t kSaltBytes = 16;

/// 1 to kNameBytesMax printable ASCII characters, no quote and no backslash: a name stands in a
/// line of JSON as it is.
[[nodiscard]] bool is_name(std::string_view text);
/// RequestInvalid if the event breaks a limit or the form of its fields.
[[nodiscard]] Status check_event(NewEvent const& event);

/// The event as one line of canonical JSON (RFC 8785, if its body is): the bytes that are hashed,
/// exported and proved. docs/journal.md describes it.
[[nodiscard]] std::string event_line(Event const& event);
/// Strict: EvidenceInvalid for any line that event_line() does not give.
[[nodiscard]] Result<Event> parse_event_line(std::string_view line);

}  // namespace aether::journal
