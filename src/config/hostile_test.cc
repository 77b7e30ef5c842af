// SPDX-License-Identifier: Apache-2.0
// Files made by accident or malice: they end in a message, soon, and not in memory. Each limit of
// limits.h is reached here.
#include <gtest/gtest.h>

#include "config/limits.h"
#include "config/testing.h"

namespace aether::config {
namespace {

using testing::mistakes;

constexpr std::string_view kService = "service: {command: [\"true\"]}\n";

void expect_told(std::string_view text, std::string_view part) {
  std::string const told = mistakes(text);
  EXPECT_NE(told.find(part), std::string::npos) << part << "\nwas not in\n" << told.substr(0, 2000);
}

std::string repeat(std::string_view text, std::size_t times) {
  std::string result;
  result.reserve(text.size() * times);
  for (std::size_t i = 0; i < times; ++i) result += text;
  return result;
}

TEST(Hostile, AFileOverOneMebibyteIsRefused) {
  std::string text(kService);
  text += repeat("# 3456789\n", (kFileBytesMax - text.size()) / 10);
  text.append(kFileBytesMax - text.size(), '#');
  EXPECT_EQ(mistakes(text), "");
  expect_told(text + "#", "test.yaml: the file has 1048577 bytes; the limit is 1048576 (1 MiB)");
}

TEST(Hostile, ALongLineIsRefused) {
  expect_told(std::string(kService) + "#" + std::string(kLineBytesMax, 'x'),
              "test.yaml:2:1: the line is longer");
}

TEST(Hostile, AHugeValueIsRefused) {
  std::string const longest(kScalarBytesMax, 'x');
  EXPECT_EQ(mistakes("service: {command: [" + longest + "]}"), "");
  expect_told("service: {command: [" + longest + "x]}", "has 65537 bytes; the limit is 65536");
  Environment const environment{{"LONG", longest}};
  auto const config = parse("service: {command: [\"x${LONG}\"]}", "x", environment);
  ASSERT_FALSE(config.has_value());
  EXPECT_NE(config.error().message().find("once its variables are expanded"), std::string::npos);
}

TEST(Hostile, DeepNestingIsRefused) {
  expect_told(repeat("[", 1000), "nested deeper than 32 levels");
  expect_told(repeat("{a: ", 1000), "nested deeper than 32 levels");
  expect_told("a: " + repeat("[", kLineBytesMax - 100), "nested deeper than 32 levels");
  std::string text;
  for (std::size_t i = 0; i < 100; ++i) text += std::string(i, ' ') + "a:\n";
  expect_told(text, "nested deeper than 32 levels");
  expect_told(repeat("- ", 100), "nested deeper than 32 levels");
}

TEST(Hostile, ManyOpenBracketsOnManyLinesEndSoon) {
  expect_told(repeat("[\n", kFileBytesMax / 2 - 1), "maps and lists are nested deeper");
  expect_told(repeat(repeat("{", 1000) + "\n", 1000), "nested deeper");
  EXPECT_NE(mistakes(repeat("? ", 60000)), "");
  EXPECT_NE(mistakes(repeat("\"", kFileBytesMax / 2)), "");
  EXPECT_NE(mistakes(repeat("!", 100000)), "");
  EXPECT_NE(mistakes(repeat("&a ", 40000)), "");
  EXPECT_NE(mistakes(repeat("*a ", 40000)), "");
  EXPECT_NE(mistakes(repeat("%", 100000)), "");
  EXPECT_NE(mistakes(repeat("|\n", 100000)), "");
}

TEST(Hostile, AMillionLaughsAreNotExpanded) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 25; ++i) {
    std::string const before = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + repeat(before + ", ", 9) +
            before + "]\n";
  }
  expect_told(text, "unknown key \"a0\"");
}

TEST(Hostile, AliasesThatMakeAConfigLargeAreCounted) {
  std::string const big(60000, 'x');
  std::string text = "services:\n  - {name: s, command: &c [" + big + ", " + big + "]}\n";
  for (int i = 0; i < 200; ++i) text += "  - {name: s" + std::to_string(i) + ", command: *c}\n";
  expect_told(text, "is larger than 16 MiB once its aliases and variables are expanded");
}

TEST(Hostile, ASectionThatIsCopiedIntoEachServiceIsCountedForEach) {
  std::string text = "orchestration: {pre_flight: [{command: [" + std::string(60000, 'x') + ", " +
                     std::string(60000, 'x') + "]}]}\nservices:\n";
  for (int i = 0; i < 200; ++i) text += "  - {name: s" + std::to_string(i) + ", command: [a]}\n";
  expect_told(text, "is larger than 16 MiB");
}

TEST(Hostile, MergeKeysThatMakeAFileLargeAreCounted) {
  std::string text = "a: &a {";
  for (int i = 0; i < 1000; ++i) text += "k" + std::to_string(i) + ": x, ";
  text += "}\n";
  for (int i = 0; i < 1000; ++i) text += "b" + std::to_string(i) + ": {<<: *a}\n";
  expect_told(text, "merge keys make the file too large");
}

TEST(Hostile, TooManyValuesAreRefused) {
  expect_told("a: [\n" + repeat("x,\n", kNodesMax + 1) + "]", "more than 200000 values");
}

TEST(Hostile, ListsHaveLimits) {
  std::string services = "services:\n";
  for (std::size_t i = 0; i <= kServicesMax; ++i)
    services += "  - {name: s" + std::to_string(i) + ", command: [a]}\n";
  expect_told(services, "services: has 257 items; the limit is 256");
  expect_told("functions: [" + repeat("{}, ", kFunctionsMax + 1) + "]",
              "functions: has 1025 items; the limit is 1024");
  expect_told("service: {command: [" + repeat("a, ", kArgumentsMax + 1) + "]}",
              "the limit is 1024");
  std::string list;
  std::string map;
  for (std::size_t i = 0; i <= kVariablesMax; ++i) {
    list += "V" + std::to_string(i) + "=x, ";
    map += "V" + std::to_string(i) + ": x, ";
  }
  expect_told("service: {command: [a], env: [" + list + "]}",
              "service.env: has 1025 items; the limit is 1024");
  expect_told("service: {command: [a], env: {" + map + "}}",
              "has 1025 variables; the limit is 1024");
  expect_told("service: {command: [a], listen: [" + repeat("\":0\", ", kListenersMax + 1) + "]}",
              "service.listen: has 65 items; the limit is 64");
  expect_told("service: {command: [a], after: [" + repeat("a, ", kAfterMax + 1) + "]}",
              "service.after: has 65 items; the limit is 64");
  expect_told(std::string(kService) + "orchestration: {pre_flight: [" +
                  repeat("{command: [a]}, ", kHooksMax + 1) + "]}",
              "orchestration.pre_flight: has 33 items; the limit is 32");
}

TEST(Hostile, AllServicesTogetherHaveALimitOfListeners) {
  std::string text = "services:\n";
  for (int i = 0; i < 17; ++i) {
    text += "  - {name: s" + std::to_string(i) + ", command: [a], listen: [";
    for (std::size_t k = 0; k < kListenersMax; ++k) text += "\"127.0.0.1:0\", ";
    text += "]}\n";
  }
  expect_told(text, "test.yaml: the services have 1088 listeners; the limit is 1024");
}

TEST(Hostile, OnlyAHundredMistakesAreToldAndTheRestCounted) {
  std::string text(kService);
  for (int i = 0; i < 150; ++i) text += "zz" + std::to_string(i) + ": 1\n";
  expect_told(text, "test.yaml: and 50 more mistakes");
}

TEST(Hostile, BytesThatAreNotTextAreRefusedWithTheirPlace) {
  using namespace std::string_literals;
  expect_told("service:\n  name: a\0b\n"s, "test.yaml:2:10: there is a control character (0x00)");
  expect_told("service:\n  \x1b[31m", "test.yaml:2:3: there is a control character (0x1b)");
  for (std::string const bad : {"\xff", "\xc3", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80",
                                "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf8"}) {
    expect_told("a: " + bad, "test.yaml:1:4: this byte is not UTF-8");
  }
  expect_told("\xff\xfes\0e\0"s, "is not UTF-8");
  EXPECT_EQ(mistakes("\xef\xbb\xbf" + std::string(kService)), "") << "a byte order mark is allowed";
  EXPECT_EQ(mistakes("service:\r\n  command: [\"\xf0\x9f\x9a\x80 \xe2\x82\xac \xc3\xa9\"]\r\n"),
            "");
}

TEST(Hostile, AnEscapedZeroByteIsRefused) {
  expect_told("service: {command: [\"a\\0b\"]}", "has a zero byte in it");
  expect_told("service: {command: [a], env: {\"A\\0\": x}}", "is not the name of a variable");
}

TEST(Hostile, AFileThatIsNotThereOrNotAFileIsTold) {
  auto const missing = load("/nonexistent/aether.yaml", {});
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code(), ErrorCode::ConfigNotFound);
  EXPECT_EQ(
      missing.error().message(),
      "reading /nonexistent/aether.yaml: No such file or directory; name the file with -c FILE");
  auto const folder = load("/", {});
  ASSERT_FALSE(folder.has_value());
  EXPECT_EQ(folder.error().code(), ErrorCode::ConfigNotFound);
  auto const endless = load("/dev/zero", {});
  ASSERT_FALSE(endless.has_value());
  EXPECT_EQ(endless.error().code(), ErrorCode::ConfigInvalid);
}

}  // namespace
}  // namespace aether::config
