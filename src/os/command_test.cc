// SPDX-License-Identifier: Apache-2.0
// Why a command could not be started, as the user reads it.
#include "os/command.h"

#include <sys/stat.h>

#include <fmt/format.h>

#include "os/proc.h"
#include "os/temp_dir.h"
#include "os/testing.h"

namespace aether::os {
namespace {

class Command : public ::testing::Test {
 protected:
  std::string make(std::string const& name, std::string_view content, mode_t mode = 0755) {
    EXPECT_TRUE(testing::write_script(folder_.file(name), content, mode));
    return folder_.file(name);
  }
  /// Starts it, which must fail, and returns why.
  Error failure(SpawnSpec spec) {
    if (spec.environment.empty()) spec.environment = testing::plain_environment();
    auto const child = spawn(spec);
    EXPECT_FALSE(child);
    return child ? Error(ErrorCode::Internal, "it started") : child.error();
  }
  TempDir folder_ = std::move(*TempDir::create());
};

bool says(Error const& error, std::string_view words) {
  bool const found = error.message().find(words) != std::string::npos;
  EXPECT_TRUE(found) << "\"" << error.message() << "\" does not say \"" << words << "\"";
  return found;
}

TEST_F(Command, ThatIsNotInPathIsNotFoundAndThePathIsNamed) {
  Error const error = failure({.argv = {"no-such-program"}});
  EXPECT_EQ(error.code(), ErrorCode::CommandNotFound);
  says(error, "no-such-program was not found in PATH (/usr/local/bin:/usr/bin:/bin)");
}

TEST_F(Command, ThatHasAnotherNameHereIsSuggested) {
  make("python3", "#!/bin/sh\n");
  Error const error =
      failure({.argv = {"python", "app.py"}, .environment = {"PATH=" + folder_.path()}});
  EXPECT_EQ(error.code(), ErrorCode::CommandNotFound);
  says(error, "there is python3 here");
}

TEST_F(Command, ThatLiesInTheWorkingFolderIsSuggested) {
  make("server", "#!/bin/sh\n");
  Error const error = failure({.argv = {"server"}, .workdir = folder_.path()});
  EXPECT_EQ(error.code(), ErrorCode::CommandNotFound);
  says(error, "write ./server");
}

TEST_F(Command, WrittenAsOneWordIsExplained) {
  says(failure({.argv = {"python3 app.py"}}), "separate words");
}

TEST_F(Command, ThatIsEmptyIsNotFound) {
  EXPECT_EQ(failure({.argv = {}}).code(), ErrorCode::CommandNotFound);
  EXPECT_EQ(failure({.argv = {""}}).code(), ErrorCode::CommandNotFound);
}

TEST_F(Command, WithAPathThatDoesNotExistIsNotFound) {
  Error const error = failure({.argv = {"./gone"}, .workdir = folder_.path()});
  EXPECT_EQ(error.code(), ErrorCode::CommandNotFound);
  says(error, "./gone (in " + folder_.path() + ") does not exist");
}

TEST_F(Command, WithoutTheExecutableBitIsToldToChmod) {
  Error const error = failure({.argv = {make("script", "#!/bin/sh\n", 0644)}});
  EXPECT_EQ(error.code(), ErrorCode::CommandNotExecutable);
  EXPECT_EQ(error.errno_value(), EACCES);
  says(error, "chmod +x");
}

TEST_F(Command, FoundInPathWithoutTheExecutableBitIsToldToChmod) {
  make("script", "#!/bin/sh\n", 0644);
  Error const error = failure({.argv = {"script"}, .environment = {"PATH=" + folder_.path()}});
  EXPECT_EQ(error.code(), ErrorCode::CommandNotExecutable);
  says(error, "chmod +x");
}

TEST_F(Command, ThatIsAFolderCannotBeRun) {
  Error const error = failure({.argv = {"/tmp"}});
  EXPECT_EQ(error.code(), ErrorCode::CommandNotExecutable);
  says(error, "it is a folder");
}

TEST_F(Command, WhoseInterpreterIsMissingNamesIt) {
  Error const error = failure({.argv = {make("script", "#!/opt/python9/bin/python\npass\n")}});
  EXPECT_EQ(error.code(), ErrorCode::CommandNotExecutable);
  says(error, "/opt/python9/bin/python, which does not exist");
}

TEST_F(Command, SavedWithWindowsLineEndsIsExplained) {
  Error const error = failure({.argv = {make("script", "#!/bin/sh\r\necho\r\n")}});
  EXPECT_EQ(error.code(), ErrorCode::CommandNotExecutable);
  says(error, "Windows line ends");
}

TEST_F(Command, WithoutAFirstLineForTheKernelIsExplained) {
  Error const error = failure({.argv = {make("script", "echo hello\n")}});
  EXPECT_EQ(error.code(), ErrorCode::CommandNotExecutable);
  EXPECT_EQ(error.errno_value(), ENOEXEC);
  says(error, "#!/bin/sh");
}

TEST_F(Command, ThatIsEmptyOrForAnotherMachineIsExplained) {
  says(failure({.argv = {make("empty", "")}}), "it is empty");
  std::string elf(
      "\x7f"
      "ELF\x02\x01\x01",
      7);
  elf.resize(64, '\0');
  elf[16] = 2;       // e_type: executable
  elf[18] = '\xf3';  // e_machine: RISC-V
  says(failure({.argv = {make("riscv", elf)}}), "another architecture");
}

TEST_F(Command, OpenForWritingMayBeTriedAgain) {
  std::string const path = make("busy", "#!/bin/sh\n");
  UniqueFd const writer(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  auto const child = spawn({.argv = {path}});
  if (child) GTEST_SKIP() << "this kernel lets a file that is open for writing be executed";
  EXPECT_EQ(child.error().retry(), Retry::Later);
  says(child.error(), "open for writing");
}

TEST_F(Command, WithTooManyArgumentsSaysSo) {
  SpawnSpec spec{.argv = {"/bin/true", std::string(std::size_t{1024} * 1024, 'x')}};
  Error const error = failure(std::move(spec));
  EXPECT_EQ(error.errno_value(), E2BIG);
  says(error, "longer than the kernel takes");
}

TEST_F(Command, WithANulByteIsRefused) {
  EXPECT_EQ(failure({.argv = {"/bin/true", std::string("a\0b", 3)}}).code(),
            ErrorCode::SpawnFailed);
}

TEST_F(Command, InAFolderThatIsGoneNamesTheFolder) {
  Error const gone = failure({.argv = {"/bin/true"}, .workdir = folder_.file("gone")});
  EXPECT_EQ(gone.code(), ErrorCode::WorkdirInvalid);
  says(gone, folder_.file("gone"));
  Error const file = failure({.argv = {"/bin/true"}, .workdir = make("file", "")});
  EXPECT_EQ(file.code(), ErrorCode::WorkdirInvalid);
  Error const below = failure({.argv = {"./server"}, .workdir = folder_.file("gone")});
  EXPECT_EQ(below.code(), ErrorCode::WorkdirInvalid);
}

TEST_F(Command, InAFolderThatItsUserMayNotEnterIsRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root may become another user";
  SpawnSpec spec{.argv = {"/bin/true"}, .workdir = folder_.path()};
  spec.user = Credentials{.uid = 4321, .gid = 4321, .groups = {}};
  Error const error = failure(std::move(spec));
  EXPECT_EQ(error.code(), ErrorCode::WorkdirInvalid);
  EXPECT_EQ(error.errno_value(), EACCES);
}

TEST_F(Command, CanBeLookedForWithoutStartingIt) {
  auto const environment = testing::plain_environment();
  EXPECT_EQ(find_command("sh", environment, "").value().substr(0, 5), "/usr/");
  EXPECT_EQ(find_command("nope", environment, "").error().code(), ErrorCode::CommandNotFound);
  make("tool", "#!/bin/sh\n");
  EXPECT_EQ(find_command("./tool", environment, folder_.path()).value(), "./tool");
  make("plain", "", 0644);
  EXPECT_EQ(find_command("./plain", environment, folder_.path()).error().code(),
            ErrorCode::CommandNotExecutable);
}

TEST(Credentials, AreFoundByNameOrNumber) {
  EXPECT_EQ(find_credentials("root").value().uid, 0U);
  EXPECT_EQ(find_credentials("root").value().home, "/root");
  EXPECT_EQ(find_credentials("root:4242").value().gid, 4242U);
  EXPECT_EQ(find_credentials("4242").value().uid, 4242U);
  EXPECT_EQ(find_credentials("4242").value().groups, (std::vector<gid_t>{4242}));
}

TEST(Credentials, OfNobodyKnownAreAnError) {
  for (char const* user : {"no-such-user", "root:no-such-group", "", ":", "4294967295", "-1"}) {
    auto const found = find_credentials(user);
    ASSERT_FALSE(found) << user;
    EXPECT_EQ(found.error().code(), ErrorCode::UserUnknown);
  }
}

}  // namespace
}  // namespace aether::os
