// SPDX-License-Identifier: Apache-2.0
#include "daemon/jobs_reading.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "base/json.h"
#include "daemon/jobs_erasing.h"
#include "jobs/agent.h"
#include "jobs/driver.h"
#include "jobs/replay.h"
#include "jobs/run_event_codec.h"
#include "jobs/run_laws.h"
#include "jobs/trace.h"
#include "jobs/view_check.h"
#include "journal/evidence.h"
#include "journal/fsck.h"
#include "journal/growth.h"
#include "journal/limits.h"

namespace aether::daemon {
namespace {

namespace json = boost::json;

Failure no_run(std::string_view run) {
  return fail(ErrorCode::NotFound, fmt::format("there is no job {}", run));
}

/// What a body has in the place of a long value, and where it lies.
constexpr std::string_view kBlobEnding = "_blob";

Result<json::value> value_in_blob(journal::Journal& journal, journal::BlobHash const& hash) {
  TRY_ASSIGN(std::optional<journal::Blob> const blob, journal.blob(hash));
  if (!blob || !blob->content) return json::object{{"$erased", journal::text_of(hash)}};
  return parse_json(*blob->content, "the blob");
}

/// Puts the values of blobs in their places, in the body and the objects in it.
Status fill_in(journal::Journal& journal, std::vector<journal::BlobHash> const& blobs,
               json::object& object) {
  json::object filled;
  for (auto& member : object) {
    std::string_view const key = member.key();
    json::value& value = member.value();
    auto const named = std::ranges::find_if(blobs, [&](journal::BlobHash const& hash) {
      return key.ends_with(kBlobEnding) && value.is_string() &&
             std::string_view(value.as_string()) == journal::text_of(hash);
    });
    if (named != blobs.end()) {
      TRY_ASSIGN(json::value whole, value_in_blob(journal, *named));
      filled[key.substr(0, key.size() - kBlobEnding.size())] = std::move(whole);
      continue;
    }
    if (value.is_object()) TRY(fill_in(journal, blobs, value.as_object()));
    filled[key] = std::move(value);
  }
  object = std::move(filled);
  return {};
}

}  // namespace

Result<std::vector<journal::Event>> read_events(journal::Journal& journal, std::string_view stream,
                                                std::uint64_t after, std::size_t count) {
  TRY_ASSIGN(std::vector<journal::Event> events,
             journal.read_stream(stream, journal::Sequence{after + 1}, count));
  for (journal::Event& event : events) {
    if (event.blobs.empty()) continue;
    TRY_ASSIGN(json::value body, parse_json(event.body, "the body"));
    if (!body.is_object()) continue;
    TRY(fill_in(journal, event.blobs, body.as_object()));
    event.body = canonical_json(body);
  }
  return events;
}

namespace {

/// Events that are read at once.
constexpr std::size_t kPage = 1000;

Result<std::vector<jobs::RunEvent>> read_history(journal::Journal& journal,
                                                 jobs::RunId const& run) {
  std::vector<jobs::RunEvent> history;
  jobs::BlobSource const blobs = jobs::blobs_of(journal);
  for (;;) {
    TRY_ASSIGN(std::vector<journal::Event> const page,
               journal.read_stream(run.text, journal::Sequence{history.size() + 1}, kPage));
    TRY_ASSIGN(std::vector<jobs::RunEvent> decoded, jobs::decode_events(page, blobs));
    std::ranges::move(decoded, std::back_inserter(history));
    if (page.size() < kPage) break;
  }
  if (history.empty()) return no_run(run.text);
  return history;
}

/// What replay tells, in one sentence; empty if all is as it is recorded.
std::string difference_of(jobs::ReplayReport const& report) {
  if (report.divergence) return jobs::describe(*report.divergence);
  bool const ended_by_driver = report.closed && !report.by_engine;
  if (ended_by_driver && !report.same_output)
    return "the output that is decided now is not the one that is recorded";
  return {};
}

}  // namespace

Result<std::string> read_trace(journal::Journal& journal, jobs::RunId const& run,
                               api::TraceForm form, WallTime now) {
  TRY_ASSIGN(std::vector<jobs::RunEvent> const history, read_history(journal, run));
  TRY_ASSIGN(jobs::TraceNode const root, jobs::trace_of(run, history));
  if (form == api::TraceForm::Tree) return jobs::trace_text(root, {.now = now});
  if (form == api::TraceForm::Json) {
    json::object tree{{"id", run.text}};
    json::value traced = jobs::trace_json(root);
    for (auto& member : traced.as_object()) tree[member.key()] = std::move(member.value());
    return json::serialize(tree);
  }
  return json::serialize(jobs::trace_otlp(run, root, now));
}

Result<json::value> replay_recorded(journal::Journal& journal, jobs::RunId const& run) {
  TRY(check_values_stay(journal, run));
  TRY_ASSIGN(std::vector<jobs::RunEvent> const history, read_history(journal, run));
  auto const* const opening = std::get_if<jobs::RunOpened>(&history.front().body);
  if (opening == nullptr)
    return fail(ErrorCode::StoreDamaged,
                fmt::format("{} does not begin with run.opened", run.text));
  if (std::string const agent = jobs::code_agent(opening->spec); !agent.empty()) {
    return fail(
        ErrorCode::Unsupported,
        fmt::format("{} is a job of {}, whose decisions are its own program's: an Aether that "
                    "runs it (a command under agents:) can replay it",
                    run.text, agent));
  }
  TRY_ASSIGN(std::unique_ptr<jobs::Driver> const driver, jobs::make_driver(*opening));
  TRY_ASSIGN(jobs::ReplayReport const report, jobs::replay(run, *driver, history));
  TRY_ASSIGN(jobs::RunState const state, jobs::load_run(journal, run));
  std::string const difference = difference_of(report);
  json::value output = state.closing ? state.closing->output : json::value();
  if (!report.output.empty()) {
    TRY_ASSIGN(output, parse_json(report.output, "the output"));
  }
  return json::object{{"id", run.text},
                      {"status", jobs::text_of(state.status())},
                      {"calls", report.calls},
                      {"events", report.events},
                      {"decisions", report.decisions},
                      {"copied", report.copied},
                      {"equal", difference.empty()},
                      {"difference", difference.empty() ? json::value() : json::value(difference)},
                      {"output", std::move(output)}};
}

Result<std::string> make_evidence(journal::Journal& journal, journal::Signer const& signer,
                                  jobs::RunId const& run) {
  TRY_ASSIGN(journal::StreamState const state, journal.stream(run.text));
  if (state.last.value == 0) return no_run(run.text);
  TRY_ASSIGN(std::string const note, journal::sign_checkpoint(journal, signer));
  TRY_ASSIGN(journal::Evidence const evidence,
             journal::export_evidence(journal, run.text, note, signer.verifier()));
  return journal::evidence_text(evidence);
}

Result<std::string> make_checkpoint(journal::Journal& journal, journal::Signer const& signer,
                                    std::optional<std::uint64_t> old_size) {
  TRY_ASSIGN(std::string note, journal::sign_checkpoint(journal, signer));
  if (!old_size) return note;
  TRY_ASSIGN(journal::Growth const growth,
             journal::prove_growth(journal, *old_size, note, signer.verifier()));
  return journal::growth_text(growth);
}

namespace {

/// Every event of the journal, in its order.
Status check_runs(journal::Journal& journal, StoreCheck& check) {
  jobs::RunLaws laws;
  std::vector<jobs::RunFinding> broken;
  journal::Position next{1};
  for (;;) {
    TRY_ASSIGN(std::vector<journal::Event> const page, journal.read(next, kPage));
    for (journal::Event const& event : page) laws.take(event, broken);
    if (page.size() < kPage || broken.size() > journal::kFindingsMax) break;
    next = journal::Position{page.back().position.value + 1};
  }
  for (jobs::RunFinding const& one : broken) check.findings.push_back(jobs::describe(one));
  check.runs = laws.counts().runs;
  check.unknown = laws.counts().unknown;
  return {};
}

}  // namespace

Result<StoreCheck> check_store(journal::Journal& journal, std::string const& verifier,
                               bool with_views, std::string const& kept) {
  TRY_ASSIGN(journal::FsckReport const report, journal::fsck(journal, verifier, kept));
  StoreCheck check{.events = report.head.size,
                   .blobs = report.blobs,
                   .checkpoints = report.checkpoints,
                   .root = journal::text_of(report.head.root)};
  for (journal::Finding const& finding : report.findings)
    check.findings.push_back(journal::describe(finding));
  TRY(check_runs(journal, check));
  if (!with_views) return check;
  TRY_ASSIGN(std::vector<std::string> wrong, jobs::check_views(journal));
  std::ranges::move(wrong, std::back_inserter(check.findings));
  return check;
}

Status check_run_laws(std::vector<journal::Event> const& events) {
  jobs::RunLaws laws;
  std::vector<jobs::RunFinding> broken;
  for (journal::Event const& event : events) laws.take(event, broken);
  if (broken.empty()) return {};
  return fail(ErrorCode::EvidenceInvalid, jobs::describe(broken.front()));
}

}  // namespace aether::daemon
