// SPDX-License-Identifier: Apache-2.0
// EngineCore: one of several engines on one store. What has work is claimed, one run by one engine;
// what one engine appends to a run of another's is heard there; what nobody owns (times, ends of
// children whose engine died) is looked after by one of them.
#include <algorithm>
#include <utility>

#include "async/timers.h"
#include "base/log.h"
#include "jobs/engine_core.h"

namespace aether::jobs {
namespace {

/// The engine that set a time tells of it itself; if that engine is gone, the keeper does, so late.
constexpr Duration kTimeGrace = std::chrono::seconds(1);
/// Until the same row is told of again: the first time may have come to nothing.
constexpr Duration kTellAgain = std::chrono::seconds(30);
/// Of one look: more are looked at in the next ones.
constexpr std::size_t kKeptRows = 1000;

}  // namespace

Status EngineCore::begin_sharing() {
  journal::Sharing::Ear ear;
  // The engine outlives its claims: stop() ends them.
  ear.claimed = [this, mail = mail](std::vector<journal::Record> rows) {
    mail->post([this, rows = std::move(rows)]() mutable { claimed(std::move(rows)); });
  };
  ear.heard = [this, mail = mail](std::string run) {
    mail->post([this, run = std::move(run)] { heard(run); });
  };
  ear.lost = [this, mail = mail](std::vector<std::string> const& runs) {
    mail->post([this, runs] {
      log::warn("{} runs are worked on elsewhere: this process stood still for too long",
                runs.size());
      for (std::string const& key : runs) {
        std::string const run = key.substr(key.rfind('/') + 1);
        claimed_keys_.erase(run);
        heard(run);
      }
    });
  };
  ear.keep = [this, mail = mail] { mail->post([this] { keep(); }); };
  sharing_->begin(std::string(kReadyView), limits.lease, std::move(ear));
  schedule();
  return {};
}

void EngineCore::offer(ReadyRun run) {
  if (!is_shared()) scheduler_.offer(std::move(run));
  // Else the row says it, and whoever has room claims it.
}

void EngineCore::want_work() {
  if (!is_shared()) return;
  std::map<std::string, std::vector<RunId>> const waiting = scheduler_.waiting_by_worker();
  std::map<std::string, std::size_t> room{{"", 0}};
  if (!stopping) {
    auto const places = static_cast<std::size_t>(std::max(limits.concurrency, 1));
    room[""] = places - std::min(places, scheduler_.own_leases());
    for (WaitingClaim const& each : claims_) {
      for (std::string const& agent : each.claim.agents) room[agent] += each.claim.runs;
    }
  }
  for (auto const& [worker, runs] : waiting) {
    bool const has_nobody = !worker.empty() && !room.contains(worker);
    for (RunId const& run : has_nobody ? runs : std::vector<RunId>()) {
      scheduler_.forget(run);
      give_back(run);
    }
  }
  std::vector<journal::Sharing::Wanted> wanted;
  for (auto const& [worker, places] : room) {
    auto const here = waiting.find(worker);
    std::size_t const taken = here == waiting.end() ? 0 : here->second.size();
    if (taken >= places) continue;
    ReadyRange const rows = ready_range(worker);
    wanted.push_back({.from = rows.from, .to = rows.to, .count = places - taken});
  }
  sharing_->want(std::move(wanted), rows_seen_);
}

void EngineCore::give_back(RunId const& run) {
  if (!is_shared()) return;
  auto const key = claimed_keys_.find(run.text);
  if (key == claimed_keys_.end()) return;
  sharing_->release(std::move(key->second));
  claimed_keys_.erase(key);
}

void EngineCore::claimed(std::vector<journal::Record> rows) {
  rows_seen_ += rows.size();
  for (journal::Record const& row : rows) {
    Result<ReadyRun> ready = parse_ready(row);
    if (!ready) {
      // Kept: it would be claimed again at once.
      log::error("{}", ready.error().describe());
      continue;
    }
    claimed_keys_[ready->run.text] = row.key;
    if (stopping)
      give_back(ready->run);
    else
      scheduler_.offer(std::move(*ready));
  }
  schedule();
}

void EngineCore::heard(std::string const& run) {
  std::vector<std::string> meant;
  if (!run.empty()) {
    meant.push_back(run);
    tell(RunId{run}, {});
  } else {
    for (auto const& [name, actor] : actors_) meant.push_back(name);
  }
  for (std::string const& name : meant) {
    auto const found = actors_.find(name);
    if (found != actors_.end()) found->second->look_again();
  }
}

void EngineCore::keep() {
  if (stopping) return;
  Instant const now = clock.now();
  std::erase_if(kept_, [&](auto const& each) { return now - each.second > kTellAgain; });
  Status kept = keep_times();
  if (kept) kept = keep_wakes();
  if (!kept) log::warn("what other engines left is not looked at now: {}", kept.error().describe());
}

Status EngineCore::keep_times() {
  std::string const end = due_key(clock.wall() - kTimeGrace, RunId{});
  TRY_ASSIGN(std::vector<journal::Record> const rows,
             journal.records(kDueView, "", end, kKeptRows));
  for (journal::Record const& row : rows) {
    TRY_ASSIGN(DueRow const due, parse_due(row.key));
    if (!kept_.try_emplace("due " + row.key, clock.now()).second) continue;
    deliver(due.run, {.actor = {}, .fact = Woken{}});
  }
  return {};
}

Status EngineCore::keep_wakes() {
  TRY_ASSIGN(std::vector<journal::Record> const rows,
             journal.records(kWakeView, "", {}, kKeptRows));
  for (journal::Record const& row : rows) {
    // New ones are on their way by those who wrote them.
    std::string const name = "wake " + row.key;
    auto const [seen, is_new] = kept_.try_emplace(name, clock.now());
    if (is_new || clock.now() - seen->second < 2 * kTimeGrace) continue;
    kept_.erase(seen);
    deliver_wake(row);
  }
  return {};
}

}  // namespace aether::jobs
