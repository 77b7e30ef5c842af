// SPDX-License-Identifier: Apache-2.0
#include "functions/ring_exchange.h"

#include <random>

#include <gtest/gtest.h>

namespace aether::functions {
namespace {

using Call = RingExchange::Call;

constexpr std::string_view kHead = "HTTP/1.1 200 OK\r\n\r\n";

/// What went out, whole messages, and is gone from the outbox.
std::vector<std::string> sent(RingExchange& exchange) {
  std::vector<std::string> all(exchange.outbox().begin(), exchange.outbox().end());
  exchange.outbox().clear();
  return all;
}

RingMessage parsed(std::string const& record) {
  auto const message = parse_ring_message(record);
  EXPECT_TRUE(message) << message.error();
  return message.value_or(RingMessage{});
}

std::string answer(std::uint32_t call, std::string const& content, bool end = true,
                   bool more = false) {
  return write_ring_message(
      {.call = call, .kind = RingKind::Answer, .end = end, .more = more, .content = content});
}

std::string body(std::uint32_t call, std::string const& content, bool end = false) {
  return write_ring_message({.call = call, .kind = RingKind::Body, .end = end, .content = content});
}

std::string window(std::uint32_t call, std::uint32_t bytes) {
  return write_ring_message(
      {.call = call, .kind = RingKind::Window, .content = write_ring_number(bytes)});
}

std::string why(std::expected<void, std::string> const& taken) {
  return taken ? std::string() : taken.error();
}

TEST(RingMessages, AreReadAsTheyWereWritten) {
  RingMessage const message{
      .call = 0x01020304, .kind = RingKind::Body, .end = true, .content = "abc"};
  std::string const record = write_ring_message(message);
  EXPECT_EQ(record, std::string("\x04\x03\x02\x01\x04\x01\0\0abc", 11));
  EXPECT_EQ(parsed(record), message);
  EXPECT_FALSE(parse_ring_message(record.substr(0, 7)));
}

TEST(RingMessages, WithUnknownKindsFlagsOrReservedBytesAreNone) {
  std::string const good = body(1, "x");
  for (auto const [at, byte] : {std::pair(4, 0), std::pair(4, 8), std::pair(5, 3), std::pair(5, 4),
                                std::pair(6, 1), std::pair(7, 1)}) {
    std::string bad = good;
    bad[static_cast<std::size_t>(at)] = static_cast<char>(byte);
    EXPECT_FALSE(parse_ring_message(bad)) << at << " " << byte;
  }
}

TEST(RingExchange, SendsASmallRequestAsOneMessage) {
  RingExchange exchange(4096);
  std::uint32_t const id = exchange.begin("GET / HTTP/1.1\r\n\r\n", "hi", true);
  auto const messages = sent(exchange);
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(parsed(messages[0]), (RingMessage{.call = id,
                                              .kind = RingKind::Request,
                                              .end = true,
                                              .content = "GET / HTTP/1.1\r\n\r\nhi"}));
}

TEST(RingExchange, SendsALongHeadInPiecesAndItsBodyBehindThem) {
  RingExchange exchange(64);
  std::string const head = "GET / HTTP/1.1\r\nX: " + std::string(100, 'x') + "\r\n\r\n";
  exchange.begin(head, "body", true);
  auto const messages = sent(exchange);
  std::string joined;
  for (std::size_t i = 0; i + 1 < messages.size(); ++i) {
    RingMessage const message = parsed(messages[i]);
    EXPECT_LE(messages[i].size(), 64U);
    EXPECT_EQ(message.kind, RingKind::Request);
    EXPECT_EQ(message.more, i + 2 < messages.size());
    EXPECT_FALSE(message.end);
    joined += message.content;
  }
  EXPECT_EQ(joined, head);
  EXPECT_EQ(parsed(messages.back()).kind, RingKind::Body);
  EXPECT_TRUE(parsed(messages.back()).end);
}

TEST(RingExchange, BringsAnAnswerWithItsBodyAndItsEnd) {
  RingExchange exchange(4096);
  std::uint32_t const id = exchange.begin("GET / HTTP/1.1\r\n\r\n", {}, true);
  EXPECT_EQ(why(exchange.take(answer(id, std::string(kHead) + "one", false))), "");
  EXPECT_EQ(why(exchange.take(body(id, "two", true))), "");
  Call const* const call = exchange.find(id);
  ASSERT_NE(call, nullptr);
  EXPECT_EQ(call->head, kHead);
  EXPECT_EQ(call->body, "onetwo");
  EXPECT_TRUE(call->ended);
  EXPECT_EQ(exchange.touched(), (std::vector<std::uint32_t>{id, id}));
  EXPECT_TRUE(exchange.touched().empty());
}

TEST(RingExchange, JoinsTheHeadOfAnAnswerThatComesInPieces) {
  RingExchange exchange(4096);
  std::uint32_t const id = exchange.begin("GET / HTTP/1.1\r\n\r\n", {}, true);
  EXPECT_EQ(why(exchange.take(answer(id, "HTTP/1.1 200 OK\r\nA: b\r\n\r", false, true))), "");
  EXPECT_FALSE(exchange.find(id)->has_head);
  EXPECT_EQ(why(exchange.take(answer(id, "\nbody", true))), "");
  EXPECT_EQ(exchange.find(id)->head, "HTTP/1.1 200 OK\r\nA: b\r\n\r\n");
  EXPECT_EQ(exchange.find(id)->body, "body");
}

TEST(RingExchange, GrantsAsMuchAsWasTaken) {
  RingExchange exchange(kRingMessageMax);
  std::uint32_t const id = exchange.begin("GET / HTTP/1.1\r\n\r\n", {}, true);
  (void)sent(exchange);
  (void)exchange.take(answer(id, std::string(kHead), false));
  std::string const half(kRingWindow / 2, 'x');
  EXPECT_EQ(why(exchange.take(body(id, half))), "");
  EXPECT_EQ(why(exchange.take(body(id, half))), "");
  EXPECT_NE(why(exchange.take(body(id, "x"))), "") << "more than was granted";
  exchange.taken(id, half.size());
  auto const messages = sent(exchange);
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(messages[0], window(id, kRingWindow / 2));
  EXPECT_EQ(why(exchange.take(body(id, half))), "");
}

TEST(RingExchange, SendsNoMoreOfABodyThanTheHandlerGrants) {
  RingExchange exchange(kRingMessageMax);
  std::string const all(kRingWindow, 'x');
  std::uint32_t const id = exchange.begin("PUT / HTTP/1.1\r\n\r\n", all, false);
  EXPECT_EQ(exchange.find(id)->credit, 0U);
  EXPECT_EQ(why(exchange.take(window(id, 10))), "");
  EXPECT_EQ(exchange.find(id)->credit, 10U);
  exchange.send(id, "0123456789", true);
  EXPECT_TRUE(parsed(sent(exchange).back()).end);
}

TEST(RingExchange, CancelsACallThatIsDroppedUnlessBothSidesHaveEnded) {
  RingExchange exchange(4096);
  std::uint32_t const over = exchange.begin("GET / HTTP/1.1\r\n\r\n", {}, true);
  std::uint32_t const left = exchange.begin("GET / HTTP/1.1\r\n\r\n", {}, true);
  (void)sent(exchange);
  (void)exchange.take(answer(over, std::string(kHead)));
  exchange.drop(over);
  EXPECT_TRUE(sent(exchange).empty());
  exchange.drop(left);
  EXPECT_EQ(
      sent(exchange),
      (std::vector<std::string>{write_ring_message({.call = left, .kind = RingKind::Cancel})}));
  EXPECT_EQ(why(exchange.take(answer(left, std::string(kHead)))), "") << "it had not heard yet";
  EXPECT_EQ(exchange.live(), 0U);
}

TEST(RingExchange, RefusesWhatNoHandlerMaySay) {
  RingExchange exchange(4096);
  std::uint32_t const id = exchange.begin("GET / HTTP/1.1\r\n\r\n", {}, true);
  EXPECT_NE(why(exchange.take(answer(id + 1, std::string(kHead)))), "");
  EXPECT_NE(why(exchange.take(answer(0, std::string(kHead)))), "");
  EXPECT_NE(why(exchange.take(body(id, "no head"))), "");
  EXPECT_NE(why(exchange.take(write_ring_message({.call = id, .kind = RingKind::Request}))), "");
  EXPECT_NE(why(exchange.take(write_ring_message({.call = id, .kind = RingKind::Cancel}))), "");
  EXPECT_NE(why(exchange.take(window(id, kRingWindowMax + 1))), "");
  EXPECT_NE(why(exchange.take(write_ring_message(
                {.kind = RingKind::Hello, .content = write_ring_number(kRingProtocol + 1)}))),
            "");
  EXPECT_NE(why(exchange.take(answer(id, "HTTP/1.1 200 OK\r\n"))), "") << "no empty line";
}

TEST(RingExchange, RefusesAHeadWithoutAnEndAndASecondOne) {
  RingExchange exchange(4096);
  std::uint32_t const id = exchange.begin("GET / HTTP/1.1\r\n\r\n", {}, true);
  std::string const piece(16 * 1024, 'x');
  for (int i = 0; i < 4; ++i) EXPECT_EQ(why(exchange.take(answer(id, piece, false, true))), "");
  EXPECT_NE(why(exchange.take(answer(id, "x", false, true))), "");
  std::uint32_t const next = exchange.begin("GET / HTTP/1.1\r\n\r\n", {}, true);
  EXPECT_EQ(why(exchange.take(answer(next, std::string(kHead), false))), "");
  EXPECT_NE(why(exchange.take(answer(next, std::string(kHead), false))), "");
}

TEST(RingExchange, KnowsThatTheHandlerHasAttached) {
  RingExchange exchange(4096);
  EXPECT_FALSE(exchange.greeted());
  EXPECT_EQ(why(exchange.take(write_ring_message(
                {.kind = RingKind::Hello, .content = write_ring_number(kRingProtocol) + "c"}))),
            "");
  EXPECT_TRUE(exchange.greeted());
}

TEST(RingExchange, HoldsNoMoreThanItsWindowsWhateverIsSaid) {
  std::mt19937 random(20261121);
  for (int round = 0; round < 200; ++round) {
    RingExchange exchange(4096);
    for (int i = 0; i < 4; ++i) exchange.begin("GET / HTTP/1.1\r\n\r\n", {}, true);
    for (int i = 0; i < 100; ++i) {
      std::string record = body(random() % 5, std::string(random() % 30000, 'x'));
      record[4] = static_cast<char>(random() % 9);
      record[5] = static_cast<char>(random() % 3);
      if (random() % 3 == 0) record += kHead;
      if (!exchange.take(record)) break;
      for (std::uint32_t id = 1; id <= 4; ++id) {
        ASSERT_LE(exchange.find(id)->body.size(), kRingWindow);
        ASSERT_LE(exchange.find(id)->head.size(), kRingHeadMax);
      }
    }
  }
}

}  // namespace
}  // namespace aether::functions
