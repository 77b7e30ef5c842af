// SPDX-License-Identifier: Apache-2.0
#include "jobs/expand.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include <fmt/format.h>

namespace aether::jobs {
namespace {

namespace json = boost::json;

bool is_member_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-';
}

Failure reference_mistake(std::string_view text, std::string_view reason) {
  constexpr std::size_t shown = 80;
  return fail(
      ErrorCode::RequestInvalid,
      fmt::format("\"{}\" is not a reference: {}; write ${{node.member}}, ${{input.member}}, "
                  "or $${{ for a plain ${{",
                  text.substr(0, shown), reason));
}

std::string take_member(std::string_view text, std::size_t& at) {
  std::size_t const begin = at;
  // A "-" right behind a ":" belongs to the default, and cannot be reached here.
  while (at < text.size() && is_member_character(text[at])) ++at;
  return std::string(text.substr(begin, at - begin));
}

/// ["any name"], with `at` behind the bracket.
Result<std::string> take_quoted_member(std::string_view text, std::size_t& at,
                                       std::string_view shown) {
  if (at < text.size() && text[at] == '"') {
    auto const end = text.find('"', at + 1);
    if (end == std::string_view::npos || end + 1 >= text.size() || text[end + 1] != ']')
      return reference_mistake(shown, "[\"...\"] does not end");
    std::string name(text.substr(at + 1, end - at - 1));
    at = end + 2;
    return name;
  }
  std::string name = take_member(text, at);
  if (name.empty() || at >= text.size() || text[at] != ']')
    return reference_mistake(shown, "[...] takes a number or a name in quotes");
  ++at;
  return name;
}

/// The member of a value; nullptr if it has none of that name.
json::value const* member_of(json::value const& value, std::string const& name) {
  if (auto const* object = value.if_object()) return object->if_contains(name);
  auto const* array = value.if_array();
  if (array == nullptr) return nullptr;
  std::size_t index = 0;
  auto const [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
  if (error != std::errc() || end != name.data() + name.size()) return nullptr;
  return array->if_contains(index);
}

std::string members_of(json::value const& value) {
  if (auto const* array = value.if_array()) return fmt::format("it is a list of {}", array->size());
  auto const* object = value.if_object();
  if (object == nullptr) return "it has no members";
  constexpr std::size_t listed = 12;
  std::vector<std::string> names;
  for (auto const& member : *object) names.emplace_back(member.key());
  std::ranges::sort(names);
  std::string all;
  for (std::size_t i = 0; i < names.size() && i < listed; ++i)
    all += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > listed) all += ", ...";
  return all.empty() ? "it is empty" : "it has " + all;
}

/// Spends from what an expanded value may weigh.
Status spend(std::size_t& budget, std::size_t bytes) {
  if (bytes > budget) {
    return fail(ErrorCode::LimitReached,
                fmt::format("what the references stand for is larger than {} bytes; pass less "
                            "from node to node",
                            kExpandedBytesMax));
  }
  budget -= bytes;
  return {};
}

Result<json::value> expand_text(std::string_view text, Scope const& scope, std::size_t& budget) {
  TRY_ASSIGN(auto const pieces, parse_pieces(text));
  if (pieces.size() == 1 && pieces[0].reference) {
    TRY_ASSIGN(json::value value, resolve(*pieces[0].reference, scope));
    TRY(spend(budget, text_of_value(value).size()));
    return value;
  }
  std::string whole;
  for (TextPiece const& piece : pieces) {
    std::string part = piece.literal;
    if (piece.reference) {
      TRY_ASSIGN(json::value const value, resolve(*piece.reference, scope));
      part = text_of_value(value);
    }
    TRY(spend(budget, part.size()));
    whole += part;
  }
  return json::value(json::string(whole));
}

Result<json::value> expand_within(json::value const& value, Scope const& scope,
                                  std::size_t& budget) {
  if (auto const* text = value.if_string())
    return expand_text(std::string_view(text->data(), text->size()), scope, budget);
  if (auto const* array = value.if_array()) {
    json::array result;
    result.reserve(array->size());
    for (json::value const& item : *array) {
      TRY_ASSIGN(json::value expanded, expand_within(item, scope, budget));
      result.push_back(std::move(expanded));
    }
    return json::value(std::move(result));
  }
  if (auto const* object = value.if_object()) {
    json::object result;
    for (auto const& member : *object) {
      TRY_ASSIGN(json::value expanded, expand_within(member.value(), scope, budget));
      result.insert_or_assign(member.key(), std::move(expanded));
    }
    return json::value(std::move(result));
  }
  return value;
}

}  // namespace

Result<Reference> parse_reference(std::string_view text, std::size_t& offset) {
  Reference reference;
  reference.offset = offset;
  std::string_view const shown = text.substr(offset);
  std::size_t at = offset + 2;
  reference.head = take_member(text, at);
  if (reference.head.empty()) return reference_mistake(shown, "a name is missing behind ${");
  while (at < text.size() && (text[at] == '.' || text[at] == '[')) {
    bool const bracket = text[at++] == '[';
    if (bracket) {
      TRY_ASSIGN(std::string name, take_quoted_member(text, at, shown));
      reference.path.push_back(std::move(name));
      continue;
    }
    reference.path.push_back(take_member(text, at));
    if (reference.path.back().empty())
      return reference_mistake(shown, "a name is missing behind .");
  }
  if (text.substr(at).starts_with(":-")) {
    auto const end = text.find('}', at);
    if (end == std::string_view::npos) return reference_mistake(shown, "it does not end with }");
    reference.otherwise = std::string(text.substr(at + 2, end - at - 2));
    at = end;
  }
  if (at >= text.size()) return reference_mistake(shown, "it does not end with }");
  if (text[at] != '}')
    return reference_mistake(shown, fmt::format("\"{}\" has no place in it", text[at]));
  offset = at + 1;
  reference.text = std::string(text.substr(reference.offset, offset - reference.offset));
  return reference;
}

Result<std::vector<TextPiece>> parse_pieces(std::string_view text) {
  std::vector<TextPiece> pieces;
  std::string literal;
  std::size_t at = 0;
  while (at < text.size()) {
    if (text.substr(at).starts_with("$${")) {
      literal += "${";
      at += 3;
    } else if (text.substr(at).starts_with("${")) {
      TRY_ASSIGN(Reference reference, parse_reference(text, at));
      if (!literal.empty()) pieces.push_back({std::exchange(literal, {}), std::nullopt});
      pieces.push_back({{}, std::move(reference)});
    } else {
      literal += text[at++];
    }
  }
  if (!literal.empty()) pieces.push_back({std::move(literal), std::nullopt});
  return pieces;
}

Result<json::value> resolve(Reference const& reference, Scope const& scope) {
  json::value const* value = scope(reference.head);
  std::string walked = reference.head;
  for (std::string const& name : reference.path) {
    if (value == nullptr || value->is_null()) break;
    json::value const* member = member_of(*value, name);
    if (member == nullptr && !reference.otherwise) {
      return fail(ErrorCode::RequestInvalid,
                  fmt::format("{}: {} has no member \"{}\" ({})", reference.text, walked, name,
                              members_of(*value)));
    }
    value = member;
    walked += "." + name;
  }
  if (value == nullptr && !reference.otherwise) {
    return fail(ErrorCode::RequestInvalid, fmt::format("{}: there is nothing called \"{}\" here",
                                                       reference.text, reference.head));
  }
  if (reference.otherwise && (value == nullptr || value->is_null()))
    return json::value(json::string(*reference.otherwise));
  return *value;
}

json::value resolve_or_null(Reference const& reference, Scope const& scope) {
  auto value = resolve(reference, scope);
  return value ? std::move(*value) : json::value();
}

Result<json::value> expand(json::value const& value, Scope const& scope) {
  std::size_t budget = kExpandedBytesMax;
  return expand_within(value, scope, budget);
}

std::string as_literal(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i).starts_with("${")) result += '$';
    result += text[i];
  }
  return result;
}

std::string text_of_value(json::value const& value) {
  auto const* text = value.if_string();
  return text != nullptr ? std::string(text->data(), text->size()) : canonical_json(value);
}

std::string pointer_token(std::string_view name) {
  std::string token;
  for (char const c : name) {
    if (c == '~')
      token += "~0";
    else if (c == '/')
      token += "~1";
    else
      token += c;
  }
  return token;
}

void visit_texts(json::value const& value, std::string const& pointer,
                 std::function<void(std::string_view, std::string const&)> const& visit) {
  if (auto const* text = value.if_string()) {
    visit(std::string_view(text->data(), text->size()), pointer);
  } else if (auto const* array = value.if_array()) {
    for (std::size_t i = 0; i < array->size(); ++i)
      visit_texts((*array)[i], pointer + "/" + std::to_string(i), visit);
  } else if (auto const* object = value.if_object()) {
    for (auto const& member : *object)
      visit_texts(member.value(), pointer + "/" + pointer_token(member.key()), visit);
  }
}

}  // namespace aether::jobs
