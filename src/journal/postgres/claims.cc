// SPDX-License-Identifier: Apache-2.0
#include "journal/postgres/claims.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "journal/hash.h"
#include "journal/signer.h"
#include "os/signals_blocked.h"

namespace aether::journal::postgres {
namespace {

/// The claim of the process that looks after what nobody owns. No row of an index is called so.
constexpr std::string_view kKeeper = "keeper";
/// A claim that a crash of the server forgets is made again: nobody waits for its sync.
constexpr std::string_view kBegin = "SET synchronous_commit=off; LISTEN aether";
constexpr Duration kRetryMin = std::chrono::milliseconds(50);
constexpr Duration kRetryMax = std::chrono::seconds(2);
/// Rows claimed by one question: the runs of one process are hundreds.
constexpr std::size_t kClaimsPage = 256;

/// Looks of the keeper after which it takes away claims of the dead.
constexpr std::uint64_t kSweepEvery = 60;

// Whoever looks at the same time passes over the rows that this statement holds. The last word has
// the insert: a claim that was made since the snapshot keeps its row.
constexpr std::string_view kClaim =
    "WITH free AS (SELECT r.key, r.value FROM aether.record r WHERE r.view=$1 AND r.key>=$5 AND "
    "r.key<$6 "
    "AND NOT EXISTS("
    "SELECT FROM aether.claim c WHERE c.key=r.key AND c.until>clock_timestamp()) "
    "ORDER BY r.key LIMIT $2 FOR UPDATE OF r SKIP LOCKED), "
    "taken AS (INSERT INTO aether.claim AS c(key,holder,until) "
    "SELECT f.key,$3,clock_timestamp()+$4*interval '1 microsecond' FROM free f "
    "ON CONFLICT(key) DO UPDATE SET holder=excluded.holder,until=excluded.until "
    "WHERE c.until<=clock_timestamp() RETURNING c.key) "
    "SELECT f.key,f.value FROM free f JOIN taken t ON t.key=f.key ORDER BY f.key";

std::string make_holder() {
  char host[65] = "";
  (void)::gethostname(host, sizeof host - 1);
  return fmt::format("{}:{}:{}", host, ::getpid(), to_hex(secret_bytes(8)));
}

}  // namespace

Claims::Claims(std::string url, std::function<int()> own_process)
    : url_(std::move(url)),
      holder_(make_holder()),
      own_process_(std::move(own_process)),
      bell_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Claims::~Claims() {
  end();
}

void Claims::begin(std::string view, Duration term, Ear ear) {
  view_ = std::move(view);
  term_ = term;
  ear_ = std::move(ear);
  {
    // As after end(): another engine of this process begins.
    std::lock_guard const lock(mutex_);
    ending_ = false;
    wanted_.clear();
    released_.clear();
    given_ = 0;
    held_.clear();
  }
  os::SignalsBlocked const blocked;
  thread_ = std::thread([this] { serve(); });
  ::pthread_setname_np(thread_.native_handle(), "claims");
}

void Claims::end() {
  {
    std::lock_guard const lock(mutex_);
    ending_ = true;
  }
  (void)::eventfd_write(bell_.get(), 1);
  if (thread_.joinable()) thread_.join();
}

void Claims::want(std::vector<Wanted> wanted, std::uint64_t seen) {
  bool is_more = false;
  {
    std::lock_guard const lock(mutex_);
    if (seen != given_) return;
    for (Wanted const& each : wanted) {
      auto const before = std::ranges::find(wanted_, each.from, &Wanted::from);
      is_more = is_more || before == wanted_.end() || before->count < each.count;
    }
    wanted_ = std::move(wanted);
    wants_more_ = wants_more_ || is_more;
  }
  if (is_more) (void)::eventfd_write(bell_.get(), 1);
}

void Claims::release(std::string key) {
  bool is_first = false;
  {
    std::lock_guard const lock(mutex_);
    is_first = released_.empty();
    released_.push_back(std::move(key));
  }
  if (is_first) (void)::eventfd_write(bell_.get(), 1);
}

std::int64_t Claims::term() const {
  return std::chrono::duration_cast<std::chrono::microseconds>(term_).count();
}

void Claims::serve() {
  while (true) {
    {
      std::lock_guard const lock(mutex_);
      if (ending_) break;
    }
    Status done = connection_ ? Status() : connect();
    if (done) done = exchange();
    if (done) continue;
    if (connection_)
      log::warn("the store's claims are cut off, and tried again: {}", done.error().describe());
    connection_.reset();
    pause_ = std::clamp(pause_ * 2, kRetryMin, kRetryMax);
    wait(Instant::clock::now() + pause_);
  }
  // The others need not wait until the term is over.
  if (!connection_) return;
  (void)connection_->ask("DELETE FROM aether.claim WHERE holder=$1", Values().text(holder_));
  connection_.reset();
}

Status Claims::connect() {
  TRY_ASSIGN(Connection made, Connection::open(url_, "claims"));
  connection_ = std::move(made);
  TRY(connection_->run(kBegin));
  pause_ = {};
  renew_at_ = {};
  look_at_ = {};
  ear_.heard({});
  return {};
}

Status Claims::exchange() {
  TRY(hear());
  Instant const now = Instant::clock::now();
  bool is_asked = false;
  if (now >= renew_at_) TRY(renew());
  std::vector<std::string> released;
  {
    std::lock_guard const lock(mutex_);
    released.swap(released_);
  }
  if (!released.empty()) TRY(give_back(released));
  if (now >= look_at_) {
    look_at_ = now + kLookEvery;
    may_have_work_ = true;
    TRY(keep());
  }
  {
    std::lock_guard const lock(mutex_);
    std::erase_if(wanted_, [](Wanted const& each) { return each.count == 0; });
    is_asked = may_have_work_ || wants_more_;
  }
  if (is_asked) TRY(look_for_work());
  // What came with the answers lies in libpq already, and no poll tells of it.
  TRY(hear());
  {
    std::lock_guard const lock(mutex_);
    if (ending_ || !released_.empty() || wants_more_) return {};
    if (may_have_work_ && !wanted_.empty()) return {};
  }
  wait(std::min(renew_at_, look_at_));
  return {};
}

Status Claims::hear() {
  TRY_ASSIGN(std::vector<Connection::Notice> const notices, connection_->notices());
  int const own = own_process_();
  for (Connection::Notice const& notice : notices) {
    may_have_work_ = true;
    if (notice.process != own) ear_.heard(notice.payload);
  }
  return {};
}

Status Claims::renew() {
  renew_at_ = Instant::clock::now() + term_ / kRenewalShare;
  // Also those whose time is over: nobody took them meanwhile.
  TRY_ASSIGN(Rows const rows,
             connection_->ask("UPDATE aether.claim SET until=clock_timestamp()+$2*interval "
                              "'1 microsecond' WHERE holder=$1 RETURNING key",
                              Values().text(holder_).number(term())));
  std::set<std::string> still;
  for (std::size_t row = 0; row < rows.size(); ++row) still.emplace(rows.text(row, 0));
  std::vector<std::string> lost;
  std::ranges::set_difference(held_, still, std::back_inserter(lost));
  for (std::string const& key : lost) held_.erase(key);
  if (!lost.empty()) ear_.lost(std::move(lost));
  return {};
}

Status Claims::give_back(std::vector<std::string> const& keys) {
  std::vector<std::string_view> const all(keys.begin(), keys.end());
  for (std::string const& key : keys) held_.erase(key);
  may_have_work_ = true;
  // If this is lost with the connection, they end with their term: renewals name only the holder,
  // so they are told to others by being given back again below.
  Result<Rows> const done =
      connection_->ask("DELETE FROM aether.claim WHERE holder=$1 AND key=ANY($2)",
                       Values().text(holder_).all_bytes(all));
  if (done) return {};
  std::lock_guard const lock(mutex_);
  released_.insert(released_.begin(), keys.begin(), keys.end());
  return fail(done.error());
}

Status Claims::look_for_work() {
  std::vector<Wanted> wanted;
  {
    std::lock_guard const lock(mutex_);
    wanted = wanted_;
    wants_more_ = false;
  }
  may_have_work_ = false;
  for (Wanted const& each : wanted) {
    TRY_ASSIGN(std::size_t const found, claim(each));
    may_have_work_ = may_have_work_ || found == std::min(each.count, kClaimsPage);
  }
  return {};
}

Result<std::size_t> Claims::claim(Wanted const& wanted) {
  TRY_ASSIGN(Rows const rows,
             connection_->ask(std::string(kClaim),
                              Values()
                                  .text(view_)
                                  .number(std::uint64_t{std::min(wanted.count, kClaimsPage)})
                                  .text(holder_)
                                  .number(term())
                                  .bytes(wanted.from)
                                  .bytes(wanted.to)));
  std::vector<Record> claimed;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    claimed.push_back(
        {.key = std::string(rows.text(row, 0)), .value = std::string(rows.text(row, 1))});
    held_.insert(claimed.back().key);
  }
  std::size_t const count = claimed.size();
  if (count == 0) return count;
  {
    // Until the ear says what it wants now.
    std::lock_guard const lock(mutex_);
    auto const still = std::ranges::find(wanted_, wanted.from, &Wanted::from);
    given_ += count;
    if (still != wanted_.end()) still->count -= std::min(still->count, count);
  }
  ear_.claimed(std::move(claimed));
  return count;
}

Status Claims::keep() {
  TRY_ASSIGN(Rows const rows,
             connection_->ask(
                 "INSERT INTO aether.claim AS c(key,holder,until) "
                 "VALUES($1,$2,clock_timestamp()+$3*interval '1 microsecond') "
                 "ON CONFLICT(key) DO UPDATE SET holder=excluded.holder,until=excluded.until "
                 "WHERE c.holder=excluded.holder OR c.until<=clock_timestamp() RETURNING 1::bigint",
                 Values().bytes(kKeeper).text(holder_).number(term())));
  if (rows.size() != 1) return {};
  // Of processes that died between the end of a run and giving it back.
  if (++looks_ % kSweepEvery == 0)
    TRY(connection_->run("DELETE FROM aether.claim WHERE until<now()-interval '10 minutes'"));
  ear_.keep();
  return {};
}

void Claims::wait(Instant until) {
  struct pollfd wanted[] = {
      {.fd = bell_.get(), .events = POLLIN, .revents = 0},
      {.fd = connection_ ? connection_->fd() : -1, .events = POLLIN, .revents = 0}};
  Duration const left = std::max<Duration>(until - Instant::clock::now(), Duration::zero());
  auto const milliseconds = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  if (::poll(wanted, 2, static_cast<int>(milliseconds)) <= 0) return;
  eventfd_t rings = 0;
  if (wanted[0].revents != 0) (void)::eventfd_read(bell_.get(), &rings);
}

}  // namespace aether::journal::postgres
