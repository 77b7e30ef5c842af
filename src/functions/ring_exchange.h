// SPDX-License-Identifier: Apache-2.0
// RingExchange: the calls that are under way between the gateway and one handler with `ipc: ring`.
// Pure: messages in, messages out; who has the rings moves them. The handler is hostile: whatever
// it says is bounded, and nonsense is an error, after which nothing more is to be taken from it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <expected>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "functions/ring_message.h"

namespace aether::functions {

/// Bytes of an answer's head; more is nonsense.
inline constexpr std::size_t kRingHeadMax = 64 * 1024;

class RingExchange {
 public:
  /// One request and its answer, as far as they have come.
  struct Call {
    std::string head;     ///< Of the answer, with its empty line; whole when `has_head`.
    std::string body;     ///< Came, and was not taken yet.
    std::string failure;  ///< The handler gave it up: why.
    bool has_head = false;
    bool ended = false;                   ///< No more of the answer comes.
    bool sent_all = false;                ///< No more of the request goes.
    std::uint32_t credit = kRingWindow;   ///< Of the request's body, what may be sent now.
    std::uint32_t granted = kRingWindow;  ///< Of the answer's body, what may come still.
    std::uint32_t owed = 0;               ///< Was taken, and is not granted again yet.
  };

  /// @param message_max Bytes of one message that goes out, its head included.
  explicit RingExchange(std::size_t message_max);

  /// `body`: what has come of it, at most kRingWindow; the rest by send().
  std::uint32_t begin(std::string_view head, std::string_view body, bool is_all);
  /// At most as many bytes as the call has credit.
  void send(std::uint32_t call, std::string_view body, bool is_all);
  /// So many bytes of Call::body were used: they are erased, and others may come.
  void taken(std::uint32_t call, std::size_t bytes);
  /// It is forgotten. The handler is told, unless both sides have ended.
  void drop(std::uint32_t call);
  /// Null: there is none.
  [[nodiscard]] Call* find(std::uint32_t call);

  /// Of a record that came. The reason why it is nonsense.
  [[nodiscard]] std::expected<void, std::string> take(std::string_view record);
  /// The handler has said that it has attached.
  [[nodiscard]] bool greeted() const { return greeted_; }
  /// The calls for which something came since this was asked last.
  [[nodiscard]] std::vector<std::uint32_t> touched();

  /// What is to be written, oldest first. The owner pops what it has written.
  [[nodiscard]] std::deque<std::string>& outbox() { return outbox_; }
  [[nodiscard]] std::size_t live() const { return calls_.size(); }

 private:
  using Taken = std::expected<void, std::string>;
  Taken take_hello(RingMessage const& message);
  Taken take_answer(Call& call, RingMessage const& message);
  Taken take_body(Call& call, std::string_view bytes, bool end);
  static Taken take_window(Call& call, std::string_view content);
  void write_body(std::uint32_t id, RingKind kind, std::string_view bytes, bool is_all);

  std::size_t content_max_;
  std::uint32_t last_ = 0;
  bool wrapped_ = false;
  bool greeted_ = false;
  std::unordered_map<std::uint32_t, Call> calls_;
  std::vector<std::uint32_t> touched_;
  std::deque<std::string> outbox_;
};

}  // namespace aether::functions
