// SPDX-License-Identifier: Apache-2.0
#include "clone/image_patch.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "clone/image_manifest.h"
#include "clone/image_wire.h"

namespace aether::clone {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::string_view kMagics = "\x19\x43\x56\x54....";

std::string file_of(std::vector<std::string> const& messages) {
  std::string file(kMagics);
  for (std::string const& message : messages) append_message(file, message);
  return file;
}

std::string numbers(std::vector<std::pair<std::uint32_t, std::uint64_t>> const& fields) {
  std::string message;
  for (auto const& [number, value] : fields) append_number(message, number, value);
  return message;
}

std::string tree(std::uint64_t pid, std::vector<std::uint64_t> const& threads) {
  std::string message = numbers({{1, pid}, {2, 0}, {3, pid}, {4, pid}});
  for (std::uint64_t const thread : threads) append_number(message, 5, thread);
  return message;
}

std::string socket_file(std::uint64_t family, std::uint64_t state, std::uint64_t port,
                        std::vector<std::uint64_t> const& address, bool only_ipv6 = false) {
  std::string socket = numbers({{1, 7},
                                {2, 99},
                                {3, family},
                                {4, SOCK_STREAM},
                                {5, 6},
                                {6, state},
                                {7, port},
                                {8, 0},
                                {9, 2},
                                {10, 5}});
  for (std::uint64_t const word : address) append_number(socket, 11, word);
  append_number(socket, 12, 0);
  append_bytes(socket, 13, "fown");
  if (only_ipv6) append_number(socket, 15, 1);
  std::string message = numbers({{1, 4}, {2, 7}});
  append_bytes(message, 4, socket);
  return message;
}

TEST(ImagePatch, NumbersAProcessAndItsThreadsAnew) {
  std::string const image = file_of({tree(100, {100, 101, 300})});
  auto const threads = threads_of_image(image);
  ASSERT_TRUE(threads);
  EXPECT_THAT(*threads, ElementsAre(100, 101, 300));
  auto const changed = renumber(image, {{100, 70000}, {101, 5}, {300, 300000}});
  ASSERT_TRUE(changed);
  EXPECT_EQ(*changed, file_of({tree(70000, {70000, 5, 300000})}));
}

TEST(ImagePatch, RefusesSeveralProcessesAndForeignSessions) {
  auto const several = threads_of_image(file_of({tree(100, {100}), tree(101, {101})}));
  ASSERT_FALSE(several);
  EXPECT_EQ(several.error().code(), ErrorCode::Unsupported);
  auto const led = threads_of_image(file_of({numbers({{1, 9}, {2, 0}, {3, 9}, {4, 8}, {5, 9}})}));
  ASSERT_FALSE(led);
  EXPECT_EQ(led.error().code(), ErrorCode::Unsupported);
}

TEST(ImagePatch, ChangesThePortsOfListenersAndOfNothingElse) {
  std::uint64_t const here = htonl(INADDR_LOOPBACK);
  std::string const other = numbers({{1, 1}, {2, 3}});
  std::string const image =
      file_of({other, socket_file(AF_INET, 10, 80, {here}), socket_file(AF_INET, 1, 80, {here}),
               socket_file(AF_INET6, 10, 81, {0, 0, 0, 0}, true)});
  auto const listeners = listeners_of_image(image);
  ASSERT_TRUE(listeners);
  EXPECT_THAT(*listeners, ElementsAre(ImageListener{.port = 80},
                                      ImageListener{.port = 81, .ipv6 = true, .only_ipv6 = true}));
  auto const changed = change_ports(image, {{80, 30000}, {81, 7}});
  ASSERT_TRUE(changed);
  EXPECT_EQ(*changed, file_of({other, socket_file(AF_INET, 10, 30000, {here}),
                               socket_file(AF_INET, 1, 80, {here}),
                               socket_file(AF_INET6, 10, 7, {0, 0, 0, htonl(1)}, true)}));
  EXPECT_EQ(change_ports(image, {}).value(), image);
}

TEST(ImagePatch, ListensOnTheLoopbackAddressInsteadOfAny) {
  std::uint64_t const here = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(change_ports(file_of({socket_file(AF_INET, 10, 80, {0})}), {{80, 81}}).value(),
            file_of({socket_file(AF_INET, 10, 81, {here})}));
  EXPECT_EQ(
      change_ports(file_of({socket_file(AF_INET6, 10, 80, {0, 0, 0, 0})}), {{80, 81}}).value(),
      file_of({socket_file(AF_INET6, 10, 81, {0, 0, htonl(0xFFFF), here})}));
}

TEST(ImagePatch, LetsTheProcessEndWithItsParent) {
  std::string info;
  append_number(info, 1, 0x7f0012345678);
  std::string const thread = numbers({{1, 5}, {8, 1}, {9, 4}});
  std::string core = numbers({{1, 1}});
  append_bytes(core, 2, info);
  append_bytes(core, 5, thread);
  EXPECT_EQ(number_address(file_of({core})).value(), 0x7f0012345678U);
  std::string changed = numbers({{1, 1}});
  append_bytes(changed, 2, info);
  append_bytes(changed, 5, numbers({{1, 5}, {9, 4}, {8, SIGKILL}}));
  EXPECT_EQ(die_with_parent(file_of({core})).value(), file_of({changed}));
}

TEST(ImagePatch, FindsPagesInBothFormsOfTheTable) {
  // vaddr, pages, flags: present, elsewhere, present.
  std::string const table = file_of({numbers({{1, 3}}), numbers({{1, 0x1000}, {2, 2}, {4, 4}}),
                                     numbers({{1, 0x8000}, {2, 1}, {4, 2}}),
                                     numbers({{1, 0x9000}, {2, 0}, {4, 4}, {5, 3}})});
  EXPECT_EQ(pages_number(table).value(), 3U);
  EXPECT_THAT(pages_between(table, 0x2000, 0xA000).value(),
              ElementsAre(PagesPart{.offset = 0x1000, .size = 0x1000},
                          PagesPart{.offset = 0x2000, .size = 0x1000}));
  EXPECT_THAT(pages_between(table, 0xB000, 0xC000).value(),
              ElementsAre(PagesPart{.offset = 0x4000, .size = 0x1000}));
  EXPECT_THAT(pages_between(table, 0xD000, 0xE000).value(), IsEmpty());
}

TEST(ImagePatch, RefusesWhatIsTorn) {
  std::string const whole = file_of({socket_file(AF_INET, 10, 80, {1})});
  for (std::size_t length = 1; length < whole.size(); ++length) {
    if (length == kMagics.size()) continue;  // An image of nothing.
    EXPECT_FALSE(change_ports(whole.substr(0, length), {{80, 81}})) << length;
  }
  std::string twice = socket_file(AF_INET, 10, 80, {1});
  append_bytes(twice, 4, "\xff");
  EXPECT_FALSE(listeners_of_image(file_of({twice})));
  EXPECT_FALSE(change_ports(file_of({twice}), {}));
  EXPECT_FALSE(threads_of_image(kMagics));
  EXPECT_FALSE(number_address(file_of({"\xff"})));
  EXPECT_FALSE(pages_number(kMagics));
}

ImageManifest some_manifest() {
  return {.key = {"kernel 6.1", "handler /a b"},
          .threads = {10, 11},
          .number_addresses = {{10, 0x7f00}, {11, 0}},
          .listeners = {{.port = 80}, {.port = 81, .ipv6 = true, .only_ipv6 = true}},
          .port = 81,
          .stdout_name = "pipe:[1]",
          .stderr_name = "",
          .ready_name = "socket:[2]",
          .rights = "Uid: 0 0 0 0; Seccomp: 2",
          .notes = {"it has no hook"},
          .files = {{"pages-1.img", {.size = 4096, .checksum = 0xdeadbeef}}}};
}

TEST(ImageManifest, IsReadAsItWasWritten) {
  auto const read = read_manifest(write_manifest(some_manifest()));
  ASSERT_TRUE(read) << read.error().describe();
  EXPECT_EQ(*read, some_manifest());
}

TEST(ImageManifest, WithAnyByteChangedOrMissingIsTorn) {
  std::string const whole = write_manifest(some_manifest());
  for (std::size_t i = 0; i < whole.size(); ++i) {
    EXPECT_FALSE(read_manifest(whole.substr(0, i))) << i;
    std::string changed = whole;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_FALSE(read_manifest(changed)) << i;
  }
  EXPECT_FALSE(read_manifest(whole + "x"));
}

TEST(ImageManifest, NamesFilesOfItsOwnFolderOnly) {
  for (char const* name : {"../x", "/etc/passwd", ".hidden", "a/b"}) {
    ImageManifest manifest = some_manifest();
    manifest.files[name] = {};
    EXPECT_FALSE(read_manifest(write_manifest(manifest))) << name;
  }
}

TEST(ImageKey, HasAnotherNameForEachDifference) {
  std::string const name = key_name({"a", "b"});
  EXPECT_EQ(name.size(), 16U);
  EXPECT_EQ(name, key_name({"a", "b"}));
  EXPECT_NE(name, key_name({"b", "a"}));
  EXPECT_NE(name, key_name({"a"}));
  EXPECT_NE(name, key_name({"ab"}));
}

TEST(Rights, AreOneLineOfWhatRestrictsAProcess) {
  EXPECT_EQ(rights_of("Name:\tx\nUid:\t1\t2\t3\t4\nVmRSS:\t5 kB\nGroups:\t \nSeccomp:\t2\n"
                      "Seccomp_filters:\t1\n"),
            "Uid: 1 2 3 4; Groups:  ; Seccomp: 2");
}

}  // namespace
}  // namespace aether::clone
