// SPDX-License-Identifier: Apache-2.0
#include "functions/ring_exchange.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"

namespace aether::functions {
namespace {

/// Grants in small numbers would cost a message each.
constexpr std::uint32_t kGrantFrom = kRingWindow / 2;
constexpr std::string_view kHeadEnd = "\r\n\r\n";

std::unexpected<std::string> nonsense(std::string reason) {
  return std::unexpected(std::move(reason));
}

}  // namespace

RingExchange::RingExchange(std::size_t message_max)
    : content_max_(std::min(message_max, kRingMessageMax) - kRingMessageHead) {
  AETHER_CHECK(message_max > 2 * kRingMessageHead);
}

// ---- To the handler

void RingExchange::write_body(std::uint32_t id, RingKind kind, std::string_view bytes,
                              bool is_all) {
  // The head that a Request begins with goes on in others; a body's pieces stand for themselves.
  while (bytes.size() > content_max_) {
    outbox_.push_back(write_ring_message({.call = id,
                                          .kind = kind,
                                          .more = kind == RingKind::Request,
                                          .content = bytes.substr(0, content_max_)}));
    bytes.remove_prefix(content_max_);
  }
  outbox_.push_back(
      write_ring_message({.call = id, .kind = kind, .end = is_all, .content = bytes}));
}

std::uint32_t RingExchange::begin(std::string_view head, std::string_view body, bool is_all) {
  AETHER_CHECK(body.size() <= kRingWindow);
  do {
    if (++last_ == 0) wrapped_ = true;
  } while (last_ == 0 || calls_.contains(last_));
  Call& call = calls_[last_];
  call.credit -= static_cast<std::uint32_t>(body.size());
  call.sent_all = is_all;
  if (head.size() + body.size() <= content_max_) {
    std::string whole(head);
    whole.append(body);
    write_body(last_, RingKind::Request, whole, is_all);
    return last_;
  }
  bool const has_more = !body.empty();
  write_body(last_, RingKind::Request, head, is_all && !has_more);
  if (has_more) write_body(last_, RingKind::Body, body, is_all);
  return last_;
}

void RingExchange::send(std::uint32_t id, std::string_view body, bool is_all) {
  Call* const call = find(id);
  if (call == nullptr) return;
  AETHER_CHECK(body.size() <= call->credit && !call->sent_all);
  call->credit -= static_cast<std::uint32_t>(body.size());
  call->sent_all = is_all;
  write_body(id, RingKind::Body, body, is_all);
}

void RingExchange::taken(std::uint32_t id, std::size_t bytes) {
  Call* const call = find(id);
  if (call == nullptr) return;
  AETHER_CHECK(bytes <= call->body.size());
  call->body.erase(0, bytes);
  call->owed += static_cast<std::uint32_t>(bytes);
  if (call->ended || call->owed < kGrantFrom) return;
  call->granted += call->owed;
  outbox_.push_back(
      write_ring_message({.call = id,
                          .kind = RingKind::Window,
                          .content = write_ring_number(std::exchange(call->owed, 0))}));
}

void RingExchange::drop(std::uint32_t id) {
  Call const* const call = find(id);
  if (call == nullptr) return;
  bool const is_over = (call->ended || !call->failure.empty()) && call->sent_all;
  calls_.erase(id);
  if (!is_over) outbox_.push_back(write_ring_message({.call = id, .kind = RingKind::Cancel}));
}

RingExchange::Call* RingExchange::find(std::uint32_t id) {
  auto const found = calls_.find(id);
  return found == calls_.end() ? nullptr : &found->second;
}

std::vector<std::uint32_t> RingExchange::touched() {
  return std::exchange(touched_, {});
}

// ---- From the handler

RingExchange::Taken RingExchange::take(std::string_view record) {
  auto const message = parse_ring_message(record);
  if (!message) return nonsense(message.error());
  if (message->kind == RingKind::Hello) return take_hello(*message);
  if (message->kind == RingKind::Request || message->kind == RingKind::Cancel)
    return nonsense("it asks, which only Aether does");
  if (message->call == 0 || (!wrapped_ && message->call > last_))
    return nonsense(fmt::format("it speaks of call {}, which was never made", message->call));
  Call* const call = find(message->call);
  // It may not have heard yet that nobody waits for it.
  if (call == nullptr) return {};
  touched_.push_back(message->call);
  if (message->kind == RingKind::Window) return take_window(*call, message->content);
  if (call->ended || !call->failure.empty())
    return nonsense(fmt::format("call {} goes on behind its end", message->call));
  if (message->kind == RingKind::Answer) return take_answer(*call, *message);
  if (message->kind == RingKind::Failure) {
    call->failure = message->content.empty() ? std::string_view("it gave no reason")
                                             : message->content.substr(0, 1024);
    return {};
  }
  if (!call->has_head) return nonsense(fmt::format("call {} has a body, no head", message->call));
  return take_body(*call, message->content, message->end);
}

RingExchange::Taken RingExchange::take_hello(RingMessage const& message) {
  auto const version = ring_number(message.content);
  if (message.call != 0 || !version) return nonsense("a hello that is none");
  if (*version != kRingProtocol)
    return nonsense(
        fmt::format("it speaks version {} of the protocol, not {}", *version, kRingProtocol));
  greeted_ = true;
  return {};
}

RingExchange::Taken RingExchange::take_answer(Call& call, RingMessage const& message) {
  if (call.has_head) return nonsense(fmt::format("call {} has two heads", message.call));
  std::size_t const looked =
      call.head.size() < kHeadEnd.size() ? 0 : call.head.size() - (kHeadEnd.size() - 1);
  call.head.append(message.content);
  std::size_t const found = call.head.find(kHeadEnd, looked);
  std::size_t const length = found == std::string::npos ? call.head.size() : found + 4;
  if (length > kRingHeadMax)
    return nonsense(fmt::format("call {} has a head of more than 64 KiB", message.call));
  if (found == std::string::npos) {
    if (message.more) return {};
    return nonsense(fmt::format("call {} has a head without its empty line", message.call));
  }
  if (message.more)
    return nonsense(fmt::format("call {} has a head that ends before it says so", message.call));
  call.has_head = true;
  std::string const rest = call.head.substr(length);
  call.head.resize(length);
  return take_body(call, rest, message.end);
}

RingExchange::Taken RingExchange::take_body(Call& call, std::string_view bytes, bool end) {
  if (bytes.size() > call.granted)
    return nonsense(
        fmt::format("it sends {} bytes where {} were granted", bytes.size(), call.granted));
  call.granted -= static_cast<std::uint32_t>(bytes.size());
  call.body.append(bytes);
  call.ended = end;
  return {};
}

RingExchange::Taken RingExchange::take_window(Call& call, std::string_view content) {
  auto const more = ring_number(content);
  if (!more) return nonsense(more.error());
  if (*more > kRingWindowMax || call.credit > kRingWindowMax)
    return nonsense(fmt::format("it grants {} bytes", *more));
  call.credit += *more;
  return {};
}

}  // namespace aether::functions
