// SPDX-License-Identifier: Apache-2.0
// Reader: turns nodes into values and notes every mistake with its place, so that a whole file is
// judged in one go. A read that fails has told why and returns nothing. One Reader a file.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/address.h"
#include "base/result.h"
#include "base/time.h"
#include "config/config.h"
#include "config/loader.h"
#include "config/suggest.h"
#include "config/yaml_tree.h"

namespace aether::config {

class Reader {
 public:
  /// @param folder Relative paths are taken from here; may be empty.
  Reader(Environment const& environment, std::string folder)
      : environment_(environment), folder_(std::move(folder)) {}

  void mistake(Place place, std::string message);
  void warn(Place place, std::string message);
  [[nodiscard]] bool has_mistakes() const { return !mistakes_.empty(); }
  [[nodiscard]] std::size_t mistake_count() const { return mistakes_.size(); }
  [[nodiscard]] std::vector<Remark> take_mistakes();
  [[nodiscard]] std::vector<Remark> take_warnings();

  /// A scalar with its variables expanded.
  [[nodiscard]] std::optional<std::string> text(Node const& node);
  /// The same; empty text is a mistake.
  [[nodiscard]] std::optional<std::string> word(Node const& node);
  /// The value inside a Result, or a mistake at the node.
  template <class T>
  std::optional<T> accept(Node const& node, Result<T> result) {
    if (result) return std::move(*result);
    mistake(node.place, result.error().message());
    return std::nullopt;
  }
  /// A mistake unless the node is of the kind; `wanted` says what belongs here, with an example.
  [[nodiscard]] bool expect(Node const& node, Node::Kind kind, std::string_view wanted);
  /// The items of a list of at most `max`; nothing and a mistake otherwise.
  [[nodiscard]] std::span<Node const* const> items(Node const& node, std::size_t max,
                                                   std::string_view wanted);
  /// Takes `bytes` from what a Config may weigh once it is expanded.
  [[nodiscard]] bool charge(Place place, std::size_t bytes);
  [[nodiscard]] std::size_t charged() const { return charged_; }

  [[nodiscard]] std::string const& folder() const { return folder_; }

  /// While it lives, mistakes are told to lie in `part` ("service", "env[2]").
  class Scope {
   public:
    Scope(Reader& reader, std::string part) : reader_(reader) {
      reader_.scope_.push_back(std::move(part));
    }
    ~Scope() { reader_.scope_.pop_back(); }
    Scope(Scope const&) = delete;
    Scope& operator=(Scope const&) = delete;

   private:
    Reader& reader_;
  };

 private:
  [[nodiscard]] std::string scoped(std::string message) const;

  Environment const& environment_;
  std::string folder_;
  std::vector<std::string> scope_;
  std::vector<Remark> mistakes_;
  std::vector<Remark> warnings_;
  std::size_t charged_ = 0;
};

/// ${NAME}, ${NAME:-default} and $$ in a value. The error's message says what is wrong.
[[nodiscard]] Result<std::string> expand(std::string_view text, Environment const& environment);

// Readers of one kind of value each: std::optional<T> read(Reader&, Node const&).
[[nodiscard]] std::optional<std::string> read_text(Reader& reader, Node const& node);
[[nodiscard]] std::optional<std::string> read_word(Reader& reader, Node const& node);
/// A path; a relative one is taken from the file's folder.
[[nodiscard]] std::optional<std::string> read_path(Reader& reader, Node const& node);
[[nodiscard]] std::optional<std::string> read_absolute_path(Reader& reader, Node const& node);
[[nodiscard]] std::optional<bool> read_bool(Reader& reader, Node const& node);
[[nodiscard]] std::optional<std::int64_t> read_integer(Reader& reader, Node const& node,
                                                       std::int64_t min, std::int64_t max);
/// 0 to 30 days.
[[nodiscard]] std::optional<Duration> read_duration(Reader& reader, Node const& node);
/// The same without 0.
[[nodiscard]] std::optional<Duration> read_timeout(Reader& reader, Node const& node);
[[nodiscard]] std::optional<std::uint64_t> read_size(Reader& reader, Node const& node);
[[nodiscard]] std::optional<double> read_cpu(Reader& reader, Node const& node);
[[nodiscard]] std::optional<std::string> read_address(Reader& reader, Node const& node);
/// An address that a client can connect to: a TCP one with a port, or a unix stream.
[[nodiscard]] std::optional<std::string> read_target(Reader& reader, Node const& node);
/// "http://..." or "/path".
[[nodiscard]] std::optional<std::string> read_url(Reader& reader, Node const& node);
[[nodiscard]] std::optional<Command> read_command(Reader& reader, Node const& node);
/// A list of "K=V", or a map.
[[nodiscard]] std::optional<Variables> read_variables(Reader& reader, Node const& node);
[[nodiscard]] std::optional<std::vector<std::string>> read_words(Reader& reader, Node const& node);

template <std::int64_t Min, std::int64_t Max, class T = int>
std::optional<T> read_number(Reader& reader, Node const& node) {
  auto const number = read_integer(reader, node, Min, Max);
  return number ? std::optional<T>(static_cast<T>(*number)) : std::nullopt;
}

/// One word of an enumeration.
template <class T>
struct Choice {
  std::string_view word;
  T value;
};

template <auto const& Choices>
auto read_choice(Reader& reader, Node const& node) -> std::optional<decltype(Choices[0].value)> {
  auto const word = reader.word(node);
  if (!word) return std::nullopt;
  std::vector<std::string_view> known;
  std::string all;
  for (auto const& choice : Choices) {
    if (choice.word == *word) return choice.value;
    known.push_back(choice.word);
    all += (all.empty() ? "" : ", ") + std::string(choice.word);
  }
  reader.mistake(node.place, "\"" + *word + "\" is not one of " + all + did_you_mean(*word, known));
  return std::nullopt;
}

}  // namespace aether::config
