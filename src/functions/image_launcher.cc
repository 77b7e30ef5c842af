// SPDX-License-Identifier: Apache-2.0
#include "functions/image_launcher.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/checksum.h"
#include "base/log.h"
#include "clone/image.h"
#include "functions/handler.h"
#include "supervise/log_pump.h"

namespace aether::functions {
namespace {

namespace fs = std::filesystem;

/// For SIGKILL to do its work.
constexpr Duration kRestoreKillLimit = std::chrono::seconds(2);
/// For CRIU to write a handler's memory.
constexpr Duration kDumpLimit = std::chrono::seconds(60);

std::string owner_folder(std::string const& snapshot_dir, std::string const& owner) {
  return fmt::format("{}/images/{:08x}", snapshot_dir, crc32c(owner));
}

std::string criu_folder(std::string const& snapshot_dir) {
  return snapshot_dir + "/criu";
}

/// A child whose end nobody else takes.
clone::Spawner spawner_for(supervise::KnownChildren& known) {
  return [&known](os::SpawnSpec const& spec) -> Result<clone::HeldChild> {
    auto const held = known.hold();
    TRY_ASSIGN(os::Child child, os::spawn(spec));
    auto entry = std::make_shared<supervise::KnownChildren::Entry>(&known, child.pid());
    return clone::HeldChild{.child = std::move(child), .hold = std::move(entry)};
  };
}

/// One restore with all that is the instance's alone.
struct Prepared {
  std::optional<os::Cgroup> cgroup;
  os::UniqueFd stdout_pipe;
  os::UniqueFd stderr_pipe;
  clone::Restore restore;
};

}  // namespace

struct ImageLauncher::Stored {
  clone::Image image;
};

struct ImageLauncher::State {
  State(ImageHome of, supervise::KnownChildren& known)
      : home(std::move(of)),
        spawner(spawner_for(known)),
        shelf(fmt::format("{}/{}", owner_folder(home.snapshot_dir, home.owner), home.function)) {}

  /// On the worker's thread.
  Status open() {
    if (criu) return {};
    TRY(clone::make_private_folder(home.snapshot_dir));
    TRY_ASSIGN(criu, clone::check_criu(criu_folder(home.snapshot_dir), spawner));
    return clone::make_private_folder(shelf.folder());
  }
  [[nodiscard]] Result<Prepared> prepare(Stored const& stored, std::string const& group) const {
    std::optional<os::Cgroup> cgroup;
    if (auto created = os::Cgroup::create(group)) cgroup = std::move(*created);
    TRY_ASSIGN(supervise::OutputPipe out, supervise::OutputPipe::open());
    TRY_ASSIGN(supervise::OutputPipe err, supervise::OutputPipe::open());
    TRY_ASSIGN(clone::Restore restore,
               clone::Restore::prepare(*criu, stored.image,
                                       {.stdout_fd = out.write_end.get(),
                                        .stderr_fd = err.write_end.get(),
                                        .cgroup = cgroup ? cgroup->fd() : -1,
                                        .scratch = criu->folder},
                                       spawner));
    return Prepared{.cgroup = std::move(cgroup),
                    .stdout_pipe = std::move(out.read_end),
                    .stderr_pipe = std::move(err.read_end),
                    .restore = std::move(restore)};
  }

  ImageHome home;
  clone::Spawner spawner;
  clone::ImageShelf shelf;
  std::optional<clone::Criu> criu;  ///< Set once, before anything else is done.
  // Of the loop alone:
  std::optional<Prepared> waiting;
  StoredPtr waits_for;
};

Result<std::string> try_images(std::string const& snapshot_dir) {
  TRY(clone::make_private_folder(snapshot_dir));
  TRY_ASSIGN(clone::Criu const criu,
             clone::check_criu(criu_folder(snapshot_dir), clone::spawn_plainly));
  return criu.version;
}

void keep_images_of(std::string const& snapshot_dir, std::string const& owner,
                    std::vector<std::string> const& functions) {
  std::error_code failed;
  std::vector<fs::path> old;
  for (auto const& entry : fs::directory_iterator(owner_folder(snapshot_dir, owner), failed)) {
    bool const is_kept =
        std::ranges::find(functions, entry.path().filename().string()) != functions.end();
    if (!is_kept) old.push_back(entry.path());
  }
  for (fs::path const& path : old) fs::remove_all(path, failed);
}

ImageLauncher::ImageLauncher(ImageHome home, supervise::KnownChildren& known)
    : state_(std::make_shared<State>(std::move(home), known)), thread_(1) {}

ImageLauncher::~ImageLauncher() = default;

async::Task<Result<std::vector<std::string>>> ImageLauncher::facts(ImageSubject subject) {
  auto looking = async::offload(
      thread_,
      [state = state_, subject = std::move(subject)]() -> Result<std::vector<std::string>> {
        TRY(state->open());
        TRY_ASSIGN(std::vector<std::string> facts, image_facts(subject));
        facts.push_back(fmt::format("criu {} {}", state->criu->version, state->criu->program));
        return facts;
      });
  co_return co_await std::move(looking);
}

async::Task<Result<ImageLauncher::StoredPtr>> ImageLauncher::find(std::vector<std::string> facts) {
  auto finding =
      async::offload(thread_, [state = state_, facts = std::move(facts)]() -> Result<StoredPtr> {
        TRY(state->open());
        TRY_ASSIGN(clone::Image image, state->shelf.find(facts));
        return std::make_shared<Stored const>(Stored{.image = std::move(image)});
      });
  co_return co_await std::move(finding);
}

async::Task<Result<ImageLauncher::StoredPtr>> ImageLauncher::write(Original original,
                                                                   std::vector<std::string> facts) {
  auto writing = async::offload(
      thread_,
      [state = state_, original = std::move(original),
       facts = std::move(facts)]() -> Result<StoredPtr> {
        TRY(state->open());
        clone::ImageShelf::Original const of{.pid = original.pid,
                                             .ready = original.ready,
                                             .port = original.port,
                                             .notes = original.notes};
        TRY_ASSIGN(clone::Image image,
                   state->shelf.write(*state->criu, of, facts, state->spawner, kDumpLimit));
        return std::make_shared<Stored const>(Stored{.image = std::move(image)});
      });
  co_return co_await std::move(writing);
}

std::vector<std::string> ImageLauncher::notes_of(Stored const& image) {
  return image.image.manifest.notes;
}

async::Task<void> ImageLauncher::keep_only(std::vector<StoredPtr> images) {
  std::vector<clone::ImageKey> keys;
  keys.reserve(images.size());
  for (StoredPtr const& one : images) keys.push_back(one->image.manifest.key);
  auto removing = async::offload(thread_, [state = state_, keys] { state->shelf.keep_only(keys); });
  co_await std::move(removing);
}

void ImageLauncher::prepare(StoredPtr const& image, std::string group) {
  bool const waits = state_->waiting && state_->waits_for == image;
  if (waits && state_->waiting->restore.waits()) return;
  unprepare();
  auto prepared = state_->prepare(*image, group);
  if (!prepared) return;  // The next restore meets the same fault, and tells it.
  state_->waiting.emplace(std::move(*prepared));
  state_->waits_for = image;
}

void ImageLauncher::unprepare() {
  state_->waiting.reset();
  state_->waits_for.reset();
}

async::Task<Result<FreshCopy>> ImageLauncher::restore(StoredPtr image, std::string group,
                                                      Duration limit) {
  Instant const deadline = async::deadline_in(limit);
  std::optional<Prepared> taken;
  if (state_->waits_for == image) taken = std::exchange(state_->waiting, std::nullopt);
  if (!taken || !taken->restore.waits()) {
    auto prepared = state_->prepare(*image, group);
    if (!prepared) co_return fail(std::move(prepared).error());
    taken.emplace(std::move(*prepared));
  }
  // It waits for the end of what it kills.
  auto const give_up = [this](Prepared&& failed) {
    (void)thread_.post([gone = std::make_unique<Prepared>(std::move(failed))] {
      // CRIU has helpers, too.
      if (gone->cgroup) (void)gone->cgroup->kill();
      if (gone->cgroup) (void)gone->cgroup->wait_empty(kRestoreKillLimit);
    });
  };
  Status const begun = taken->restore.begin(free_inner_port);
  if (!begun) {
    give_up(std::move(*taken));
    co_return fail(begun.error());
  }
  Duration const left = std::max(deadline - async::deadline_in(Duration::zero()), Duration::zero());
  int const ends = taken->restore.pidfd();
  async::Task<bool> waiting = async::readable_for(ends, left);
  bool const ended = co_await std::move(waiting);
  if (!ended) {
    give_up(std::move(*taken));
    co_return fail(
        ErrorCode::Timeout,
        fmt::format("its image was not restored within restore_timeout_ms, {}", humanize(limit)));
  }
  auto restored = taken->restore.finish();
  if (!restored) {
    give_up(std::move(*taken));
    co_return fail(std::move(restored).error());
  }
  FreshCopy fresh{.child = std::move(restored->child),
                  .cgroup = std::move(taken->cgroup),
                  .stdout_pipe = std::move(taken->stdout_pipe),
                  .stderr_pipe = std::move(taken->stderr_pipe)};
  fresh.ready = std::move(restored->ready);
  std::uint16_t const served = image->image.manifest.port;
  for (auto const& listener : restored->listeners)
    if (listener.original_port == served && !listener.only_ipv6) fresh.port = listener.port;
  if (fresh.port != 0) co_return fresh;
  (void)fresh.child.signal(SIGKILL);
  co_return fail(
      ErrorCode::Unsupported,
      fmt::format("what was restored does not listen on IPv4 in place of port {}", served));
}

}  // namespace aether::functions
