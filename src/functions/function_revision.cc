// SPDX-License-Identifier: Apache-2.0
// How a revision is made ready: one process of it is started and must serve; where it can be
// copied, that process becomes the template.
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/log.h"
#include "functions/function_impl.h"
#include "functions/handler.h"
#include "functions/handler_hooks.h"

namespace aether::functions {
namespace {

/// For the requests of `warmup:`, each.
constexpr Duration kWarmupLimit = std::chrono::seconds(30);
/// For every thread of a handler to wait for something; a handler that computes for ever is tried
/// all the same, and freeze() says what it finds.
constexpr Duration kRestLimit = std::chrono::seconds(2);
constexpr Duration kRestPoll = std::chrono::milliseconds(2);
/// At rest so many times in a row.
constexpr int kRestLooks = 3;
/// Connections of warm-up requests are closed a moment after their answers.
constexpr int kFreezeTries = 4;
/// So many copies in a row fail: the template is made anew.
constexpr int kTemplateFaultsMax = 5;
constexpr Duration kFreezeAgain = std::chrono::milliseconds(50);
/// Where the kernel does not tell the end of a thread (before Linux 6.9), it is asked for.
constexpr Duration kTemplateLook = std::chrono::seconds(1);
/// man 2 pidfd_open; newer than Debian 12's headers.
constexpr unsigned kPidfdThread = O_EXCL;

/// Another thread than the first one; nullopt: the process has none.
std::optional<pid_t> other_thread(pid_t pid) {
  std::error_code gone;
  std::filesystem::directory_iterator tasks(fmt::format("/proc/{}/task", pid), gone);
  for (; !gone && tasks != std::filesystem::end(tasks); tasks.increment(gone)) {
    std::string const name = tasks->path().filename();
    pid_t tid = 0;
    std::from_chars(name.data(), name.data() + name.size(), tid);
    if (tid != pid) return tid;
  }
  return std::nullopt;
}

/// Readable when the thread has ended, whatever becomes of the others. Not so of a first thread:
/// since Linux 6.15 its end is told when all have ended and their ends were taken.
os::UniqueFd open_thread(pid_t tid) {
  return os::UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, tid, kPidfdThread)));
}

/// A spawned instance costs all of its memory and its whole start: fewer are made ahead.
constexpr std::uint32_t kSpawnedAheadMax = 2;

std::vector<std::string> lines_of(std::string const& text) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  while (begin < text.size()) {
    std::size_t const end = std::min(text.find('\n', begin), text.size());
    if (end > begin) lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

}  // namespace

Status Function::Impl::check(config::Function const& function) const {
  auto const refuse = [&](std::string_view what) {
    return fail(ErrorCode::Unsupported,
                fmt::format("function {}: launch: image goes with {}", id_, what));
  };
  if (function.launch != config::Launch::Image) return {};
  if (function.route == config::Route::Direct)
    return refuse("route: gateway only: a listener of Aether's cannot be put into an image");
  if (function.bind == config::Bind::Documented)
    return refuse("bind: internal only: what it has bound is in the image");
  if (function.ipc == config::Ipc::Ring)
    return refuse("ipc: http only: no image keeps memory that it shares with Aether");
  if (function.sandbox == config::Sandbox::Strict)
    return refuse("sandbox: basic or none: CRIU cannot restore rules of landlock");
  if (function.pid_namespace)
    return refuse("pid_namespace: false: each instance has a process number of its own");
  return {};
}

async::Task<Result<Function::Impl::RevisionPtr>> Function::Impl::prepare(FunctionSpec spec) {
  Status const possible = check(spec.function);
  if (!possible) co_return fail(possible.error());
  auto command = handler_command(spec.function.handler_path);
  if (!command) co_return fail(std::move(command).error());
  std::vector<std::string> notes;
  auto const binds_documented = choose_bind(spec.function, notes);
  if (!binds_documented) co_return fail(binds_documented.error());
  auto const port = is_direct() || *binds_documented
                        ? Result<std::uint16_t>(spec.function.trigger_port)
                        : free_inner_port();
  if (!port) co_return fail(port.error());
  auto const revision = std::make_shared<Revision>(Revision{.id = {++last_revision_},
                                                            .spec = std::move(spec),
                                                            .command = std::move(*command),
                                                            .binds_documented = *binds_documented,
                                                            .port = *port,
                                                            .not_cloneable = {},
                                                            .notes = std::move(notes),
                                                            .worker = {},
                                                            .original = deps_.next_instance()});
  if (revision->spec.function.launch == config::Launch::Image) {
    async::Task<Result<RevisionPtr>> preparing = prepare_with_image(revision);
    co_return co_await std::move(preparing);
  }
  bool const is_to_be_copied = revision->spec.function.launch != config::Launch::Spawn;
  // Only if asked for: copies of one number share what OpenSSL draws its keys and tokens from,
  // because it sees by the number that it was copied. The strict sandbox may make no namespaces.
  revision->own_numbers = is_to_be_copied && revision->spec.function.pid_namespace &&
                          ::geteuid() == 0 &&
                          revision->spec.function.sandbox != config::Sandbox::Strict;
  auto spawned = spawn(revision, revision->original);
  if (!spawned && revision->own_numbers) {
    // Without the right to make a pid namespace, a handler is one of ours.
    revision->own_numbers = false;
    spawned = spawn(revision, revision->original);
  }
  if (!spawned) co_return fail(spawned.error());
  async::Task<Status> starting =
      until_serving(revision->original, revision->spec.function.ready_timeout);
  Status ready = co_await std::move(starting);
  if (Live const* const live = find(revision->original); live != nullptr && ready)
    revision->port = live->port;
  if (ready) {
    async::Task<Status> warming = warm_up(revision, revision->port);
    ready = co_await std::move(warming);
  }
  if (ready && is_to_be_copied) {
    async::Task<Status> freezing = freeze(revision, revision->original);
    Status const frozen = co_await std::move(freezing);
    bool const may_spawn = revision->spec.function.launch == config::Launch::Auto;
    // After a freeze that failed it runs on, whatever the reason, or is gone.
    if (!frozen && frozen.error().code() != ErrorCode::ExitedEarly && may_spawn)
      revision->not_cloneable = lines_of(frozen.error().message());
    else
      ready = frozen;
  }
  Live* const live = find(revision->original);
  if (ready && (live == nullptr || live->exited))
    ready = fail(ErrorCode::ExitedEarly, fmt::format("{}: its first process has ended", id_));
  if (!ready) {
    if (live != nullptr) end(*live);
    tasks_.spawn("drop template", end_original(revision));
    co_return fail(std::move(ready).error());
  }
  revisions_[revision->id] = revision;
  co_return revision;
}

async::Task<Status> Function::Impl::warm_up(RevisionPtr revision, std::uint16_t port) {
  for (std::string const& path : revision->spec.function.warmup) {
    Live const* const live = find(revision->original);
    if (live == nullptr) co_return fail(ErrorCode::ExitedEarly, fmt::format("{} is gone", id_));
    async::Task<Answered> asking = live->ring ? ask_ring(live->ring, path, kWarmupLimit)
                                              : ask(revision, port, path, kWarmupLimit);
    Answered const answered = co_await std::move(asking);
    if (answered.status == 0)
      co_return fail(ErrorCode::NotReady, fmt::format("{}: its warm-up request GET {} failed: {}",
                                                      id_, path, answered.why));
    if (answered.status >= 400)
      log::warn("{}: its warm-up request GET {} got {}", id_, path, answered.status);
  }
  co_return Status{};
}

async::Task<bool> Function::Impl::until_at_rest(pid_t pid) {
  Instant const deadline = deps_.clock.now() + kRestLimit;
  int looks = 0;
  while (looks < kRestLooks && deps_.clock.now() < deadline) {
    looks = TemplateWorker::is_at_rest(pid) ? looks + 1 : 0;
    co_await async::sleep_for(kRestPoll);
  }
  co_return looks >= kRestLooks;
}

async::Task<void> Function::Impl::tell_snapshot(RevisionPtr revision, InstanceId instance) {
  Live* const live = find(instance);
  if (live == nullptr || live->exited) co_return;
  pid_t const pid = live->instance->pid();
  revision->has_hook = ready_->has_hook(pid);
  ready_->tell(pid, kSnapshotLine);
  live->instance->signal_main(kHookSignal);
  if (!revision->has_hook && has_loaded_hook(pid)) {
    revision->has_hook = true;
    co_return;
  }
  if (!revision->has_hook) {
    revision->notes.emplace_back(
        "it has no reseeding hook: if its runtime seeds random numbers when it starts, copies draw "
        "the same ones (docs/handlers.md)");
    co_return;
  }
  async::Task<bool> answering =
      ready_->answered(pid, std::chrono::seconds(kSnapshotPatienceSeconds));
  bool const answered = co_await std::move(answering);
  if (!answered)
    revision->notes.emplace_back("its hook did not answer SNAPSHOT in time; copies may not reseed");
}

async::Task<Status> Function::Impl::freeze(RevisionPtr revision, InstanceId instance) {
  async::Task<void> telling = tell_snapshot(revision, instance);
  co_await std::move(telling);
  revision->worker = std::make_unique<TemplateWorker>();
  Status frozen;
  for (int i = 0; i < kFreezeTries; ++i) {
    Live* const live = find(instance);
    if (live == nullptr || live->exited) break;
    pid_t const pid = live->instance->pid();
    async::Task<bool> resting = until_at_rest(pid);
    bool const rests = co_await std::move(resting);
    async::Task<Status> freezing = revision->worker->freeze(pid, socket_path_);
    frozen = co_await std::move(freezing);
    if (frozen) break;
    config::Function const& function = revision->spec.function;
    bool const was_asked =
        !function.warmup.empty() || std::holds_alternative<config::ReadyHttp>(function.ready);
    // One that looks about it now and then was found at it.
    bool const moved = rests && frozen.error().code() == ErrorCode::NotReady;
    if (!was_asked && !moved) break;
    co_await async::sleep_for(kFreezeAgain);
  }
  if (frozen && !revision->own_numbers && revision->spec.function.pid_namespace)
    revision->notes.emplace_back(
        "Aether may not make pid namespaces (CAP_SYS_ADMIN, sandbox: basic or none): a copy whose "
        "program remembers its process number has the template's");
  if (frozen && revision->own_numbers)
    revision->notes.emplace_back(
        "pid_namespace: copies share the keys and tokens that OpenSSL makes, unless a hook renews "
        "them (docs/handlers.md)");
  if (frozen) {
    revision->making = Making::Copy;
    tasks_.spawn("watch template", watch_template(revision));
  } else {
    revision->worker.reset();
  }
  co_return frozen;
}

PoolPolicy Function::Impl::policy_of(Revision const& revision) const {
  config::Function const& function = revision.spec.function;
  config::Orchestrator const& settings = revision.spec.settings;
  bool const is_copied = revision.making == Making::Copy;
  auto const ahead = static_cast<std::uint32_t>(function.parked.value_or(settings.warm_pool_size));
  auto const most = static_cast<std::uint32_t>(function.max_instances);
  Duration const restore = std::chrono::milliseconds(settings.restore_timeout_ms);
  return {.concurrency = static_cast<std::uint32_t>(function.concurrency),
          .min_instances = static_cast<std::uint32_t>(function.min_instances),
          .max_instances = most,
          .parked = std::min({ahead, most, is_copied ? most : kSpawnedAheadMax}),
          .idle_timeout = function.idle_timeout,
          .making = revision.making,
          .start_limit = is_copied ? restore : function.ready_timeout,
          .spawn_limit = function.ready_timeout,
          .cold_when_copy_fails = function.on_restore_failure == config::RestoreFailure::Cold,
          .refuses_late = function.route == config::Route::Direct,
          .retry_first = function.restart.backoff_min,
          .retry_most = function.restart.backoff_max,
          .crash_loop = static_cast<std::uint32_t>(function.restart.crash_loop_count),
          .crash_loop_window = function.restart.crash_loop_window};
}

void Function::Impl::judge_template(RevisionPtr const& revision,
                                    std::optional<Error> const& fault) {
  revision->faults = fault ? revision->faults + 1 : 0;
  // One that was left in the middle of a copy may never be right again.
  bool const is_bad = revision->faults == kTemplateFaultsMax && is_copied(*revision);
  bool const is_late = fault && fault->code() == ErrorCode::Timeout;
  if (is_bad && revision->image && !is_late && pool_.serving() == revision->id && !stopping_) {
    log::error("{}: the image of revision {} is made anew: {}", id_, revision->id,
               fault->message());
    tasks_.spawn("make the image anew", remake(revision->spec));
  }
  if (is_bad && revision->worker)
    watch_original_end(revision, fmt::format("makes no copies any more: {}", fault->message()));
}

/// Nothing can be copied any more; what has been copied goes on.
void Function::Impl::watch_original_end(RevisionPtr const& revision, std::string why) {
  if (stopping_ || !revision->worker) return;
  log::error("{}: the template of revision {} {}; it is made anew", id_, revision->id, why);
  revision->making = Making::Spawn;
  if (pool_.serving() != revision->id) return;
  // Until then instances are spawned.
  happen(pool::Deployed{.revision = revision->id, .policy = policy_of(*revision)});
  tasks_.spawn("make the template anew", remake(revision->spec));
}

async::Task<void> Function::Impl::remake(FunctionSpec spec) {
  async::Task<Result<Deployed>> deploying = deploy(std::move(spec));
  auto const deployed = co_await std::move(deploying);
  if (!deployed) log::error("{}: {}", id_, deployed.error().describe());
}

void Function::Impl::drop_revision(RevisionId id) {
  auto const found = revisions_.find(id);
  if (found == revisions_.end()) return;
  tasks_.spawn("drop template", end_original(found->second));
  bool const has_image = found->second->image != nullptr;
  revisions_.erase(found);
  // Those that serve when Aether ends are for the next one.
  if (has_image && !stopping_) tasks_.spawn("drop old images", drop_old_images());
}

async::Task<void> Function::Impl::end_original(RevisionPtr revision) {
  if (is_direct()) direct_->retire(revision->id);
  if (!revision->worker) co_return;
  if (Live* const live = find(revision->original)) live->ending = true;
  async::Task<void> dropping = revision->worker->drop();
  co_await std::move(dropping);
  if (Live* const live = find(revision->original)) live->instance->kill_tree();
}

/// Its pidfd tells nothing of a process with several threads before who traces them has taken their
/// ends, which nobody asks the tracing thread to do until a copy is wanted. Of a frozen process no
/// thread ends unless all do.
async::Task<void> Function::Impl::watch_template(RevisionPtr revision) {
  Live const* live = find(revision->original);
  std::optional<pid_t> const other =
      live == nullptr ? std::nullopt : other_thread(live->instance->pid());
  if (!other) co_return;
  os::UniqueFd const thread = open_thread(*other);
  int const fd = thread.get();
  // One look may come too early for the ends of all: until its pidfd has told the rest.
  while (live != nullptr && !live->exited && !stopping_) {
    if (thread)
      co_await async::readable(fd);
    else
      co_await async::sleep_for(kTemplateLook);
    async::Task<bool> looking = revision->worker->lives();
    co_await std::move(looking);
    co_await async::sleep_for(kTemplateLook);
    live = find(revision->original);
  }
}

}  // namespace aether::functions
