// SPDX-License-Identifier: Apache-2.0
#include "functions/image_facts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/temp_dir.h"

namespace aether::functions {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

/// A handler in a folder of its own.
class ImageFacts : public testing::Test {
 protected:
  void SetUp() override {
    auto folder = os::TempDir::create("facts");
    ASSERT_TRUE(folder);
    folder_.emplace(std::move(*folder));
    write("handler.py", "#!/usr/bin/env python3\nprint(1)\n");
    write("library.py", "x = 1\n");
    subject_.function.id = "f";
    subject_.function.handler_path = folder_->file("handler.py");
    subject_.command = {subject_.function.handler_path};
    subject_.own_environment = {"PATH=/usr/bin:/bin", "LANG=C"};
  }
  void write(std::string const& name, std::string const& text) const {
    std::ofstream(folder_->file(name)) << text;
    ::chmod(folder_->file(name).c_str(), 0755);
  }
  [[nodiscard]] std::vector<std::string> facts() const {
    auto found = image_facts(subject_);
    EXPECT_TRUE(found) << found.error().describe();
    return found ? *found : std::vector<std::string>();
  }
  std::optional<os::TempDir> folder_;
  ImageSubject subject_;
};

TEST_F(ImageFacts, AreTheSameUntilSomethingChanges) {
  auto const before = facts();
  EXPECT_EQ(facts(), before);
  EXPECT_THAT(before, Contains(HasSubstr("handler.py")));
  EXPECT_THAT(before, Contains(HasSubstr("library.py")));
  EXPECT_THAT(before, Contains(HasSubstr("interpreter /")));
}

TEST_F(ImageFacts, ChangeWithTheCodeBesideTheHandler) {
  auto const before = facts();
  // As many bytes, and as old: only its content differs.
  struct stat file{};
  ASSERT_EQ(::stat(folder_->file("library.py").c_str(), &file), 0);
  write("library.py", "x = 2\n");
  timespec const times[2] = {file.st_atim, file.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, folder_->file("library.py").c_str(), times, 0), 0);
  EXPECT_NE(facts(), before);
  write("more.py", "");
  EXPECT_THAT(facts(), Contains(HasSubstr("more.py")));
}

TEST_F(ImageFacts, DoNotChangeWithWhatRunningItWrites) {
  auto const before = facts();
  std::filesystem::create_directory(folder_->file("__pycache__"));
  write("__pycache__/library.cpython-311.pyc", "code");
  write("handler.log", "said");
  EXPECT_EQ(facts(), before);
}

TEST_F(ImageFacts, ChangeWithTheEnvironmentAndTheSettings) {
  auto const before = facts();
  subject_.function.environment = {{"SECRET", "hidden"}};
  auto const with_variable = facts();
  EXPECT_NE(with_variable, before);
  EXPECT_THAT(with_variable, Not(Contains(HasSubstr("hidden")))) << "secrets are not written down";
  subject_.function.environment.clear();
  subject_.own_environment.emplace_back("TZ=UTC");
  EXPECT_NE(facts(), before);
  subject_.own_environment.back() = "INVOCATION_ID=another start of the same service";
  EXPECT_EQ(facts(), before);
  subject_.function.sandbox = config::Sandbox::None;
  EXPECT_NE(facts(), before);
}

TEST_F(ImageFacts, OfTooManyFilesAreRefused) {
  for (std::size_t i = 0; i <= kImageFilesMax; ++i)
    std::ofstream(folder_->file("file" + std::to_string(i)));
  auto const found = image_facts(subject_);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code(), ErrorCode::LimitReached);
}

TEST(ImageEnvironment, LeavesOutWhatEachStartSetsAnew) {
  EXPECT_TRUE(matters_to_images("PATH=/bin"));
  EXPECT_TRUE(matters_to_images("PWDX=/bin"));
  for (char const* variable : {"INVOCATION_ID=1", "SHLVL=2", "PWD=/", "LISTEN_FDS=1", "_=/bin/x",
                               "AETHER_FAULT=x", "NOTIFY_SOCKET=/run/x"})
    EXPECT_FALSE(matters_to_images(variable)) << variable;
}

}  // namespace
}  // namespace aether::functions
