// SPDX-License-Identifier: Apache-2.0
#include "daemon/tokens.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "os/temp_dir.h"

namespace aether::daemon {
namespace {

constexpr char const* kSecret = "0123456789abcdef-secret";

config::Config with(config::Token token) {
  config::Config config;
  config.path = "a.yaml";
  token.name = "ci";
  token.role = config::Role::Operator;
  config.api.tokens.push_back(std::move(token));
  return config;
}

std::string file_with(os::TempDir const& folder, std::string const& text, mode_t mode = 0600) {
  std::string path = folder.path() + "/token";
  ::unlink(path.c_str());
  std::ofstream(path) << text;
  ::chmod(path.c_str(), mode);
  return path;
}

TEST(Tokens, AreReadFromDigestsFilesAndVariables) {
  os::TempDir const folder = or_throw(os::TempDir::create("tokens"));
  api::Digest const digest = api::digest_of(kSecret);
  ::setenv("TOKENS_TEST", kSecret, 1);
  std::vector<config::Token> const kinds{
      {.sha256 = api::hex(digest)},
      {.file = file_with(folder, std::string(kSecret) + "\n", 0640)},
      {.env = "TOKENS_TEST"}};
  for (config::Token const& kind : kinds) {
    Tokens tokens;
    auto const known = or_throw(tokens.load(with(kind)));
    ASSERT_EQ(known.size(), 1U);
    EXPECT_EQ(known.front().name, "ci");
    EXPECT_EQ(known.front().role, config::Role::Operator);
    EXPECT_EQ(known.front().digest, digest);
  }
}

TEST(Tokens, OfVariablesAreNotInheritedAndRememberedOverReloads) {
  ::setenv("TOKENS_TEST", kSecret, 1);
  Tokens tokens;
  config::Config const config = with({.env = "TOKENS_TEST"});
  ASSERT_TRUE(tokens.load(config));
  EXPECT_EQ(std::getenv("TOKENS_TEST"), nullptr);
  auto const again = or_throw(tokens.load(config));
  EXPECT_EQ(again.front().digest, api::digest_of(kSecret));
}

TEST(Tokens, InAFileThatOthersMayReadAreRefusedWithTheCure) {
  os::TempDir const folder = or_throw(os::TempDir::create("tokens"));
  for (mode_t const mode : {0644, 0604, 0602, 0660, 0777}) {
    std::string const path = file_with(folder, kSecret, mode);
    Tokens tokens;
    auto const refused = tokens.load(with({.file = path}));
    ASSERT_FALSE(refused) << mode;
    EXPECT_EQ(refused.error().code(), ErrorCode::ConfigInvalid);
    EXPECT_TRUE(refused.error().message().contains("chmod 600 " + path));
    EXPECT_TRUE(refused.error().message().starts_with("a.yaml: the token ci"));
    EXPECT_FALSE(refused.error().message().contains(kSecret));
  }
}

TEST(Tokens, ThatAreNoneAreRefused) {
  os::TempDir const folder = or_throw(os::TempDir::create("tokens"));
  for (std::string const text : {"", "\n", "short", "two words of a token!",
                                 "with\x01"
                                 "control-characters"}) {
    Tokens tokens;
    EXPECT_FALSE(tokens.load(with({.file = file_with(folder, text)}))) << text;
  }
  Tokens tokens;
  EXPECT_FALSE(tokens.load(with({.file = file_with(folder, std::string(5000, 'x'))})));
  EXPECT_FALSE(tokens.load(with({.file = folder.path()})));
  EXPECT_FALSE(tokens.load(with({.file = folder.path() + "/none"})));
  EXPECT_FALSE(tokens.load(with({.env = "TOKENS_TEST_NOT_SET"})));
}

}  // namespace
}  // namespace aether::daemon
