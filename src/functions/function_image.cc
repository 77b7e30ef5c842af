// SPDX-License-Identifier: Apache-2.0
// Functions whose instances are restored from an image (launch: image): how the image is found or
// made, and how an instance comes out of it. No process of the handler is kept for that.
#include <signal.h>

#include <utility>

#include <fmt/format.h>

#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/log.h"
#include "functions/function_impl.h"
#include "functions/handler_hooks.h"

namespace aether::functions {
namespace {

/// When an image is tried for the first time nobody waits, and CRIU's pages come from the disk.
constexpr Duration kProofLimit = std::chrono::seconds(30);
/// Whoever waits for the instance that was just restored goes first.
constexpr Duration kPrepareAfter = std::chrono::milliseconds(5);

}  // namespace

async::Task<Status> Function::Impl::prepare_image(RevisionPtr revision) {
  if (!images_)
    images_ = std::make_unique<ImageLauncher>(
        ImageHome{.snapshot_dir = revision->spec.settings.snapshot_dir,
                  .owner = deps_.runtime_dir,
                  .function = id_},
        deps_.known);
  async::Task<Result<std::vector<std::string>>> looking =
      images_->facts({.function = revision->spec.function,
                      .command = revision->command,
                      .own_environment = deps_.own_environment,
                      .sdk_folder = deps_.sdk_folder});
  auto facts = co_await std::move(looking);
  if (!facts) co_return fail(std::move(facts).error());
  async::Task<Result<ImageLauncher::StoredPtr>> finding = images_->find(*facts);
  auto found = co_await std::move(finding);
  if (found) {
    revision->image = std::move(*found);
    async::Task<Status> proving = prove_image(revision);
    Status const proven = co_await std::move(proving);
    if (proven) {
      log::info("{}: revision {} is restored from its image of an earlier start", id_,
                revision->id);
      revision->making = Making::Copy;
      revision->notes = ImageLauncher::notes_of(*revision->image);
      co_return Status{};
    }
    revision->image.reset();
    log::warn("{}: its image of an earlier start is not used: {}", id_, proven.error().message());
  } else if (found.error().code() != ErrorCode::NotFound) {
    log::warn("{}: {}", id_, found.error().message());
  }
  // It may be written where the one lies that the next restore was prepared from.
  images_->unprepare();
  async::Task<Status> making = make_image(revision, std::move(*facts));
  Status const made = co_await std::move(making);
  if (!made) co_return fail(made.error());
  async::Task<Status> proving = prove_image(revision);
  Status const proven = co_await std::move(proving);
  if (!proven) co_return fail(proven.error());
  revision->making = Making::Copy;
  co_return Status{};
}

async::Task<Result<Function::Impl::RevisionPtr>> Function::Impl::prepare_with_image(
    RevisionPtr revision) {
  async::Task<Status> preparing = prepare_image(revision);
  Status const prepared = co_await std::move(preparing);
  if (!prepared) co_return fail(prepared.error());
  revisions_[revision->id] = revision;
  tasks_.spawn("drop old images", drop_old_images());
  tasks_.spawn("prepare a restore", prepare_restore(revision));
  co_return revision;
}

async::Task<Status> Function::Impl::make_image(RevisionPtr revision,
                                               std::vector<std::string> facts) {
  auto spawned = spawn(revision, revision->original);
  if (!spawned) co_return fail(spawned.error());
  async::Task<Status> starting =
      until_serving(revision->original, revision->spec.function.ready_timeout);
  Status ready = co_await std::move(starting);
  if (ready) {
    async::Task<Status> warming = warm_up(revision, revision->port);
    ready = co_await std::move(warming);
  }
  if (ready) {
    async::Task<void> telling = tell_snapshot(revision, revision->original);
    co_await std::move(telling);
  }
  Live* const live = find(revision->original);
  if (ready && (live == nullptr || live->exited))
    ready = fail(ErrorCode::ExitedEarly, fmt::format("{}: its first process has ended", id_));
  if (ready) {
    pid_t const pid = live->instance->pid();
    async::Task<bool> resting = until_at_rest(pid);
    co_await std::move(resting);
    async::Task<Result<ImageLauncher::StoredPtr>> writing =
        images_->write({.pid = pid,
                        .ready = ready_->inodes_of(pid),
                        .port = revision->port,
                        .notes = revision->notes},
                       std::move(facts));
    auto written = co_await std::move(writing);
    if (written)
      revision->image = std::move(*written);
    else
      ready = fail(written.error().code(), fmt::format("{}: no image of it could be made: {}", id_,
                                                       written.error().message()));
  }
  if (Live* const left = find(revision->original)) {
    left->ending = true;
    left->instance->kill_tree();
  }
  co_return ready;
}

async::Task<Status> Function::Impl::prove_image(RevisionPtr revision) {
  supervise::LaunchSpec const spec = launch_spec(*revision, deps_.next_instance(), revision->port);
  async::Task<Result<FreshCopy>> restoring =
      images_->restore(revision->image, supervise::group_name(spec), kProofLimit);
  auto restored = co_await std::move(restoring);
  if (!restored)
    co_return fail(restored.error().code(), fmt::format("{}: its image could not be restored: {}",
                                                        id_, restored.error().message()));
  (void)restored->child.signal(SIGKILL);
  int const pidfd = restored->child.pidfd();
  async::Task<bool> ending = async::readable_for(pidfd, kProofLimit);
  co_await std::move(ending);
  (void)restored->child.try_reap();
  co_return Status{};
}

async::Task<Result<Function::Impl::Live*>> Function::Impl::restore(RevisionPtr revision,
                                                                   InstanceId instance,
                                                                   Duration limit) {
  supervise::LaunchSpec spec = launch_spec(*revision, instance, revision->port);
  async::Task<Result<FreshCopy>> restoring =
      images_->restore(revision->image, supervise::group_name(spec), limit);
  auto restored = co_await std::move(restoring);
  if (!restored) co_return fail(std::move(restored).error());
  pid_t const pid = restored->child.pid();
  auto live = std::make_unique<Live>();
  live->revision = revision;
  live->port = restored->port;
  live->made = StartTier::Image;
  live->since = deps_.clock.wall();
  live->ready_said = true;
  live->instance = supervise::Instance::adopt(
      std::move(spec),
      {.child = std::move(restored->child),
       .cgroup = std::move(restored->cgroup),
       .stdout_pipe = std::move(restored->stdout_pipe),
       .stderr_pipe = std::move(restored->stderr_pipe)},
      world(),
      [this](InstanceId id, supervise::InstanceEvent const& event) { on_event(id, event); });
  // It stands still: what it is told is there when it goes on.
  ready_->add(pid, std::move(restored->ready));
  ready_->tell(pid, restored_line(instance));
  live->instance->signal_main(kHookSignal);
  live->instance->signal_main(SIGCONT);
  Live* const added = lives_.emplace(instance, std::move(live)).first->second.get();
  tasks_.spawn("prepare a restore", prepare_restore(revision));
  co_return added;
}

async::Task<void> Function::Impl::prepare_restore(RevisionPtr revision) {
  co_await async::sleep_for(kPrepareAfter);
  if (stopping_ || !revision->image || pool_.serving() != revision->id) co_return;
  supervise::LaunchSpec const spec = launch_spec(*revision, deps_.next_instance(), revision->port);
  images_->prepare(revision->image, supervise::group_name(spec));
}

async::Task<void> Function::Impl::drop_old_images() {
  if (!images_) co_return;
  std::vector<ImageLauncher::StoredPtr> kept;
  for (auto const& [id, revision] : revisions_)
    if (revision->image) kept.push_back(revision->image);
  if (kept.empty()) images_->unprepare();
  async::Task<void> dropping = images_->keep_only(std::move(kept));
  co_await std::move(dropping);
}

}  // namespace aether::functions
