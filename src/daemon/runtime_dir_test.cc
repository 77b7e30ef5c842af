// SPDX-License-Identifier: Apache-2.0
#include "daemon/runtime_dir.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "os/temp_dir.h"
#include "os/unix_socket.h"

namespace aether::daemon {
namespace {

/// A runtime root of the test's own.
class RuntimeDir : public testing::Test {
 protected:
  RuntimeDir() : folder_(or_throw(os::TempDir::create("runtime"))) {
    ::setenv("AETHER_RUNTIME_DIR", folder_.path().c_str(), 1);
  }
  ~RuntimeDir() override { ::unsetenv("AETHER_RUNTIME_DIR"); }

  /// Somebody listens on the control socket of this configuration.
  os::UniqueFd running(std::string const& config) {
    RuntimeNames const names = runtime_names(config);
    or_throw(make_private_folder(names.folder));
    return or_throw(os::listen_unix(names.control_socket));
  }

  os::TempDir folder_;
};

TEST_F(RuntimeDir, GivesTheSameNamesHoweverThePathIsWritten) {
  std::string const file = folder_.path() + "/aeterna.yaml";
  std::ofstream(file) << "service: {}\n";
  EXPECT_EQ(runtime_names(file).control_socket,
            runtime_names(folder_.path() + "/./aeterna.yaml").control_socket);
  EXPECT_NE(runtime_names(file).folder, runtime_names(folder_.path() + "/other.yaml").folder);
}

TEST_F(RuntimeDir, FindsTheOnlyOneThatRuns) {
  EXPECT_EQ(find_control_socket({}, {}).error().code(), ErrorCode::NotRunning);
  os::UniqueFd const one = running("/a/one.yaml");
  EXPECT_EQ(find_control_socket({}, {}).value(), runtime_names("/a/one.yaml").control_socket);
}

TEST_F(RuntimeDir, AsksWhichOneWhenSeveralRun) {
  os::UniqueFd const one = running("/a/one.yaml");
  os::UniqueFd const two = running("/a/two.yaml");
  EXPECT_EQ(find_control_socket({}, {}).error().code(), ErrorCode::UsageInvalid);
  EXPECT_EQ(find_control_socket("/a/two.yaml", {}).value(),
            runtime_names("/a/two.yaml").control_socket);
  EXPECT_EQ(find_control_socket({}, {"/a/one.yaml"}).value(),
            runtime_names("/a/one.yaml").control_socket);
}

TEST_F(RuntimeDir, SaysThatANamedOneDoesNotRun) {
  os::UniqueFd const one = running("/a/one.yaml");
  EXPECT_EQ(find_control_socket("/a/two.yaml", {}).error().code(), ErrorCode::NotRunning);
}

TEST_F(RuntimeDir, LetsOthersPassThroughItsFolderButNotLook) {
  std::string const folder = folder_.path() + "/deep/er";
  ASSERT_TRUE(make_private_folder(folder));
  struct stat info{};
  ASSERT_EQ(::stat(folder.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0711U);
}

TEST_F(RuntimeDir, RefusesAFolderThatIsALink) {
  std::string const real = folder_.path() + "/real";
  std::filesystem::create_directory(real);
  std::filesystem::create_symlink(real, folder_.path() + "/link");
  EXPECT_EQ(make_private_folder(folder_.path() + "/link").error().code(), ErrorCode::Forbidden);
}

TEST_F(RuntimeDir, RefusesAPathThatIsTooLongForSockets) {
  EXPECT_TRUE(check_socket_room("/run/aether/aeterna-12345678"));
  Status const refused = check_socket_room("/" + std::string(90, 'x'));
  EXPECT_EQ(refused.error().code(), ErrorCode::AddressInvalid);
  EXPECT_NE(refused.error().message().find("AETHER_RUNTIME_DIR"), std::string::npos);
}

}  // namespace
}  // namespace aether::daemon
