// SPDX-License-Identifier: Apache-2.0
// What is wrong with a graph or an agent: all of it at once, each with the place.
#pragma once
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/time.h"

namespace aether::jobs {

/// Told at once; more are counted.
inline constexpr std::size_t kGraphMistakesMax = 50;

struct GraphMistake {
  std::string pointer;  ///< RFC 6901, of the value; of the whole: empty.
  bool at_key = false;  ///< The member's name is wrong, and not its value.
  std::string message;
  bool operator==(GraphMistake const&) const = default;
};

class GraphMistakes {
 public:
  void add(std::string pointer, std::string message);
  void add_key(std::string pointer, std::string message);
  [[nodiscard]] bool empty() const { return all_.empty(); }
  [[nodiscard]] std::vector<GraphMistake> const& all() const { return all_; }
  /// One line each: "/nodes/2/after/0: ...".
  [[nodiscard]] std::string lines() const;

 private:
  std::vector<GraphMistake> all_;
};

/// The members of one object, read with their kinds; each read that fails has told why.
class MemberReader {
 public:
  /// @param what "node", "agent": for messages.
  MemberReader(boost::json::value const& value, std::string pointer, std::string_view what,
               GraphMistakes& mistakes);

  [[nodiscard]] bool is_object() const { return object_ != nullptr; }
  /// Tells of each member that is none of these, with the nearest one that is.
  void expect_only(std::span<std::string_view const> known);
  [[nodiscard]] boost::json::value const* find(std::string_view name) const;
  /// Absent or null: nothing.
  [[nodiscard]] std::optional<std::string> text(std::string_view name);
  [[nodiscard]] std::optional<std::int64_t> integer(std::string_view name, std::int64_t min,
                                                    std::int64_t max);
  [[nodiscard]] std::optional<Duration> duration(std::string_view name);
  /// Of texts; a single text counts as a list of one.
  [[nodiscard]] std::vector<std::string> texts(std::string_view name, std::size_t max);
  [[nodiscard]] std::string pointer_of(std::string_view name) const;
  void mistake(std::string_view name, std::string message);

 private:
  boost::json::object const* object_;
  std::string pointer_;
  std::string_view what_;
  GraphMistakes& mistakes_;
};

}  // namespace aether::jobs
