// SPDX-License-Identifier: Apache-2.0
#include "supervise/line_splitter.h"

#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "supervise/printable.h"

namespace aether::supervise {
namespace {

struct Piece {
  std::string text;
  bool continues;
  bool operator==(Piece const&) const = default;
};

class Collector {
 public:
  LineSplitter::Sink sink() {
    return [this](SplitLine line) { pieces.push_back({std::string(line.text), line.continues}); };
  }
  [[nodiscard]] std::vector<std::string> whole_lines() const {
    std::vector<std::string> lines;
    bool continues = false;
    for (Piece const& piece : pieces) {
      if (continues)
        lines.back() += piece.text;
      else
        lines.push_back(piece.text);
      continues = piece.continues;
    }
    return lines;
  }
  std::vector<Piece> pieces;
};

TEST(LineSplitter, KeepsAPartialLastLine) {
  Collector seen;
  LineSplitter splitter;
  splitter.push("one\ntwo\nthr", seen.sink());
  EXPECT_EQ(seen.whole_lines(), (std::vector<std::string>{"one", "two"}));
  splitter.push("ee", seen.sink());
  splitter.finish(seen.sink());
  EXPECT_EQ(seen.whole_lines(), (std::vector<std::string>{"one", "two", "three"}));
  splitter.finish(seen.sink());
  EXPECT_EQ(seen.pieces.size(), 3U);
}

TEST(LineSplitter, KeepsEmptyLinesAndDropsCarriageReturns) {
  Collector seen;
  LineSplitter splitter;
  splitter.push("\n\na\r\n\r\n", seen.sink());
  EXPECT_EQ(seen.whole_lines(), (std::vector<std::string>{"", "", "a", ""}));
}

TEST(LineSplitter, TellsALineOfAMegabyteInBoundedPieces) {
  Collector seen;
  LineSplitter splitter;
  std::string const line(1024 * 1024, 'x');
  splitter.push(line + "\nnext\n", seen.sink());
  EXPECT_EQ(seen.whole_lines(), (std::vector<std::string>{line, "next"}));
  for (Piece const& piece : seen.pieces) EXPECT_LE(piece.text.size(), kLogLineBytesMax);
}

TEST(LineSplitter, DoesNotCutALineOfExactlyTheLimit) {
  Collector seen;
  LineSplitter splitter;
  std::string const line(kLogLineBytesMax, 'x');
  splitter.push(line, seen.sink());
  splitter.push("\n", seen.sink());
  EXPECT_EQ(seen.pieces, (std::vector<Piece>{{line, false}}));
}

TEST(LineSplitter, CutsALongLineBetweenCharacters) {
  Collector seen;
  LineSplitter splitter;
  splitter.push(std::string(kLogLineBytesMax - 1, 'x') + "é\n", seen.sink());
  ASSERT_EQ(seen.pieces.size(), 2U);
  EXPECT_EQ(seen.pieces[1].text, "é");
}

TEST(LineSplitter, GivesTheSameLinesHoweverTheStreamIsCut) {
  std::mt19937 random(4711);
  std::string stream;
  std::vector<std::string> lines;
  for (int i = 0; i < 200; ++i) {
    std::string const line(random() % (i % 20 == 0 ? 30'000 : 80), static_cast<char>('a' + i % 26));
    stream += line + "\n";
    lines.push_back(line);
  }
  for (int round = 0; round < 50; ++round) {
    Collector seen;
    LineSplitter splitter;
    std::string_view rest = stream;
    while (!rest.empty()) {
      std::string_view const part = rest.substr(0, 1 + random() % 20'000);
      splitter.push(part, seen.sink());
      rest.remove_prefix(part.size());
    }
    EXPECT_EQ(seen.whole_lines(), lines);
  }
}

TEST(Printable, ReplacesWhatIsNoTextAndKeepsColours) {
  EXPECT_EQ(printable("plain", Controls::Keep), "plain");
  EXPECT_EQ(printable("\x1b[1mé\t€😀", Controls::Keep), "\x1b[1mé\t€😀");
  EXPECT_EQ(printable(std::string_view("a\0b", 3), Controls::Keep),
            "a\xEF\xBF\xBD"
            "b");
  EXPECT_EQ(
      printable("\xC0\x80|\xED\xA0\x80|\xF5\x80\x80\x80|\xE2\x82", Controls::Keep).find('\xC0'),
      std::string::npos);
  EXPECT_EQ(printable("a\nb\x7f", Controls::Replace), "a b ");
}

TEST(Printable, CutsBinaryDataAtTheLimit) {
  EXPECT_EQ(cut_position(std::string(100, '\x80'), 10), 10U);
  EXPECT_EQ(cut_position("abc", 10), 3U);
}

TEST(Excerpt, KeepsAnErrorReadable) {
  EXPECT_EQ(excerpt("no database"), "no database");
  EXPECT_EQ(excerpt(std::string(kExcerptMax, 'x')), std::string(kExcerptMax, 'x'));
  EXPECT_EQ(excerpt(std::string(kExcerptMax + 1, 'x')), std::string(kExcerptMax, 'x') + "...");
  EXPECT_TRUE(excerpt(std::string(kExcerptMax - 1, 'x') + "ü").ends_with("x..."));
}

}  // namespace
}  // namespace aether::supervise
