// SPDX-License-Identifier: Apache-2.0
// The form of a file of evidence. What it says is judged in evidence.cc.
#include <charconv>

#include <fmt/format.h>

#include "journal/evidence.h"

namespace aether::journal {
namespace {

constexpr std::string_view kFirstLine = "aether-evidence/1\n";
constexpr std::string_view kErased = "erased";

/// Reads from top to bottom; the first thing that is not as expected spoils all.
class FileReader {
 public:
  explicit FileReader(std::string_view text) : rest_(text) {}

  void expect(std::string_view text) {
    good_ = good_ && rest_.starts_with(text);
    if (good_) rest_.remove_prefix(text.size());
  }
  std::string_view line() {
    std::size_t const end = rest_.find('\n');
    good_ = good_ && end != std::string_view::npos;
    if (!good_) return {};
    std::string_view const text = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return text;
  }
  std::string_view line_after(std::string_view word) {
    expect(word);
    return line();
  }
  /// `word N`: how many lines follow. Each has at least its line break, which bounds N.
  std::size_t count_after(std::string_view word) {
    std::string_view const text = line_after(word);
    std::size_t count = 0;
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
    good_ =
        good_ && error == std::errc() && end == text.data() + text.size() && count <= rest_.size();
    return good_ ? count : 0;
  }
  void spoil_unless(bool good) { good_ = good_ && good; }
  [[nodiscard]] bool good() const { return good_; }
  [[nodiscard]] std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
  bool good_ = true;
};

std::string blob_line(Blob const& blob) {
  if (!blob.content) return fmt::format("{} {}\n", text_of(blob.hash), kErased);
  return fmt::format("{} {} {}\n", text_of(blob.hash), to_base64(blob.salt),
                     to_base64(*blob.content));
}

std::optional<Blob> blob_of_line(std::string_view line) {
  std::size_t const first = line.find(' ');
  if (first == std::string_view::npos) return std::nullopt;
  std::optional<Hash> const hash = hash_of_text(line.substr(0, first));
  std::string_view const rest = line.substr(first + 1);
  if (!hash) return std::nullopt;
  if (rest == kErased) return Blob{.hash = *hash, .salt = {}, .content = std::nullopt};
  std::size_t const second = rest.find(' ');
  if (second == std::string_view::npos) return std::nullopt;
  std::optional<std::string> const salt = from_base64(rest.substr(0, second));
  std::optional<std::string> content = from_base64(rest.substr(second + 1));
  if (!salt || !content) return std::nullopt;
  return Blob{.hash = *hash, .salt = *salt, .content = std::move(content)};
}

}  // namespace

std::string evidence_text(Evidence const& evidence) {
  std::string text(kFirstLine);
  text += fmt::format("key {}\nstream {}\nevents {}\n", evidence.key, evidence.stream,
                      evidence.lines.size());
  for (std::string const& line : evidence.lines) {
    text += line;
    text += '\n';
  }
  text += fmt::format("blobs {}\n", evidence.blobs.size());
  for (Blob const& blob : evidence.blobs) text += blob_line(blob);
  text += fmt::format("proof {}\n", evidence.proof.size());
  for (Hash const& hash : evidence.proof) text += text_of(hash) + "\n";
  text += "checkpoint\n" + evidence.note;
  return text;
}

Result<Evidence> parse_evidence(std::string_view text) {
  FileReader reader(text);
  Evidence evidence;
  reader.expect(kFirstLine);
  evidence.key = reader.line_after("key ");
  evidence.stream = reader.line_after("stream ");
  for (std::size_t left = reader.count_after("events "); left > 0 && reader.good(); --left) {
    evidence.lines.emplace_back(reader.line());
  }
  for (std::size_t left = reader.count_after("blobs "); left > 0 && reader.good(); --left) {
    std::optional<Blob> blob = blob_of_line(reader.line());
    reader.spoil_unless(blob.has_value());
    if (blob) evidence.blobs.push_back(std::move(*blob));
  }
  for (std::size_t left = reader.count_after("proof "); left > 0 && reader.good(); --left) {
    std::optional<Hash> const hash = hash_of_text(reader.line());
    reader.spoil_unless(hash.has_value());
    if (hash) evidence.proof.push_back(*hash);
  }
  reader.expect("checkpoint\n");
  evidence.note = reader.rest();
  // One content has one text: "007" for 7 and the like are no evidence.
  if (reader.good() && evidence_text(evidence) == text) return evidence;
  return fail(ErrorCode::EvidenceInvalid,
              fmt::format("this is no file of evidence, or it was changed: what stands {} bytes "
                          "before its end is not as it is written",
                          reader.rest().size()));
}

}  // namespace aether::journal
