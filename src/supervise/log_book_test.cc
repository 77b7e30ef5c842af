// SPDX-License-Identifier: Apache-2.0
#include "supervise/log_book.h"

#include <gtest/gtest.h>

#include "async/task_group.h"
#include "async/testing.h"
#include "async/timers.h"

namespace aether::supervise {
namespace {

void write(LogBook& book, std::string text, std::uint64_t instance = 1) {
  book.append({.revision = {1}, .instance = {instance}, .text = std::move(text)});
}

TEST(LogBook, KeepsTheLastTenThousandLines) {
  SystemClock clock;
  LogBook book("web", clock);
  for (std::size_t i = 1; i <= kLogLinesMax + 5; ++i) write(book, std::to_string(i));
  auto const lines = book.tail(20'000);
  ASSERT_EQ(lines.size(), kLogLinesMax);
  EXPECT_EQ(lines.front().text, "6");
  EXPECT_EQ(lines.front().sequence, 6U);
  EXPECT_EQ(lines.back().sequence, kLogLinesMax + 5);
  EXPECT_EQ(book.lines_dropped(), 5U);
  EXPECT_EQ(book.tail(2).front().text, std::to_string(kLogLinesMax + 4));
}

TEST(LogBook, BoundsItsBytes) {
  SystemClock clock;
  LogBook book("web", clock);
  for (int i = 0; i < 2000; ++i) write(book, std::string(8192, 'x'));
  std::size_t bytes = 0;
  for (LogLine const& line : book.tail(10'000)) bytes += line.text.size();
  EXPECT_LE(bytes, kLogBytesMax);
  EXPECT_GE(bytes, kLogBytesMax - 8192);
}

TEST(LogBook, TellsASlowReaderHowMuchItMissed) {
  SystemClock clock;
  LogBook book("web", clock);
  for (std::size_t i = 1; i <= kLogLinesMax + 100; ++i) write(book, "x");
  LogBatch const batch = book.since(51);
  EXPECT_EQ(batch.missed, 50U);
  EXPECT_EQ(batch.lines.size(), kLogBatchMax);
  EXPECT_EQ(batch.lines.front().sequence, 101U);
  EXPECT_EQ(batch.next, 101 + kLogBatchMax);
  LogBatch const rest = book.since(book.next_sequence());
  EXPECT_TRUE(rest.lines.empty());
  EXPECT_EQ(rest.next, book.next_sequence());
  EXPECT_TRUE(book.since(1'000'000'000).lines.empty());
}

TEST(LogBook, FindsTheLastLinesOfOneInstance) {
  SystemClock clock;
  LogBook book("web", clock);
  for (int i = 0; i < 10; ++i) write(book, std::to_string(i), static_cast<std::uint64_t>(i % 2));
  EXPECT_EQ(book.last_texts({1}, 3), (std::vector<std::string>{"5", "7", "9"}));
}

TEST(LogBook, ShowsEachLineToItsTap) {
  SystemClock clock;
  LogBook book("web", clock);
  std::string seen;
  book.set_tap([&](std::string_view service, LogLine const& line) {
    seen += std::string(service) + ":" + line.text + ";";
  });
  write(book, "a");
  write(book, "b\xff");
  EXPECT_EQ(seen, "web:a;web:b\xEF\xBF\xBD;");
}

async::Task<void> follow(LogBook* book, std::string* seen) {
  std::uint64_t cursor = book->next_sequence();
  while (!book->closed()) {
    co_await book->changed(cursor);
    LogBatch const batch = book->since(cursor);
    for (LogLine const& line : batch.lines) *seen += line.text + ";";
    cursor = batch.next;
  }
}

CORO_TEST(LogBook, WakesAllWhoFollow) {
  LogBook book("web", loop.clock());
  write(book, "before");
  std::string one;
  std::string two;
  async::TaskGroup readers(loop.executor(), "readers");
  readers.spawn("one", follow(&book, &one));
  readers.spawn("two", follow(&book, &two));
  co_await async::yield();
  co_await async::yield();
  write(book, "a");
  write(book, "b");
  co_await async::yield();
  write(book, "c");
  book.close();
  co_await readers.join();
  EXPECT_EQ(one, "a;b;c;");
  EXPECT_EQ(two, "a;b;c;");
}

}  // namespace
}  // namespace aether::supervise
