// SPDX-License-Identifier: Apache-2.0
// Stores and evidence of earlier releases are read by this one. tests/compat/journal holds, for
// each version of the format, a store, its root, and the evidence of its stream "run". A new
// version gets new files (AETHER_MAKE_GOLDEN=1 writes those of this one); old ones are never
// changed.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include <gtest/gtest.h>

#include "journal/evidence.h"
#include "journal/fsck.h"
#include "journal/signer.h"
#include "journal/sqlite/sqlite_journal.h"
#include "journal/testing.h"
#include "os/file.h"
#include "os/temp_dir.h"

namespace aether::journal {
namespace {

namespace fs = std::filesystem;
using testing::appended;
using testing::batch_of;
using testing::blob_of;
using testing::close_span;
using testing::open_span;
using testing::point;
using testing::value_of;

std::string content_of(fs::path const& path) {
  std::ostringstream all;
  all << std::ifstream(path, std::ios::binary).rdbuf();
  return all.str();
}

Signer golden_signer() {
  return value_of(Signer::from_seed("golden", std::string(32, 'g')));
}

/// Every field and every table is used.
void fill(Journal& journal) {
  Blob const kept = blob_of("kept");
  Blob const erased = blob_of("erased");
  NewEvent opened = open_span("run", "run");
  opened.keys = {"idempotency/1", "business/refund:42"};
  opened.blobs = {kept.hash, erased.hash};
  opened.body = R"({"input":"zażółć","n":1.5})";
  Batch first = batch_of({opened, point("audit")});
  first.checks = {{.stream = "run", .expected = Sequence{0}, .raised = Fence{1}}};
  first.blobs = {kept, erased};
  first.records = {{.view = "due", .key = std::string("\0\1", 2), .value = "x"}};
  appended(journal, first);
  Batch erase;
  erase.blobs_erased = {erased.hash};
  appended(journal, erase);
  for (int i = 0; i < 150; ++i) {
    std::string const span = "step/" + std::to_string(i);
    NewEvent closed = close_span("run", span);
    closed.cause = Position{1};
    appended(journal, batch_of({open_span("run", span), closed}));
  }
  appended(journal, batch_of({close_span("run", "run")}));
}

void make_golden(fs::path const& folder) {
  std::string const store = (folder / "v1.db").string();
  std::unique_ptr<Journal> journal = value_of(open_sqlite_journal({.path = store}));
  fill(*journal);
  Signer const signer = golden_signer();
  std::string const note = value_of(sign_checkpoint(*journal, signer));
  Evidence const evidence = value_of(export_evidence(*journal, "run", note, signer.verifier()));
  std::ofstream(folder / "v1.evidence") << evidence_text(evidence);
  std::ofstream(folder / "v1.root") << text_of(value_of(journal->tree_head()).root) << "\n";
  journal.reset();
  fs::remove(store + ".lock");
}

TEST(Golden, StoresOfEveryVersionAreOpenedCheckedAndContinued) {
  fs::path const golden = AETHER_GOLDEN;
  if (std::getenv("AETHER_MAKE_GOLDEN") != nullptr) make_golden(golden);
  os::TempDir const folder = value_of(os::TempDir::create("journal-golden"));
  int seen = 0;
  for (fs::directory_entry const& each : fs::directory_iterator(golden)) {
    if (each.path().extension() != ".db") continue;
    ++seen;
    SCOPED_TRACE(each.path().string());
    std::string const copy = folder.file(each.path().filename().string());
    fs::copy_file(each.path(), copy);
    std::unique_ptr<Journal> const journal = value_of(open_sqlite_journal({.path = copy}));
    FsckReport const report = value_of(fsck(*journal, golden_signer().verifier().text()));
    for (Finding const& finding : report.findings) ADD_FAILURE() << describe(finding);
    EXPECT_EQ(text_of(report.head.root) + "\n",
              content_of(fs::path(each.path()).replace_extension(".root")));
    EXPECT_EQ(value_of(journal->record("due", std::string_view("\0\1", 2))), "x");
    EXPECT_EQ(appended(*journal, batch_of({open_span("run", "more")})).value, report.head.size + 1);
  }
  EXPECT_GE(seen, 1);
}

TEST(Golden, EvidenceOfEveryVersionIsVerified) {
  int seen = 0;
  for (fs::directory_entry const& each : fs::directory_iterator(AETHER_GOLDEN)) {
    if (each.path().extension() != ".evidence") continue;
    ++seen;
    Verified const verified =
        value_of(verify_evidence_file(each.path().string(), golden_signer().verifier().text()));
    EXPECT_EQ(verified.stream, "run");
    EXPECT_EQ(verified.blobs_erased, 1U);
  }
  EXPECT_GE(seen, 1);
}

}  // namespace
}  // namespace aether::journal
