// SPDX-License-Identifier: Apache-2.0
#include "functions/handler.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <map>

#include <gtest/gtest.h>

#include "os/temp_dir.h"

namespace aether::functions {
namespace {

class HandlerFile : public ::testing::Test {
 protected:
  std::string make(std::string const& name, std::string const& content, mode_t mode) {
    std::string path = dir_.file(name);
    std::ofstream(path) << content;
    ::chmod(path.c_str(), mode);
    return path;
  }
  static std::string refusal(std::string const& path, ErrorCode code) {
    auto const command = handler_command(path);
    if (command) return "it was taken";
    EXPECT_EQ(command.error().code(), code);
    EXPECT_NE(command.error().message().find(path), std::string::npos);
    return command.error().message();
  }
  os::TempDir dir_ = or_throw(os::TempDir::create("handler"));
};

TEST_F(HandlerFile, IsRunAsItIs) {
  std::string const path = make("a.py", "#!/usr/bin/env python3\n", 0755);
  EXPECT_EQ(handler_command(path), config::Command{path});
}

TEST_F(HandlerFile, InPythonNeedsNoRightToBeExecuted) {
  std::string const path = make("a.py", "print()\n", 0644);
  EXPECT_EQ(handler_command(path), (config::Command{"python3", path}));
}

TEST_F(HandlerFile, InAnyOtherLanguageDoes) {
  std::string const path = make("a.js", "#!/usr/bin/env node\n", 0644);
  EXPECT_NE(refusal(path, ErrorCode::CommandNotExecutable).find("chmod +x"), std::string::npos);
}

TEST_F(HandlerFile, MustExist) {
  EXPECT_NE(refusal(dir_.file("no"), ErrorCode::CommandNotFound).find("does not exist"),
            std::string::npos);
}

TEST_F(HandlerFile, IsNoFolder) {
  EXPECT_NE(refusal(dir_.path(), ErrorCode::CommandNotExecutable).find("folder"),
            std::string::npos);
}

TEST_F(HandlerFile, NamesItsInterpreter) {
  EXPECT_NE(refusal(make("a", "print()\n", 0755), ErrorCode::CommandNotExecutable).find("#!"),
            std::string::npos);
  EXPECT_NE(refusal(make("e", "", 0755), ErrorCode::CommandNotExecutable).find("empty"),
            std::string::npos);
}

TEST_F(HandlerFile, WithTheLineEndsOfWindowsIsRefusedByName) {
  std::string const path = make("a.py", "#!/usr/bin/env python3\r\nprint()\r\n", 0755);
  EXPECT_NE(refusal(path, ErrorCode::CommandNotExecutable).find("carriage return"),
            std::string::npos);
}

TEST(HandlerEnvironment, TellsWhereAndWhoItIs) {
  auto const variables = handler_environment(
      {.function = "hello", .socket = "/run/s", .port = 20001}, {{"KEY", "value"}, {"PORT", "1"}});
  std::map<std::string, std::string> const told(variables.begin(), variables.end());
  EXPECT_EQ(told.size(), variables.size()) << "a variable is there twice";
  EXPECT_EQ(told.at("AETHER_FUNCTION_ID"), "hello");
  EXPECT_EQ(told.at("AETHER_SOCKET"), "/run/s");
  EXPECT_EQ(told.at("AETHER_TRIGGER_PORT"), "20001");
  EXPECT_EQ(told.at("PORT"), "20001");
  EXPECT_EQ(told.at("HOST"), "127.0.0.1");
  EXPECT_EQ(told.at("KEY"), "value");
}

TEST(HandlerEnvironment, TheConfiguredHostCounts) {
  auto const variables = handler_environment({.function = "f", .socket = "s"}, {{"HOST", "::"}});
  std::map<std::string, std::string> const told(variables.begin(), variables.end());
  EXPECT_EQ(told.at("HOST"), "::");
}

TEST(InnerPort, IsOneThatIsFree) {
  auto const port = free_inner_port();
  ASSERT_TRUE(port.has_value());
  EXPECT_GE(*port, 20000);
}

}  // namespace
}  // namespace aether::functions
