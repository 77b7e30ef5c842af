// SPDX-License-Identifier: Apache-2.0
// Inside of this room: OpenAI's chat completions, as values. Pure. What a server says is not
// trusted: every length has a limit, every type is looked at.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/fwd.hpp>

#include "base/result.h"
#include "tools/sse.h"

namespace aether::tools {

/// Of one answer, text and arguments together.
inline constexpr std::size_t kChatBytesMax = std::size_t{8} * 1024 * 1024;
inline constexpr std::size_t kChatToolCallsMax = 256;

struct ChatToolCall {
  std::string id;
  std::string name;
  std::string arguments;  ///< JSON text, as far as the model can write it.
  friend bool operator==(ChatToolCall const&, ChatToolCall const&) = default;
};
struct ChatUsage {
  std::uint64_t prompt = 0;
  std::uint64_t completion = 0;
  friend bool operator==(ChatUsage const&, ChatUsage const&) = default;
};
struct ChatAnswer {
  std::string model;
  std::string content;
  std::vector<ChatToolCall> tool_calls;
  std::string finish_reason;
  std::optional<ChatUsage> usage;
  friend bool operator==(ChatAnswer const&, ChatAnswer const&) = default;
};

/// A whole answer ("chat.completion"). ProtocolViolation if it is none.
[[nodiscard]] Result<ChatAnswer> read_chat_answer(std::string_view body);

/// An answer from the body of a response, stream or whole, in pieces as they come. The same bytes
/// come to the same answer however they are cut.
class ChatAssembler {
 public:
  /// The text that these bytes add. ProtocolViolation: it is no stream of a chat, or an error of
  /// the model's server, which the message tells. LimitReached. Feed nothing after a fault.
  [[nodiscard]] Result<std::string> feed(std::string_view bytes);
  /// The body has ended. ProtocolViolation: before the answer had.
  [[nodiscard]] Result<ChatAnswer> finish() &&;

 private:
  enum class Form : std::uint8_t { Unknown, Whole, Stream };
  Status take_event(std::string_view data, std::string& added);
  Status take_delta(boost::json::object const& delta, std::string& added);
  Status take_tool_call(boost::json::value const& piece, std::size_t place);
  Status count(std::size_t bytes);

  Form form_ = Form::Unknown;
  std::string whole_;
  SseParser sse_;
  ChatAnswer answer_;
  std::size_t bytes_ = 0;
  bool done_ = false;
};

/// {content, tool_calls [{id, name, arguments}], finish_reason, model, usage}
[[nodiscard]] boost::json::value chat_value(ChatAnswer const& answer);
/// The "messages" and "tools" of args in OpenAI's form. RequestInvalid names the member.
[[nodiscard]] Result<boost::json::value> wire_messages(boost::json::value const& args);
[[nodiscard]] Result<boost::json::value> wire_tools(boost::json::value const& args);

}  // namespace aether::tools
