// SPDX-License-Identifier: Apache-2.0
// Inside of this room: the first lines of HTTP/1 messages, read strictly and without copies. Pure.
//
// Strict where two readers could disagree about where a message ends (RFC 9112, 11.2): what is not
// exactly right is refused, not mended.
#pragma once
#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

namespace aether::functions {

/// Finds the end of a head in bytes that come in pieces.
class HeadScan {
 public:
  enum class Step : std::uint8_t { NeedMore, Done, BareLineEnd };
  /// `bytes`: all that came so far. Done: the head is its first length() bytes.
  [[nodiscard]] Step advance(std::string_view bytes);
  [[nodiscard]] std::size_t length() const { return at_; }
  /// LF alone ends a line too: for answers, which are written anew before anybody reads them.
  bool lenient = false;

 private:
  std::size_t at_ = 0;  // begin of the line that is not complete
};

/// How the receiver knows where a body ends.
enum class BodyKind : std::uint8_t { None, Length, Chunked, UntilClose };
struct BodyFrame {
  BodyKind kind = BodyKind::None;
  std::uint64_t length = 0;
};

/// A line of a head. Both are views into it.
struct HeadField {
  std::string_view name;
  std::string_view value;
};
/// The first value of that name (in any case), or empty.
[[nodiscard]] std::string_view find_field(std::vector<HeadField> const& fields,
                                          std::string_view name);
/// Whether a list such as "keep-alive, Upgrade" has the word, in any case.
[[nodiscard]] bool list_has(std::string_view list, std::string_view word);

/// Why a message is not taken: the answer it gets.
struct HeadRefusal {
  int status = 400;
  std::string detail;
};

/// Views into the head that was parsed. Can be used again: its memory is kept.
struct RequestHead {
  std::string_view method;
  std::string_view target;     ///< Origin form ("/path?query") or "*".
  std::string_view authority;  ///< Host, or what the absolute form names.
  bool http_1_0 = false;
  bool keep_alive = true;
  bool expects_continue = false;
  bool asks_upgrade = false;
  BodyFrame body;
  std::vector<HeadField> fields;
};
/// `head` ends with its empty line.
[[nodiscard]] std::expected<void, HeadRefusal> parse_request_head(std::string_view head,
                                                                  RequestHead& request);

struct AnswerHead {
  int status = 0;
  std::string_view reason;
  bool http_1_0 = false;
  bool keep_alive = true;
  BodyFrame body;  ///< As it stands in the head: whether there is one depends on the request too.
  std::vector<HeadField> fields;
};
/// Gives the reason why this is no answer.
[[nodiscard]] std::expected<void, std::string> parse_answer_head(std::string_view head,
                                                                 AnswerHead& answer);

}  // namespace aether::functions
