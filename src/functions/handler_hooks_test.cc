// SPDX-License-Identifier: Apache-2.0
#include "functions/handler_hooks.h"

#include <unistd.h>

#include <filesystem>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/file.h"
#include "os/temp_dir.h"
#include "os/testing.h"

namespace aether::functions {
namespace {

using ::testing::Contains;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;

/// A folder with both libraries in it.
os::TempDir make_sdk() {
  os::TempDir folder = os::TempDir::create("sdk").value();
  for (auto const* const part : {"/python/aetherless/autohook", "/node/aetherless"})
    std::filesystem::create_directories(folder.path() + part);
  EXPECT_TRUE(os::write_file_atomically(folder.path() + "/node/aetherless/autohook.js", "", 0644));
  return folder;
}

TEST(HandlerHooks, GiveEachCopyChanceOfItsOwn) {
  std::set<std::string> lines;
  for (int i = 0; i < 100; ++i) lines.insert(restored_line({7}));
  EXPECT_EQ(lines.size(), 100U);
  EXPECT_THAT(*lines.begin(), MatchesRegex("RESTORED 7 [0-9a-f]+\n"));
  EXPECT_EQ(lines.begin()->size(), 44U);
}

TEST(HandlerHooks, AreLoadedBesideWhatTheHandlerLoadsItself) {
  os::TempDir const sdk = make_sdk();
  std::string const python = sdk.path() + "/python/aetherless/autohook:" + sdk.path() + "/python";
  std::string const node = "NODE_OPTIONS=--require=" + sdk.path() + "/node/aetherless/autohook.js";
  auto const plain = hook_variables({"A=b"}, sdk.path());
  EXPECT_THAT(plain, Contains("PYTHONPATH=" + python));
  EXPECT_THAT(plain, Contains(node));
  EXPECT_THAT(plain, Contains("NODE_PATH=" + sdk.path() + "/node"));
  auto const given = hook_variables(
      {"PYTHONPATH=/mine", "NODE_OPTIONS=--max-old-space-size=64", "NODE_PATH=/also"}, sdk.path());
  EXPECT_THAT(given, Contains("PYTHONPATH=" + python + ":/mine"));
  EXPECT_THAT(given, Contains(node + " --max-old-space-size=64"));
  EXPECT_THAT(given, Contains("NODE_PATH=" + sdk.path() + "/node:/also"));
}

TEST(HandlerHooks, AreNotLoadedWhereTheyAreNotWantedOrNotThere) {
  os::TempDir const sdk = make_sdk();
  os::TempDir const other = os::TempDir::create("none").value();
  EXPECT_THAT(hook_variables({"AETHER_HOOKS=off"}, sdk.path()), IsEmpty());
  EXPECT_THAT(hook_variables({}, other.path()), IsEmpty());
  EXPECT_THAT(hook_variables({}, ""), IsEmpty());
}

TEST(HandlerHooks, AreFoundInTheFolderThatIsNamed) {
  ::setenv("AETHER_SDK", "/somewhere", 1);
  EXPECT_EQ(find_sdk_folder(), "/somewhere");
  ::unsetenv("AETHER_SDK");
}

TEST(HandlerHooks, ShowInAPythonThatWaitsForTheSignal) {
  constexpr char const* kScript = R"(
import signal, sys
sys.stdin.readline()
signal.signal(signal.SIGURG, lambda *_: None)
print('waits', flush=True)
sys.stdin.readline()
)";
  os::testing::Program python(
      os::testing::python(std::string("print('up', flush=True)\n") + kScript));
  ASSERT_EQ(python.read_line(), "up");
  EXPECT_FALSE(has_loaded_hook(python.pid()));
  python.write_line("");
  ASSERT_EQ(python.read_line(), "waits");
  EXPECT_TRUE(has_loaded_hook(python.pid()));
  EXPECT_FALSE(has_loaded_hook(::getpid()));
}

}  // namespace
}  // namespace aether::functions
