// SPDX-License-Identifier: Apache-2.0
// Every rule violated once: testdata/mistakes.txt has the texts and what is said of each. With
// AETHER_UPDATE_SNAPSHOTS=1 the file is written anew; read the difference before committing it.
#include <cstdlib>
#include <fstream>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "config/testing.h"

namespace aether::config {
namespace {

struct Case {
  std::string title;
  std::string yaml;
  std::string expected;
};

// "### title", the text, "===", the message, and again.
std::vector<Case> read_cases() {
  std::istringstream lines(testing::read_testdata("mistakes.txt"));
  std::vector<Case> cases;
  bool in_yaml = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("### ")) {
      cases.push_back({line.substr(4), "", ""});
      in_yaml = true;
    } else if (line == "===") {
      in_yaml = false;
    } else if (in_yaml) {
      cases.back().yaml += line + "\n";
    } else if (!line.empty()) {
      cases.back().expected += (cases.back().expected.empty() ? "" : "\n") + line;
    }
  }
  return cases;
}

TEST(Mistakes, AreToldAsTheSnapshotSays) {
  std::vector<Case> cases = read_cases();
  ASSERT_GT(cases.size(), 100U);
  for (Case& one : cases) {
    std::string const told = testing::mistakes(one.yaml);
    EXPECT_NE(told, "") << one.title << "\n" << one.yaml;
    if (std::getenv("AETHER_UPDATE_SNAPSHOTS")) one.expected = told;
    EXPECT_EQ(told, one.expected) << one.title << "\n" << one.yaml;
  }
  if (!std::getenv("AETHER_UPDATE_SNAPSHOTS")) return;
  std::ofstream file(std::string(AETHER_TESTDATA) + "/mistakes.txt");
  for (Case const& one : cases) {
    file << "### " << one.title << "\n" << one.yaml << "===\n" << one.expected << "\n\n";
  }
}

TEST(Mistakes, HaveOneCodeAndAPlaceInEachLine) {
  for (Case const& one : read_cases()) {
    auto const config = parse(one.yaml, "dir/x.yaml", testing::kEnvironment);
    ASSERT_FALSE(config.has_value()) << one.title;
    EXPECT_EQ(config.error().code(), ErrorCode::ConfigInvalid);
    std::istringstream lines(config.error().message());
    for (std::string line; std::getline(lines, line);) {
      EXPECT_TRUE(line.starts_with("dir/x.yaml:")) << line;
    }
  }
}

TEST(Mistakes, HaveTitlesOfTheirOwn) {
  std::set<std::string> titles;
  for (Case const& one : read_cases()) EXPECT_TRUE(titles.insert(one.title).second) << one.title;
}

}  // namespace
}  // namespace aether::config
