// SPDX-License-Identifier: Apache-2.0
#include "jobs/run_event_codec.h"

#include <functional>
#include <limits>

#include <gtest/gtest.h>

#include "base/json.h"
#include "jobs/testing_random.h"

namespace aether::jobs {
namespace {

using namespace testing;

journal::Event one(RunEventBody body) {
  return recorded(batch_of_history(history({std::move(body)}))).front();
}
ErrorCode code_of(Result<RunEvent> const& decoded) {
  return decoded ? ErrorCode::Internal : decoded.error().code();
}
Status append_one(journal::Batch& batch, RunEventBody body, std::string_view space = "default") {
  return append_event(batch, {.stream = kRun.text, .space = space}, event(0, std::move(body)),
                      counted_salts());
}

TEST(RunEventCodec, GivesBackEveryEventAsItWas) {
  Chance chance(20261121);
  for (int i = 0; i < 3000; ++i) {
    RunEvent const written = random_event(chance);
    journal::Batch const batch = batch_of_history({written});
    journal::Event const line = recorded(batch).front();
    Result<boost::json::value> const body = parse_json(line.body, "body");
    ASSERT_TRUE(body) << line.body;
    EXPECT_EQ(canonical_json(*body), line.body);
    Result<RunEvent> const read = decode_event(line, blobs_in(batch));
    ASSERT_TRUE(read) << read.error().describe() << '\n' << line.body;
    EXPECT_EQ(*read, written) << line.body;
    EXPECT_TRUE(decode_outline(line)) << line.body;
  }
}

TEST(RunEventCodec, CutsTimesToMillisecondsAsTheJournalDoes) {
  WallTime const exact(std::chrono::nanoseconds(1'795'258'562'123'456'789));
  WaitOpened waits = wait("a", WaitKind::Timer);
  waits.deadline = exact;
  RunEvent const written{.at = exact, .actor = {}, .body = waits};
  journal::Batch const batch = batch_of_history({written});
  EXPECT_EQ(or_throw(decode_event(recorded(batch).front(), blobs_in(batch))), as_recorded(written));
}

TEST(RunEventCodec, PutsLargeAndDeepValuesIntoBlobs) {
  StepClosed end = step_end("a");
  end.result = boost::json::value(std::string(kInlineBytesMax - 2, 'x'));
  EXPECT_TRUE(batch_of_history(history({end})).blobs.empty());
  end.result = boost::json::value(std::string(kInlineBytesMax - 1, 'x'));
  journal::Batch const batch = batch_of_history(history({end}));
  ASSERT_EQ(batch.blobs.size(), 1U);
  EXPECT_EQ(batch.events[0].blobs, std::vector{batch.blobs[0].hash});
  EXPECT_LT(batch.events[0].body.size(), 300U);
}

TEST(RunEventCodec, PutsEveryValueIntoABlobWhereAllAreToBeErasable) {
  SaltSource const salts(counted_salts(), 0);
  Chance chance(20261122);
  std::size_t blobs = 0;
  for (int i = 0; i < 1000; ++i) {
    RunEvent const written = random_event(chance);
    journal::Batch batch;
    ASSERT_TRUE(append_event(batch, {.stream = kRun.text, .space = "default"}, written, salts));
    journal::Event const line = recorded(batch).front();
    Result<RunEvent> const read = decode_event(line, blobs_in(batch));
    ASSERT_TRUE(read) << read.error().describe() << '\n' << line.body;
    EXPECT_EQ(*read, written) << line.body;
    EXPECT_EQ(line.body.find("\"result\":"), std::string::npos) << line.body;
    EXPECT_EQ(line.body.find("\"input\":"), std::string::npos) << line.body;
    blobs += batch.blobs.size();
  }
  EXPECT_GT(blobs, 300U);
}

TEST(RunEventCodec, TellsAnErasedValueByItsAddress) {
  StepClosed end = step_end("a");
  end.result = boost::json::value(std::string(5000, 'x'));
  journal::Batch batch = batch_of_history(history({end}));
  batch.blobs[0].content.reset();
  RunEvent const read = or_throw(decode_event(recorded(batch).front(), blobs_in(batch)));
  boost::json::value const& result = std::get<StepClosed>(read.body).result;
  EXPECT_EQ(result, (boost::json::object{{"$erased", journal::text_of(batch.blobs[0].hash)}}));
}

TEST(RunEventCodec, RefusesABlobThatIsNotStored) {
  StepClosed end = step_end("a");
  end.result = boost::json::value(std::string(5000, 'x'));
  journal::Batch const batch = batch_of_history(history({end}));
  Result<RunEvent> const read = decode_event(recorded(batch).front(), blobs_in({}));
  EXPECT_EQ(code_of(read), ErrorCode::StoreDamaged);
}

TEST(RunEventCodec, LeavesValuesOutOfAnOutline) {
  RunEvent const read = or_throw(decode_outline(one(intent("a"))));
  EXPECT_TRUE(std::get<EffectIntended>(read.body).args.is_null());
  EXPECT_EQ(std::get<EffectIntended>(read.body).path, "a");
}

TEST(RunEventCodec, RefusesWhatItWouldNotHaveWritten) {
  auto const damaged = [](RunEventBody body, std::function<void(journal::Event&)> const& damage) {
    journal::Event line = one(std::move(body));
    EXPECT_TRUE(decode_event(line, blobs_in({})));
    damage(line);
    EXPECT_EQ(code_of(decode_event(line, blobs_in({}))), ErrorCode::StoreDamaged) << line.body;
  };
  damaged(step("a"), [](auto& line) { line.kind = "step.skipped"; });
  damaged(step("a"), [](auto& line) { line.span = "step/a#2"; });
  damaged(step("a"), [](auto& line) { line.mark = journal::Mark::Close; });
  damaged(step("a"), [](auto& line) { line.keys = {"idem:default:x"}; });
  damaged(step("a"), [](auto& line) { line.blobs = {journal::BlobHash{}}; });
  damaged(step("a"), [](auto& line) { line.body = "[]"; });
  damaged(step("a"), [](auto& line) { line.body = R"({"kind":"tool","path":"a"})"; });
  damaged(step("a"),
          [](auto& line) { line.body = R"({"attempt":1,"extra":1,"kind":"tool","path":"a"})"; });
  damaged(step("a"), [](auto& line) { line.body = R"({"attempt":-1,"kind":"tool","path":"a"})"; });
  damaged(step("a"), [](auto& line) { line.body = R"({"attempt":1,"kind":"fool","path":"a"})"; });
  damaged(step("a"), [](auto& line) { line.body = R"({"attempt":1,"kind":"tool","path":7})"; });
  damaged(settled("a"), [](auto& line) { line.mark = journal::Mark::Point; });
  damaged(opened(), [](auto& line) { line.keys = {"idem:default:other"}; });
  damaged(intent("a"), [](auto& line) { line.keys = {"business:default:other"}; });
}

TEST(RunEventCodec, TakesTheKeysOfSubmissionsCallsAndSignals) {
  RunOpened run = opened();
  run.idempotency_key = "order 7";
  EXPECT_EQ(one(run).keys, std::vector<std::string>{"idem:default:order 7"});
  EffectIntended call = intent("a");
  call.business_key = "refund:7";
  EXPECT_EQ(one(call).keys, std::vector<std::string>{"business:default:refund:7"});
  call.turn = 2;
  EXPECT_TRUE(one(call).keys.empty()) << "the first turn has it";
  SignalReceived came = signal();
  came.idempotency_key = "s";
  EXPECT_EQ(one(came).keys, std::vector<std::string>{"signal:" + kRun.text + ":s"});
}

TEST(RunEventCodec, HashesKeysThatTheJournalCouldNotHold) {
  std::string const umlaut = idempotency_journal_key("default", "\xC3\xA4");
  EXPECT_TRUE(journal::is_name(umlaut)) << umlaut;
  EXPECT_NE(umlaut, idempotency_journal_key("default", "\xC3\xB6"));
  // Nobody can take another's key by writing down its hash.
  EXPECT_NE(umlaut, idempotency_journal_key("default", umlaut.substr(umlaut.find('~'))));
  EXPECT_TRUE(journal::is_name(business_journal_key("default", std::string(4000, 'x'))));
}

TEST(RunEventCodec, CopiesOfAForkTakeNoKeys) {
  EffectIntended call = intent("a");
  call.business_key = "refund:7";
  journal::Batch batch;
  Status const good =
      append_event(batch, {.stream = kRun.text, .space = "default", .takes_keys = false},
                   event(0, call), counted_salts());
  ASSERT_TRUE(good);
  EXPECT_TRUE(batch.events[0].keys.empty());
  EXPECT_TRUE(decode_event(recorded(batch).front(), blobs_in(batch)));
}

TEST(RunEventCodec, RefusesWhatCouldNotBeGivenBackAndLeavesTheBatchAsItWas) {
  auto const refused = [](RunEventBody body, std::string_view space = "default") {
    journal::Batch batch;
    Status const done = append_one(batch, std::move(body), space);
    EXPECT_FALSE(done);
    EXPECT_TRUE(batch.events.empty());
    EXPECT_TRUE(batch.blobs.empty());
    return done ? ErrorCode::Internal : done.error().code();
  };
  StepClosed end = step_end("a");
  end.result = boost::json::value("\xFF");
  EXPECT_EQ(refused(end), ErrorCode::RequestInvalid);
  end.result = boost::json::value(std::string(5000, '\xFF'));
  EXPECT_EQ(refused(end), ErrorCode::RequestInvalid);
  boost::json::value deep = 1;
  for (std::size_t i = 0; i <= kJsonDepthMax; ++i) deep = boost::json::array{std::move(deep)};
  end.result = deep;
  EXPECT_EQ(refused(end), ErrorCode::RequestInvalid);
  EffectSettled spent = settled("a");
  spent.usage.cost = std::numeric_limits<double>::infinity();
  EXPECT_EQ(refused(spent), ErrorCode::RequestInvalid);
  spent.usage = {.tokens = std::uint64_t{1} << 60U, .cost = 0};
  EXPECT_EQ(refused(spent), ErrorCode::RequestInvalid);
  EXPECT_EQ(refused(step("\xC3\xA4")), ErrorCode::RequestInvalid);
  EXPECT_EQ(refused(step(std::string(300, 'a'))), ErrorCode::RequestInvalid);
  EXPECT_EQ(refused(step("a"), "with:colon"), ErrorCode::RequestInvalid);
  RunOpened run = opened(std::string(100'000, 'x'));
  EXPECT_EQ(refused(run), ErrorCode::LimitReached);
}

TEST(RunEventCodec, FoldsAStreamOnlyInItsOrder) {
  journal::Batch const batch = batch_of_history(history({opened(), step("a"), step_end("a")}));
  std::vector<journal::Event> const lines = recorded(batch);
  RunState state;
  ASSERT_TRUE(fold_recorded(state, lines[0], blobs_in(batch)));
  EXPECT_EQ(state.id, kRun);
  EXPECT_FALSE(fold_recorded(state, lines[2], blobs_in(batch)));
  EXPECT_EQ(state.sequence, 1U);
  ASSERT_TRUE(fold_recorded(state, lines[1], blobs_in(batch)));
  ASSERT_TRUE(fold_recorded(state, lines[2], blobs_in(batch)));
  EXPECT_EQ(state.sequence, 3U);
}

}  // namespace
}  // namespace aether::jobs
