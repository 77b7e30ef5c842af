// SPDX-License-Identifier: Apache-2.0
// BodyWriter and BodyReader: the two directions of one list of members (run_event_members.h).
// Private to the codec.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/time.h"
#include "jobs/run_event_codec.h"

namespace aether::jobs {

/// Numbers beyond are no integers in JSON (RFC 8785).
inline constexpr std::uint64_t kIntegerMax = std::uint64_t{1} << 53U;

/// As JSON writes a text.
[[nodiscard]] std::string quoted(std::string_view text);

/// Writes a body as canonical JSON: members are given in their order (ASCII), empty ones are left
/// out. The first mistake is kept.
class BodyWriter {
 public:
  template <class T>
  using Ref = T const&;

  BodyWriter(journal::Batch& batch, SaltSource const& salts) : batch_(batch), salts_(salts) {}

  void text(std::string_view name, std::string const& text);
  /// As text, but may become a blob.
  void long_text(std::string_view name, std::string const& text);
  void value(std::string_view name, boost::json::value const& value);
  void number(std::string_view name, std::uint64_t number);
  void number(std::string_view name, std::uint32_t number);
  void number(std::string_view name, int number);
  void number(std::string_view name, std::optional<std::uint64_t> const& number);
  void real(std::string_view name, double number);
  void real(std::string_view name, std::optional<double> const& number);
  void flag(std::string_view name, bool flag);
  void time(std::string_view name, std::optional<WallTime> const& time);
  void duration(std::string_view name, std::optional<Duration> const& duration);
  void run(std::string_view name, RunId const& run) { text(name, run.text); }
  template <class E>
  void word(std::string_view name, E value) {
    raw(name, '"' + std::string(text_of(value)) + '"');
  }
  /// Left out if it is equal to a T that nobody touched.
  template <class T>
  void object(std::string_view name, T const& part) {
    if (part == T()) return;
    raw(name, "{");
    first_ = true;
    members(*this, part);
    body_ += '}';
    first_ = false;
  }
  template <class T>
  void object(std::string_view name, std::optional<T> const& part) {
    if (part) object(name, *part);
  }

  /// The body, and the addresses of the blobs that were added to the batch.
  [[nodiscard]] Result<std::string> end() &&;
  [[nodiscard]] std::vector<journal::BlobHash> const& blobs() const { return blobs_; }

 private:
  void raw(std::string_view name, std::string_view json);
  void canonical(std::string_view name, std::string json, std::size_t depth);
  void wrong(std::string_view name, std::string_view why);

  journal::Batch& batch_;
  SaltSource const& salts_;
  std::string body_ = "{";
  std::vector<journal::BlobHash> blobs_;
  std::optional<Error> mistake_;
  bool first_ = true;
};

enum class Values : std::uint8_t { Read, Skip };

/// Reads a body. The first thing that is not as expected spoils all; each member must be asked for.
class BodyReader {
 public:
  template <class T>
  using Ref = T&;

  BodyReader(journal::Event const& event, BlobSource const* blobs, Values values);

  void text(std::string_view name, std::string& text);
  void long_text(std::string_view name, std::string& text);
  void value(std::string_view name, boost::json::value& value);
  void number(std::string_view name, std::uint64_t& number);
  void number(std::string_view name, std::uint32_t& number);
  void number(std::string_view name, int& number);
  void number(std::string_view name, std::optional<std::uint64_t>& number);
  void real(std::string_view name, double& number);
  void real(std::string_view name, std::optional<double>& number);
  void flag(std::string_view name, bool& flag);
  void time(std::string_view name, std::optional<WallTime>& time);
  void duration(std::string_view name, std::optional<Duration>& duration);
  void run(std::string_view name, RunId& run) { text(name, run.text); }
  template <class E>
  void word(std::string_view name, E& value) {
    std::string word;
    text(name, word);
    Result<E> const parsed = parse(word, value);
    if (parsed) value = *parsed;
    if (!parsed) wrong(name, parsed.error().message());
  }
  template <class T>
  void object(std::string_view name, T& part) {
    boost::json::value const* const found = take(name);
    if (found == nullptr) return;
    Level const outer = enter(name, *found);
    members(*this, part);
    leave(outer);
  }
  template <class T>
  void object(std::string_view name, std::optional<T>& part) {
    if (object_->contains(name)) object(name, part.emplace());
  }

  /// StoreDamaged if anything was not as expected, or is left over.
  [[nodiscard]] Status end();
  /// An outline reads no values.
  [[nodiscard]] bool reads_values() const { return values_ == Values::Read; }

 private:
  /// What is read while a nested object is.
  struct Level {
    boost::json::object const* object;
    std::size_t taken;
  };
  template <class E>
  static Result<E> parse(std::string_view word, E) {
    return parse_word<E>(word);
  }
  static Result<Policy> parse(std::string_view word, Policy) { return tools::parse_policy(word); }
  static Result<EffectOutcome> parse(std::string_view word, EffectOutcome) {
    return tools::parse_effect_outcome(word);
  }
  boost::json::value const* take(std::string_view name);
  Level enter(std::string_view name, boost::json::value const& value);
  void leave(Level outer);
  std::optional<std::uint64_t> unsigned_of(std::string_view name);
  std::optional<boost::json::value> blob_of(std::string_view name);
  void check_left();
  void wrong(std::string_view name, std::string_view why);

  journal::Event const& event_;
  BlobSource const* blobs_;
  Values values_;
  boost::json::value body_;
  boost::json::object const* object_ = nullptr;
  std::size_t taken_ = 0;  ///< Members of `object_` that were asked for.
  std::size_t blobs_named_ = 0;
  std::optional<Error> mistake_;
};

}  // namespace aether::jobs
