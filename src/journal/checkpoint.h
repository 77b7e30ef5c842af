// SPDX-License-Identifier: Apache-2.0
// Checkpoints: a tree head, signed. The text is a C2SP tlog-checkpoint in a signed note, which
// others' programs read as well (Go's sumdb/note and sumdb/tlog).
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "journal/journal.h"

namespace aether::journal {

struct Checkpoint {
  std::string origin;  ///< The name of the journal; also the name of the key that signs.
  TreeHead head;
  bool operator==(Checkpoint const&) const = default;
};

/// Three lines: origin, size, root in base64.
[[nodiscard]] std::string checkpoint_text(Checkpoint const& checkpoint);
/// Strict; EvidenceInvalid. Extension lines are not taken.
[[nodiscard]] Result<Checkpoint> parse_checkpoint_text(std::string_view text);

/// https://c2sp.org/signed-note: a text and who signed it.
struct SignedNote {
  struct Signature {
    std::string name;
    std::uint32_t key_id = 0;
    std::string bytes;
    bool operator==(Signature const&) const = default;
  };
  std::string text;  ///< Whole lines.
  std::vector<Signature> signatures;
  bool operator==(SignedNote const&) const = default;
};
[[nodiscard]] std::string note_text(SignedNote const& note);
/// Strict: note_text() of the result is `text`.
[[nodiscard]] Result<SignedNote> parse_note(std::string_view text);

/// A name without spaces and pluses, as notes want it; what is_name() takes otherwise.
[[nodiscard]] bool is_key_name(std::string_view name);

/// The public half of a key: "name+hash+base64", as sumdb/note writes it.
class VerifierKey {
 public:
  static Result<VerifierKey> parse(std::string_view text);
  /// @param public_key 32 bytes.
  VerifierKey(std::string name, std::string public_key);

  [[nodiscard]] std::string text() const;
  [[nodiscard]] std::string const& name() const { return name_; }
  [[nodiscard]] std::uint32_t id() const;
  /// True if one of the note's signatures is this key's, and right.
  [[nodiscard]] bool has_signed(SignedNote const& note) const;

 private:
  std::string name_;
  std::string public_key_;
};

/// The checkpoint of a note that the key signed. EvidenceInvalid says why it is none.
[[nodiscard]] Result<Checkpoint> open_checkpoint(std::string_view note, VerifierKey const& key);

}  // namespace aether::journal
