// SPDX-License-Identifier: Apache-2.0
#include "journal/evidence.h"

#include <algorithm>
#include <memory>

#include <gtest/gtest.h>

#include "journal/memory/memory_journal.h"
#include "journal/signer.h"
#include "journal/testing.h"
#include "os/file.h"
#include "os/temp_dir.h"

namespace aether::journal {
namespace {

using testing::append_to;
using testing::appended;
using testing::batch_of;
using testing::blob_of;
using testing::close_span;
using testing::open_span;
using testing::point;
using testing::value_of;

class EvidenceTest : public ::testing::Test {
 protected:
  EvidenceTest() {
    Batch batch = batch_of({open_span("run", "run"), point("other"), point("other")});
    batch.events[0].blobs = {input_.hash, picture_.hash};
    batch.events[0].keys = {"idempotency/1"};
    batch.blobs = {input_, picture_};
    appended(*journal_, batch);
    for (int i = 0; i < 5; ++i) {
      std::string const span = "step/" + std::to_string(i);
      appended(*journal_, batch_of({point("other"), open_span("run", span), point("other"),
                                    close_span("run", span)}));
    }
    appended(*journal_, batch_of({close_span("run", "run"), point("other")}));
  }
  std::string text_of(std::string_view stream = "run") {
    std::string const note = value_of(sign_checkpoint(*journal_, signer_));
    return evidence_text(value_of(export_evidence(*journal_, stream, note, signer_.verifier())));
  }
  static bool holds(std::string_view text) { return verify_evidence(text, "").has_value(); }

  Blob input_ = blob_of("what was asked");
  Blob picture_ = blob_of(std::string("\0\1\2", 3));
  std::unique_ptr<Journal> journal_ = open_memory_journal();
  Signer signer_ = value_of(Signer::from_seed("example.com/journal", std::string(32, 's')));
};

TEST_F(EvidenceTest, HoldsAndSaysWhatItProves) {
  std::string const text = text_of();
  Verified const verified = value_of(verify_evidence(text, signer_.verifier().text()));
  EXPECT_EQ(verified.stream, "run");
  EXPECT_EQ(verified.events, value_of(journal_->read_stream("run", Sequence{1}, 100)));
  EXPECT_EQ(verified.events.size(), 12U);
  EXPECT_EQ(verified.blobs, 2U);
  EXPECT_EQ(verified.checkpoint.head, value_of(journal_->tree_head()));
  EXPECT_EQ(evidence_text(value_of(parse_evidence(text))), text);
}

TEST_F(EvidenceTest, EveryChangedByteIsNoticed) {
  std::string const text = text_of();
  for (std::size_t at = 0; at < text.size(); ++at) {
    for (int const change : {1, 32, 128}) {
      std::string changed = text;
      changed[at] = static_cast<char>(changed[at] ^ change);
      ASSERT_FALSE(holds(changed)) << "byte " << at << " of " << text.size();
    }
  }
}

TEST_F(EvidenceTest, RandomMutationsAreNoticed) {
  std::string const text = text_of();
  Chance chance(5);
  for (int round = 0; round < 200; ++round) {
    std::string changed = text;
    std::size_t const at = chance.below(text.size());
    switch (chance.below(3)) {
      case 0:
        changed.erase(at, 1 + chance.below(100));
        break;
      case 1:
        changed.insert(at, 1, static_cast<char>(chance.below(256)));
        break;
      default:
        changed[at] = static_cast<char>(changed[at] + 1 + static_cast<char>(chance.below(255)));
    }
    if (changed != text) ASSERT_FALSE(holds(changed)) << "round " << round;
  }
}

TEST_F(EvidenceTest, EveryTruncationAndAdditionIsNoticed) {
  std::string const text = text_of();
  for (std::size_t size = 0; size < text.size(); ++size) {
    ASSERT_FALSE(holds(text.substr(0, size))) << size;
  }
  EXPECT_FALSE(holds(text + "\n"));
  EXPECT_FALSE(holds(text + text));
}

TEST_F(EvidenceTest, LeavingOutMovingOrDoublingAnyEventOrProofIsNoticed) {
  Evidence const evidence = value_of(parse_evidence(text_of()));
  for (std::size_t at = 0; at < evidence.lines.size(); ++at) {
    Evidence less = evidence;
    less.lines.erase(less.lines.begin() + static_cast<std::ptrdiff_t>(at));
    EXPECT_FALSE(holds(evidence_text(less))) << at;
    Evidence twice = evidence;
    twice.lines.push_back(twice.lines[at]);
    EXPECT_FALSE(holds(evidence_text(twice))) << at;
    Evidence moved = evidence;
    std::swap(moved.lines[at], moved.lines[(at + 1) % moved.lines.size()]);
    EXPECT_FALSE(holds(evidence_text(moved))) << at;
  }
  for (std::size_t at = 0; at < evidence.proof.size(); ++at) {
    Evidence less = evidence;
    less.proof.erase(less.proof.begin() + static_cast<std::ptrdiff_t>(at));
    EXPECT_FALSE(holds(evidence_text(less))) << at;
  }
  Evidence without_blob = evidence;
  without_blob.blobs.pop_back();
  EXPECT_FALSE(holds(evidence_text(without_blob)));
}

TEST_F(EvidenceTest, WhoMakesAnotherHistoryNeedsAnotherKey) {
  Evidence forged = value_of(parse_evidence(text_of()));
  std::unique_ptr<Journal> const another = open_memory_journal();
  appended(*another, batch_of({point("run", "\"never happened\"")}));
  Signer const thief = value_of(Signer::from_seed("example.com/journal", std::string(32, 't')));
  std::string const note = value_of(sign_checkpoint(*another, thief));
  std::string const text =
      evidence_text(value_of(export_evidence(*another, "run", note, thief.verifier())));
  EXPECT_TRUE(verify_evidence(text, ""));
  Result<Verified> const verified = verify_evidence(text, signer_.verifier().text());
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().code(), ErrorCode::EvidenceInvalid);
  forged.key = thief.verifier().text();
  EXPECT_FALSE(holds(evidence_text(forged)));
}

TEST_F(EvidenceTest, AnErasedBlobStillVerifies) {
  Batch erase;
  erase.blobs_erased = {picture_.hash};
  EXPECT_TRUE(append_to(*journal_, erase));
  std::string const text = text_of();
  Verified const verified = value_of(verify_evidence(text, ""));
  EXPECT_EQ(verified.blobs_erased, 1U);
  EXPECT_NE(text.find(" erased\n"), std::string::npos);
  EXPECT_EQ(text.find(to_base64(*picture_.content)), std::string::npos);
}

TEST_F(EvidenceTest, NeedsAStreamAndACheckpointThatCoversIt) {
  std::string const note = value_of(sign_checkpoint(*journal_, signer_));
  Result<Evidence> const nobody = export_evidence(*journal_, "nobody", note, signer_.verifier());
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.error().code(), ErrorCode::NotFound);
  appended(*journal_, batch_of({point("run")}));
  Result<Evidence> const late = export_evidence(*journal_, "run", note, signer_.verifier());
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), ErrorCode::RequestInvalid);
}

TEST_F(EvidenceTest, IsVerifiedFromAFile) {
  os::TempDir const folder = value_of(os::TempDir::create("journal-evidence"));
  ASSERT_TRUE(os::write_file_atomically(folder.file("run.evidence"), text_of()));
  EXPECT_EQ(value_of(verify_evidence_file(folder.file("run.evidence"), "")).events.size(), 12U);
  EXPECT_FALSE(verify_evidence_file(folder.file("none"), ""));
}

TEST(EventLine, IsCanonicalJsonAndReadBack) {
  Event event;
  static_cast<NewEvent&>(event) = open_span("run", "step");
  event.position = Position{12};
  event.sequence = Sequence{3};
  event.fence = Fence{2};
  event.body = R"({"a":[1,"\u20ac"],"b":{}})";
  EXPECT_EQ(event_line(event),
            R"({"actor":"test","at":1795258562123,"body":{"a":[1,"\u20ac"],"b":{}},"fence":2,)"
            R"("kind":"step.opened","mark":"open","position":12,"sequence":3,"span":"step",)"
            R"("stream":"run"})");
  EXPECT_EQ(value_of(parse_event_line(event_line(event))), event);
  event.cause = Position{11};
  event.keys = {"k1", "k2"};
  event.blobs = {leaf_hash("b")};
  event.actor.clear();
  EXPECT_EQ(value_of(parse_event_line(event_line(event))), event);
}

}  // namespace
}  // namespace aether::journal
