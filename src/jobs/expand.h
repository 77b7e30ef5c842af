// SPDX-License-Identifier: Apache-2.0
// References in texts: "${node.path.to.member}" takes what an earlier node gave. Pure.
//
// A text that is one reference and nothing else becomes the value itself, whatever its type is; in
// a longer text a value becomes its text (a string as it is, all else as canonical JSON). "$${" is
// a plain "${". "${a.b:-text}" is "text" where the value is missing or null. Members are reached by
// ".name", ".0" (of a list) and ["any name"]. A member of null is null: so all of a skipped node
// is.
#pragma once
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace aether::jobs {

/// What a text may become once it is expanded, and a value in all: the end of texts that double.
inline constexpr std::size_t kExpandedBytesMax = 1 << 20;

struct Reference {
  std::string head;               ///< The node's id, or input, run, args.
  std::vector<std::string> path;  ///< Members below it.
  std::optional<std::string> otherwise;
  std::string text;        ///< As it was written, with "${" and "}".
  std::size_t offset = 0;  ///< In its text.
};
/// A text in pieces: each a literal, or a reference.
struct TextPiece {
  std::string literal;
  std::optional<Reference> reference;
};

/// The value of a head; nullptr if there is none.
using Scope = std::function<boost::json::value const*(std::string_view head)>;

/// RequestInvalid says what is wrong with the first wrong reference.
[[nodiscard]] Result<std::vector<TextPiece>> parse_pieces(std::string_view text);
/// The reference that begins at `text[offset]` ("${"); moves `offset` behind its "}".
[[nodiscard]] Result<Reference> parse_reference(std::string_view text, std::size_t& offset);

/// What it refers to. RequestInvalid if there is no such member: it names those that there are.
[[nodiscard]] Result<boost::json::value> resolve(Reference const& reference, Scope const& scope);
/// The same where what is missing counts as null: in conditions.
[[nodiscard]] boost::json::value resolve_or_null(Reference const& reference, Scope const& scope);

/// The value with all its texts expanded; keys stay as they are.
[[nodiscard]] Result<boost::json::value> expand(boost::json::value const& value,
                                                Scope const& scope);
/// `text` as a text that expands to itself.
[[nodiscard]] std::string as_literal(std::string_view text);
/// How a value stands in a text.
[[nodiscard]] std::string text_of_value(boost::json::value const& value);

/// Calls `visit` for each text in the value, with its JSON pointer below `pointer`.
void visit_texts(
    boost::json::value const& value, std::string const& pointer,
    std::function<void(std::string_view text, std::string const& pointer)> const& visit);
/// `name` as a token of a JSON pointer (RFC 6901).
[[nodiscard]] std::string pointer_token(std::string_view name);

}  // namespace aether::jobs
