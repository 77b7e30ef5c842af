// SPDX-License-Identifier: Apache-2.0
#include "journal/postgres/writer.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "base/fault.h"
#include "base/log.h"
#include "journal/limits.h"
#include "journal/postgres/schema.h"
#include "journal/signer.h"
#include "os/signals_blocked.h"

namespace aether::journal::postgres {
namespace {

constexpr std::string_view kStatement = "append";
constexpr std::size_t kIdBytes = 16;
/// Between two tries to reach the server.
constexpr Duration kPauseMin = std::chrono::milliseconds(50);
constexpr Duration kPauseMax = std::chrono::seconds(2);
/// Of the advisory lock that all writers share: "AEth" and 2.
constexpr std::int64_t kWritersLock = (std::int64_t{0x41457468} << 32U) + 2;

struct timespec timespec_of(Duration duration) {
  auto const seconds = std::chrono::floor<std::chrono::seconds>(duration);
  return {.tv_sec = seconds.count(),
          .tv_nsec = std::chrono::nanoseconds(duration - seconds).count()};
}

}  // namespace

Writer::Writer(PostgresOptions options, Connection connection, Reader& reader, std::string id)
    : url_(std::move(options.url)),
      patience_(options.patience),
      alone_(options.alone),
      id_(std::move(id)),
      reader_(reader),
      connection_(std::move(connection)),
      bell_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Result<std::unique_ptr<Writer>> Writer::open(PostgresOptions options, Connection connection,
                                             Reader& reader) {
  std::unique_ptr<Writer> writer(
      new Writer(std::move(options), std::move(connection), reader, secret_bytes(kIdBytes)));
  if (!writer->bell_) return fail(system_error("eventfd"));
  // Once: if its row is gone later, the store is not the one that was appended to.
  TRY(writer->connection_->ask(
      "DELETE FROM aether.writer WHERE seen < now() - interval '30 days'"));
  TRY(writer->connection_->ask(
      "INSERT INTO aether.writer(id,last,bases) VALUES($1,0,array_fill(0::bigint,ARRAY[16]))",
      Values().bytes(writer->id_)));
  TRY(writer->begin());
  os::SignalsBlocked const blocked;
  writer->thread_ = std::thread([self = writer.get()] { self->serve(); });
  return writer;
}

Status Writer::begin() {
  TRY(prepare_store(*connection_));
  TRY(take_seat());
  // One plan for all groups, by the indexes: the planner would take a young table for a small one.
  TRY(
      connection_->run("SET enable_seqscan=off; SET enable_hashjoin=off; SET enable_mergejoin=off;"
                       "SET enable_bitmapscan=off; SET plan_cache_mode=force_generic_plan;"
                       "SET jit=off; SET statement_timeout='15s'"));
  TRY(connection_->prepare(std::string(kStatement), append_call(), Group().values(id_, 0)));
  TRY(connection_->enter_pipeline());
  process_ = connection_->process();
  return {};
}

/// The lock is the session's: it ends with the connection.
Status Writer::take_seat() {
  std::string_view const kind = alone_ ? "" : "_shared";
  TRY_ASSIGN(Rows const taken,
             connection_->ask(fmt::format("SELECT pg_try_advisory_lock{}($1)::int::bigint", kind),
                              Values().number(kWritersLock)));
  if (taken.number(0, 0) == 1) return {};
  return fail(ErrorCode::StoreInUse,
              fmt::format("opening {}: {}", name_of_url(url_),
                          alone_ ? "other processes append to it; stop them first"
                                 : "a process has it for itself, to repair it; wait for its end"));
}

Writer::~Writer() {
  {
    std::lock_guard const lock(mutex_);
    ending_ = true;
  }
  (void)::eventfd_write(bell_.get(), 1);
  if (thread_.joinable()) thread_.join();
}

void Writer::append(Batch batch, Answer answer) {
  std::optional<Error> refused;
  bool is_first = false;
  {
    std::lock_guard const lock(mutex_);
    if (away_) {
      refused = away_;
    } else if (waiting_ >= kQueuedBatchesMax) {
      refused = Error(ErrorCode::LimitReached,
                      fmt::format("appending: {} batches wait for the database already "
                                  "(kQueuedBatchesMax)",
                                  kQueuedBatchesMax));
    } else {
      is_first = queue_.empty();
      ++waiting_;
      queue_.push_back({.batch = std::move(batch), .answer = std::move(answer)});
    }
  }
  if (refused) return answer(fail(std::move(*refused)));
  if (is_first) (void)::eventfd_write(bell_.get(), 1);
}

void Writer::take_new() {
  std::lock_guard const lock(mutex_);
  std::ranges::move(queue_, std::back_inserter(pending_));
  queue_.clear();
}

void Writer::serve() {
  heard_ = Instant::clock::now();
  while (true) {
    take_new();
    if (give_up_at_end()) return;
    if (!connection_) {
      connect();
      continue;
    }
    if (Status const done = exchange(); !done) lose(done.error());
  }
}

bool Writer::give_up_at_end() {
  {
    std::lock_guard const lock(mutex_);
    if (!ending_ || !queue_.empty()) return false;
  }
  if (connection_ && (!sent_.empty() || !pending_.empty() || !put_back_.empty())) return false;
  Error const why(ErrorCode::StoreUnavailable,
                  fmt::format("{} was away when Aether stopped", name_of_url(url_)));
  for (Group& group : sent_) {
    for (Group::Waiting& each : group.batches) pending_.push_back(std::move(each));
  }
  sent_.clear();
  answer_all(pending_, why);
  return true;
}

void Writer::connect() {
  Instant const now = Instant::clock::now();
  bool const is_patient = now < *lost_ + patience_;
  if (!is_patient) {
    Error const why(ErrorCode::StoreUnavailable,
                    fmt::format("appending: {} has been away for {}; it is tried again",
                                name_of_url(url_), humanize(now - *lost_)));
    {
      std::lock_guard const lock(mutex_);
      away_ = why;
    }
    answer_all(pending_, why);
  }
  if (now < next_try_) return wait(next_try_ - now);
  Result<Connection> made = Connection::open(url_, "writer");
  Status ready;
  if (made) {
    connection_ = std::move(*made);
    ready = begin();
  }
  if (made && ready) {
    log::info("{} is back after {}", name_of_url(url_), humanize(Instant::clock::now() - *lost_));
    lost_.reset();
    pause_ = {};
    heard_ = Instant::clock::now();
    std::lock_guard const lock(mutex_);
    away_.reset();
    return;
  }
  connection_.reset();
  pause_ = std::clamp(pause_ * 2, kPauseMin, kPauseMax);
  next_try_ = Instant::clock::now() + pause_;
}

void Writer::lose(Error const& why) {
  log::warn("the way to the store is lost, and is looked for again: {}", why.describe());
  connection_.reset();
  lost_ = Instant::clock::now();
  next_try_ = *lost_;
  // Nothing behind a refused group was appended: these may go with other numbers.
  if (is_draining_) {
    while (!sent_.empty()) {
      Group group = std::move(sent_.front());
      sent_.pop_front();
      put_back(std::move(group), false);
    }
  }
  for (Group& group : sent_) group.sent = false;
}

Status Writer::exchange() {
  TRY(send_groups());
  TRY_ASSIGN(bool const all_gone, connection_->flush());
  TRY(receive_answers());
  Duration const gathering = left_to_gather();
  bool const can_send = !is_draining_ && sent_.size() < kGroupsSent && !pending_.empty();
  if (can_send && gathering == Duration::zero()) return {};
  struct pollfd wanted[] = {{.fd = bell_.get(), .events = POLLIN, .revents = 0},
                            {.fd = connection_->fd(),
                             .events = static_cast<short>(all_gone ? POLLIN : POLLIN | POLLOUT),
                             .revents = 0}};
  {
    std::lock_guard const lock(mutex_);
    if (ending_ && sent_.empty() && pending_.empty() && queue_.empty()) return {};
  }
  bool const is_idle = sent_.empty() && pending_.empty();
  struct timespec const longest = timespec_of(sent_.empty() ? gathering : kAnswerMax);
  int const ready = ::ppoll(wanted, 2, is_idle ? nullptr : &longest, nullptr);
  if (ready < 0 && errno != EINTR) return fail(system_error("poll"));
  if ((wanted[0].revents & POLLIN) != 0) {
    eventfd_t rings = 0;
    (void)::eventfd_read(bell_.get(), &rings);
  }
  if (wanted[1].revents != 0) heard_ = Instant::clock::now();
  bool const is_silent = !sent_.empty() && Instant::clock::now() - heard_ > kAnswerMax;
  if (!is_silent) return {};
  return fail(ErrorCode::StoreUnavailable,
              fmt::format("{} has not answered for {}", name_of_url(url_), humanize(kAnswerMax)));
}

Duration Writer::left_to_gather() const {
  if (!sent_.empty() || pending_.empty() || pending_.size() >= gather_) return {};
  return std::max(gather_until_ - Instant::clock::now(), Duration::zero());
}

Status Writer::send_groups() {
  for (Group& group : sent_) {
    if (std::exchange(group.sent, true)) continue;
    TRY(connection_->send(std::string(kStatement), group.values(id_, group.number)));
  }
  while (!is_draining_ && sent_.size() < kGroupsSent && !pending_.empty()) {
    if (left_to_gather() > Duration::zero()) return {};
    Group group;
    while (!pending_.empty() && group.takes(pending_.front())) {
      group.add(std::move(pending_.front()));
      pending_.pop_front();
    }
    // Asked for now, so that what it is refused for is what those before it left.
    if (group.is_hopeless() && !sent_.empty()) {
      pending_.push_front(std::move(group.batches.front()));
      return {};
    }
    if (group.is_hopeless()) {
      refuse_one(std::move(group.batches.front()));
      continue;
    }
    sent_at_ = Instant::clock::now();
    if (sent_.empty()) heard_ = sent_at_;
    group.number = next_++;
    group.sent = true;
    sent_.push_back(std::move(group));
    if (Status const passed = fault::pass(fault::Point::JournalBegin); !passed) {
      connection_->cut();
      return fail(passed.error());
    }
    TRY(connection_->send(std::string(kStatement), sent_.back().values(id_, sent_.back().number)));
  }
  return {};
}

void Writer::wait(Duration longest) {
  struct pollfd bell{.fd = bell_.get(), .events = POLLIN, .revents = 0};
  auto const milliseconds = std::chrono::ceil<std::chrono::milliseconds>(longest).count();
  if (::poll(&bell, 1, static_cast<int>(milliseconds)) <= 0) return;
  eventfd_t rings = 0;
  (void)::eventfd_read(bell_.get(), &rings);
}

}  // namespace aether::journal::postgres
