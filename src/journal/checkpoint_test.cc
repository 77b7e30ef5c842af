// SPDX-License-Identifier: Apache-2.0
#include "journal/checkpoint.h"

#include <sys/stat.h>

#include <fstream>

#include <gtest/gtest.h>

#include "journal/memory/memory_journal.h"
#include "journal/signer.h"
#include "journal/testing.h"
#include "os/temp_dir.h"

namespace aether::journal {
namespace {

using testing::appended;
using testing::batch_of;
using testing::point;
using testing::value_of;

// The example of the documentation of golang.org/x/mod/sumdb/note. Ed25519 is deterministic, so
// that the same key must give the same signature here.
constexpr std::string_view kGoPrivate =
    "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
constexpr std::string_view kGoPublic =
    "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
constexpr std::string_view kGoText =
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n";
constexpr std::string_view kGoSignature =
    "\xe2\x80\x94 PeterNeumann "
    "x08go/ZJkuBS9UG/"
    "SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

TEST(SignedNote, IsTheOneOfGo) {
  Signer const signer = value_of(Signer::parse(kGoPrivate));
  EXPECT_EQ(signer.verifier().text(), kGoPublic);
  std::string const note = value_of(signer.sign(std::string(kGoText)));
  EXPECT_EQ(note, std::string(kGoText) + "\n" + std::string(kGoSignature));
  VerifierKey const key = value_of(VerifierKey::parse(kGoPublic));
  EXPECT_TRUE(key.has_signed(value_of(parse_note(note))));
}

TEST(SignedNote, EveryChangedByteIsNoticed) {
  std::string const note = std::string(kGoText) + "\n" + std::string(kGoSignature);
  VerifierKey const key = value_of(VerifierKey::parse(kGoPublic));
  for (std::size_t at = 0; at < note.size(); ++at) {
    std::string changed = note;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    Result<SignedNote> const parsed = parse_note(changed);
    EXPECT_FALSE(parsed && key.has_signed(*parsed)) << "byte " << at;
  }
}

TEST(Checkpoint, IsThreeLinesAndReadStrictly) {
  Checkpoint const checkpoint{.origin = "example.com/journal",
                              .head = {.size = 20'852'163, .root = leaf_hash("x")}};
  std::string const text = checkpoint_text(checkpoint);
  EXPECT_EQ(value_of(parse_checkpoint_text(text)), checkpoint);
  for (std::string const& wrong : std::initializer_list<std::string>{
           std::string(), text + "extension\n", text.substr(0, text.size() - 1), "a b\n1\n" + text,
           "x\n01\n" + text_of(leaf_hash("x")) + "\n", "x\n-1\n" + text_of(leaf_hash("x")) + "\n",
           std::string("x\n1\nAAAA\n")}) {
    EXPECT_FALSE(parse_checkpoint_text(wrong)) << wrong;
  }
}

TEST(Checkpoint, IsOpenedOnlyWithTheKeyThatSignedIt) {
  Signer const signer = value_of(Signer::from_seed("here", std::string(32, 'a')));
  Signer const other = value_of(Signer::from_seed("here", std::string(32, 'b')));
  Signer const stranger = value_of(Signer::from_seed("there", std::string(32, 'a')));
  std::unique_ptr<Journal> const journal = open_memory_journal();
  appended(*journal, batch_of({point("a")}));
  std::string const note = value_of(sign_checkpoint(*journal, signer));
  EXPECT_EQ(value_of(open_checkpoint(note, signer.verifier())).head,
            value_of(journal->tree_head()));
  EXPECT_FALSE(open_checkpoint(note, other.verifier()));
  EXPECT_FALSE(open_checkpoint(note, stranger.verifier()));
  EXPECT_EQ(value_of(journal->checkpoints()), std::vector<std::string>{note});
}

TEST(Signer, KeepsItsKeyInAFileOfItsOwner) {
  os::TempDir const folder = value_of(os::TempDir::create("journal-key"));
  std::string const path = folder.file("journal.key");
  Signer const made = value_of(Signer::load_or_create(path, "here"));
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  Signer const read = value_of(Signer::load_or_create(path, "another name"));
  EXPECT_EQ(read.private_text(), made.private_text());
  ::chmod(path.c_str(), 0640);
  Result<Signer> const refused = Signer::load_or_create(path, "here");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("chmod 600"), std::string::npos);
  ::chmod(path.c_str(), 0600);
  std::ofstream(path) << "no key\n";
  EXPECT_FALSE(Signer::load_or_create(path, "here"));
  EXPECT_FALSE(Signer::from_seed("two words", std::string(32, 'a')));
}

}  // namespace
}  // namespace aether::journal
