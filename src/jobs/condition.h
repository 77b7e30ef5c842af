// SPDX-License-Identifier: Apache-2.0
// Conditions of `when` and `if`: small expressions over references. Pure, and never fails once it
// is parsed: what is missing is null, and what cannot be ordered is not before anything.
//
//   either  = both { ("||" | "or") both }          both    = negated { ("&&" | "and") negated }
//   negated = ("!" | "not") negated | compared
//   compared = value [ ("==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "contains") value ]
//   value   = ${reference} | number | "text" | 'text' | true | false | null | "(" either ")"
//
// Alone, null, false, 0, "", [] and {} are false; all else is true.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "jobs/expand.h"

namespace aether::jobs {

class Condition {
 public:
  enum class Kind : std::uint8_t {
    Literal,
    Reference,
    Not,
    And,
    Or,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Contains,
  };
  struct Part {
    Kind kind = Kind::Literal;
    boost::json::value literal;
    Reference reference;
    std::size_t left = 0, right = 0;  ///< Of parts().
  };

  /// RequestInvalid names the column (from 1) of the mistake, and what belongs there.
  [[nodiscard]] static Result<Condition> parse(std::string_view text);
  /// A condition that always comes to the same: `when: false`.
  [[nodiscard]] static Condition constant(bool value);

  [[nodiscard]] bool holds(Scope const& scope) const;
  [[nodiscard]] std::vector<Part> const& parts() const { return parts_; }

 private:
  friend class ConditionParser;
  [[nodiscard]] boost::json::value value_of(std::size_t part, Scope const& scope) const;

  std::vector<Part> parts_;  ///< Never empty, but in an object that was only made.
  std::size_t whole_ = 0;
};

/// Whether a value counts as true.
[[nodiscard]] bool is_truthy(boost::json::value const& value);

}  // namespace aether::jobs
