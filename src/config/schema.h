// SPDX-License-Identifier: Apache-2.0
// The schema: for each section a table of keys. The same rows parse the file, suggest the key that
// was meant, and write docs/configuration.md.
#pragma once
#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/reader.h"

namespace aether::config {

/// One key as the reference shows it.
struct Row {
  std::string_view key;
  std::string_view type;
  std::string_view fallback;  ///< The default, as it would be written; empty: none.
  std::string_view meaning;
};

/// One key, and how its node is put into a T.
template <class T>
struct Field {
  Row row;
  void (*read)(Reader&, Node const&, T&);
};

/// One table of the reference.
struct Section {
  std::string_view path;   ///< "service.restart"
  std::string_view intro;  ///< What stands above the table.
  std::vector<Row> rows;
};

template <class T>
Section describe(std::string_view path, std::string_view intro, std::span<Field<T> const> fields) {
  Section section{path, intro, {}};
  for (Field<T> const& field : fields) section.rows.push_back(field.row);
  return section;
}

/// For a field's `read`: reads a value with `Read` and keeps it in a member.
template <auto Member, auto Read, class T>
void store(Reader& reader, Node const& node, T& target) {
  if (auto value = Read(reader, node)) target.*Member = std::move(*value);
}

/// Tells of a key that the table does not have.
void unknown_key(Reader& reader, Node::Entry const& entry,
                 std::vector<std::string_view> const& known);

/// Reads a map by its table. Keys without a value are mistakes; unknown keys are, too.
template <class T>
void read_map(Reader& reader, Node const& node, T& target, std::span<Field<T> const> fields) {
  if (!reader.expect(node, Node::Kind::Map, "a map of keys")) return;
  for (Node::Entry const& entry : node.entries) {
    auto const field =
        std::ranges::find(fields, entry.key, [](Field<T> const& f) { return f.row.key; });
    if (field == fields.end()) {
      std::vector<std::string_view> known;
      for (Field<T> const& f : fields) known.push_back(f.row.key);
      unknown_key(reader, entry, known);
      continue;
    }
    Reader::Scope const scope(reader, entry.key);
    if (entry.value->kind == Node::Kind::Null) {
      reader.mistake(entry.place, "has no value; give it one or remove the line");
    } else {
      field->read(reader, *entry.value, target);
    }
  }
}

/// Every section, in the order of the reference.
[[nodiscard]] std::vector<Section> all_sections();

}  // namespace aether::config
