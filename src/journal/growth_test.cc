// SPDX-License-Identifier: Apache-2.0
#include "journal/growth.h"

#include <memory>

#include <gtest/gtest.h>

#include "journal/evidence.h"
#include "journal/fsck.h"
#include "journal/memory/memory_journal.h"
#include "journal/signer.h"
#include "journal/testing.h"

namespace aether::journal {
namespace {

using testing::appended;
using testing::batch_of;
using testing::point;
using testing::value_of;

/// A journal of one event at a time.
struct Grower {
  std::unique_ptr<Journal> journal = open_memory_journal();
  Signer signer = value_of(Signer::from_seed("example.com/journal", std::string(32, 's')));

  std::string grow(int count, std::string const& body = "1") {
    for (int i = 0; i < count; ++i) appended(*journal, batch_of({point("run", body)}));
    return value_of(sign_checkpoint(*journal, signer));
  }
  [[nodiscard]] std::string key() const { return signer.verifier().text(); }
  std::string prove(std::uint64_t old_size, std::string const& note) {
    return growth_text(value_of(prove_growth(*journal, old_size, note, signer.verifier())));
  }
};

std::string why_not(std::string const& text, std::string const& kept, std::string const& key) {
  Result<VerifiedGrowth> const verified = verify_growth(text, kept, key);
  return verified ? "" : verified.error().message();
}

TEST(Growth, OfEverySizeIsProvedFromEverySizeBefore) {
  Grower house;
  std::vector<std::string> notes{house.grow(0)};
  for (int size = 1; size <= 20; ++size) notes.push_back(house.grow(1));
  for (std::size_t old = 0; old < notes.size(); ++old) {
    for (std::size_t size = old; size < notes.size(); ++size) {
      std::string const text = house.prove(old, notes[size]);
      EXPECT_EQ(growth_text(value_of(parse_growth(text))), text);
      VerifiedGrowth const grown = value_of(verify_growth(text, notes[old], house.key()));
      EXPECT_EQ(grown.from.head.size, old);
      EXPECT_EQ(grown.to.head.size, size);
    }
  }
}

TEST(Growth, FromACheckpointInAFileOfEvidenceOrOfGrowth) {
  Grower house;
  std::string const note = house.grow(5);
  std::string const evidence = evidence_text(
      value_of(export_evidence(*house.journal, "run", note, house.signer.verifier())));
  std::string const growth = house.prove(5, house.grow(3));
  EXPECT_EQ(why_not(growth, evidence, house.key()), "");
  std::string const later = house.prove(8, house.grow(1));
  EXPECT_EQ(why_not(later, growth, house.key()), "");
}

TEST(Growth, EveryChangedByteAndEveryTruncationIsNoticed) {
  Grower house;
  std::string const kept = house.grow(11);
  std::string const text = house.prove(11, house.grow(10));
  ASSERT_EQ(why_not(text, kept, house.key()), "");
  for (std::size_t at = 0; at < text.size(); ++at) {
    EXPECT_NE(why_not(text.substr(0, at), kept, house.key()), "") << at;
    for (int const change : {1, 32, 128}) {
      std::string changed = text;
      changed[at] = static_cast<char>(changed[at] ^ change);
      EXPECT_NE(why_not(changed, kept, house.key()), "") << at;
    }
  }
  EXPECT_NE(why_not(text + "\n", kept, house.key()), "");
}

TEST(Growth, OfAnotherHistoryIsNotProvedThoughTheKeyIsTheSame) {
  Grower house;
  std::string const kept = house.grow(6);
  Grower other;
  std::string const theirs = other.prove(6, other.grow(9, "2"));
  EXPECT_NE(why_not(theirs, kept, house.key()).find("does not begin with"), std::string::npos);
  std::string const same_size =
      other.prove(9, value_of(sign_checkpoint(*other.journal, other.signer)));
  EXPECT_NE(why_not(same_size, house.grow(3), house.key()).find("does not begin with"),
            std::string::npos);
}

TEST(Growth, OfAJournalThatWasSetBackIsRefused) {
  Grower house;
  std::string const shorter = house.grow(4);
  std::string const kept = house.grow(4);
  Grower back;
  Result<Growth> const proved =
      prove_growth(*back.journal, 8, back.grow(4), back.signer.verifier());
  ASSERT_FALSE(proved);
  EXPECT_NE(proved.error().message().find("set back"), std::string::npos);
  std::string const text = growth_text({.old_size = 8, .proof = {}, .note = shorter});
  EXPECT_NE(why_not(text, kept, house.key()).find("set back"), std::string::npos);
  FsckReport const report = value_of(fsck(*back.journal, back.key(), kept));
  ASSERT_EQ(report.findings.size(), 1U);
  EXPECT_EQ(report.findings.front().kind, Finding::Kind::CheckpointBroken);
  EXPECT_TRUE(value_of(fsck(*house.journal, house.key(), shorter)).findings.empty());
}

TEST(Growth, NeedsTheKeyAndTheSizeThatWereKept) {
  Grower house;
  std::string const kept = house.grow(4);
  std::string const text = house.prove(4, house.grow(4));
  Signer const thief = value_of(Signer::from_seed("example.com/journal", std::string(32, 't')));
  EXPECT_NE(why_not(text, kept, thief.verifier().text()), "");
  EXPECT_NE(why_not(text, kept, ""), "");
  std::string const other = house.prove(3, house.grow(1));
  EXPECT_NE(why_not(other, kept, house.key()).find("from size 3"), std::string::npos);
}

}  // namespace
}  // namespace aether::journal
