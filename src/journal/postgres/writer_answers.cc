// SPDX-License-Identifier: Apache-2.0
// What the server says to the writer's groups, and who is told of it.
#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "base/fault.h"
#include "journal/postgres/writer.h"

namespace aether::journal::postgres {
namespace {

/// A group waits for what the answers to the last one set going: so long, of what that one took.
/// Each commit waits for a sync, and so one for all costs less than two after each other.
constexpr int kGatherShare = 8;
/// And no longer, when that one had to be sent again, or the server was slow.
constexpr Duration kGatherMax = std::chrono::milliseconds(2);
/// A batch that is refused although nothing speaks against it: the two checks differ.
constexpr int kRefusalsMax = 100;

// What append() of the database says instead of a position.
constexpr std::int64_t kRefused = -1;
constexpr std::int64_t kOutOfTurn = -2;

/// A span that is opened or closed a second time is met by its index.
constexpr std::string_view kUniqueViolation = "23505";

/// The server ends the connection, or is one that cannot be written: another one may do.
bool ends_connection(std::string_view state) {
  return state.starts_with("57P") || state.starts_with("08") || state == "25006";
}

}  // namespace

Status Writer::receive_answers() {
  // Also while nothing is asked: a server that ends says so.
  TRY(connection_->notices());
  while (!sent_.empty()) {
    TRY_ASSIGN(std::optional<Connection::Reply> reply, connection_->receive());
    if (!reply) return {};
    if (Status const passed = fault::pass(fault::Point::JournalAnswer); !passed) {
      connection_->cut();
      return fail(passed.error());
    }
    TRY(answered(std::move(*reply)));
  }
  return {};
}

Status Writer::answered(Connection::Reply reply) {
  if (reply.fault && ends_connection(reply.state)) {
    connection_->cut();
    return fail(*reply.fault);
  }
  Group group = std::move(sent_.front());
  sent_.pop_front();
  if (is_draining_) {
    put_back(std::move(group), false);
    return {};
  }
  bool const is_met = reply.state == kUniqueViolation;
  if (reply.fault && !is_met && !may_be_sent_again(reply.state)) {
    fail_group(std::move(group), *reply.fault);
    return {};
  }
  std::int64_t const base = reply.fault ? kRefused : reply.rows->number(0, 0);
  bool const is_refused = base == kRefused && (is_met || !reply.fault);
  if (base >= 0) {
    accept(group, static_cast<std::uint64_t>(base));
    return {};
  }
  if (base == kOutOfTurn) {
    fail_group(std::move(group),
               {ErrorCode::StoreDamaged,
                "the store does not know what this process appended before: was it set back to an "
                "older copy? Stop every Aether on it, and start them again"});
    return {};
  }
  if (group.batches.size() == 1 && is_refused) {
    Group::Waiting waiting = std::move(group.batches.front());
    group.batches.clear();
    refuse_one(std::move(waiting));
  }
  put_back(std::move(group), is_refused);
  return {};
}

void Writer::accept(Group& group, std::uint64_t base) {
  take_new();
  gather_ = group.batches.size() + pending_.size();
  Instant const now = Instant::clock::now();
  gather_until_ = now + std::min<Duration>((now - sent_at_) / kGatherShare, kGatherMax);
  for (Group::Waiting& each : group.batches) {
    std::uint64_t const count = each.batch.events.size();
    answer(each,
           AppendOutcome(Appended{.first = Position{base + (count == 0 ? 0 : 1)}, .count = count}));
    base += count;
  }
}

void Writer::fail_group(Group group, Error const& why) {
  for (Group::Waiting& each : std::exchange(group.batches, {})) answer(each, fail(why));
  put_back(std::move(group), false);
}

void Writer::put_back(Group group, bool alone) {
  if (!std::exchange(is_draining_, true)) next_ = group.number;
  for (Group::Waiting& each : group.batches) {
    each.alone = each.alone || alone;
    put_back_.push_back(std::move(each));
  }
  if (!sent_.empty()) return;
  is_draining_ = false;
  pending_.insert(pending_.begin(), std::move_iterator(put_back_.begin()),
                  std::move_iterator(put_back_.end()));
  put_back_.clear();
}

void Writer::refuse_one(Group::Waiting waiting) {
  Result<std::optional<Refusal>> why = why_refused(waiting.batch);
  if (!why) return answer(waiting, fail(why.error()));
  if (*why) return answer(waiting, AppendOutcome(std::unexpected(std::move(**why))));
  // What it was refused for is so no more.
  if (++waiting.refusals > kRefusalsMax) {
    return answer(waiting, fail(ErrorCode::Internal,
                                "the store refuses a batch that nothing speaks against"));
  }
  put_back_.push_front(std::move(waiting));
  if (!sent_.empty() || is_draining_) return;
  pending_.push_front(std::move(put_back_.front()));
  put_back_.pop_front();
}

void Writer::answer_all(std::deque<Group::Waiting>& batches, Error const& why) {
  for (Group::Waiting& each : std::exchange(batches, {})) answer(each, fail(why));
}

void Writer::answer(Group::Waiting& waiting, Result<AppendOutcome> outcome) {
  {
    std::lock_guard const lock(mutex_);
    --waiting_;
  }
  waiting.answer(std::move(outcome));
}

}  // namespace aether::journal::postgres
