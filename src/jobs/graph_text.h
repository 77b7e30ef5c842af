// SPDX-License-Identifier: Apache-2.0
// A TaskGraph as text: YAML or JSON, with the place of each of its members, so that each mistake
// can be told as file:line:column.
#pragma once
#include <map>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "jobs/graph_mistake.h"

namespace aether::jobs {

struct TextPlace {
  int line = 0;    ///< From 1; 0 is the whole file.
  int column = 0;  ///< From 1, in bytes.
  bool operator==(TextPlace const&) const = default;
};

struct GraphText {
  boost::json::value value;
  std::map<std::string, TextPlace, std::less<>> values;  ///< By JSON pointer; the root's is "".
  std::map<std::string, TextPlace, std::less<>> keys;    ///< Of members: where the name stands.

  /// Of the member, or of the nearest one around it that is there.
  [[nodiscard]] TextPlace place_of(GraphMistake const& mistake) const;
};

/// JSON if its first character is "{" or "[", else YAML. RequestInvalid has a line
/// "NAME:LINE:COLUMN: ..." for the first mistake of syntax, or for each key that is given twice.
[[nodiscard]] Result<GraphText> read_graph_text(std::string_view text, std::string_view name);

/// The same, and checks it: RequestInvalid has a line for each mistake.
[[nodiscard]] Result<boost::json::value> load_graph_text(std::string_view text,
                                                         std::string_view name);

/// A plain scalar of YAML as a value: null, true, false, a number, or else a text.
[[nodiscard]] boost::json::value value_of_scalar(std::string_view text);

}  // namespace aether::jobs
