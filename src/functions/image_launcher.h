// SPDX-License-Identifier: Apache-2.0
// ImageLauncher: the images of one function, and restores from them. What blocks runs on a thread
// of its own; restores are begun and ended on the loop, to which restored processes belong.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "async/task.h"
#include "base/result.h"
#include "base/time.h"
#include "functions/image_facts.h"
#include "functions/template_worker.h"
#include "supervise/known_children.h"

namespace aether::functions {

/// Whether images can be made and restored here, by trying it: the version of CRIU. Else
/// ImageUnavailable with the reason. Blocks for some hundred milliseconds, the first time.
[[nodiscard]] Result<std::string> try_images(std::string const& snapshot_dir);

/// Removes the images of functions that this Aether has no more.
void keep_images_of(std::string const& snapshot_dir, std::string const& owner,
                    std::vector<std::string> const& functions);

struct ImageHome {
  std::string snapshot_dir;
  std::string owner;  ///< The Aether, as long as its configuration file is: runtime_dir.
  std::string function;
};

class ImageLauncher {
 public:
  struct Stored;  ///< An image that is whole.
  using StoredPtr = std::shared_ptr<Stored const>;

  ImageLauncher(ImageHome home, supervise::KnownChildren& known);
  /// What was prepared ends.
  ~ImageLauncher();
  ImageLauncher(ImageLauncher const&) = delete;
  ImageLauncher& operator=(ImageLauncher const&) = delete;

  /// The facts of an image to be found or made. ImageUnavailable; LimitReached.
  [[nodiscard]] async::Task<Result<std::vector<std::string>>> facts(ImageSubject subject);
  /// NotFound; ChecksumMismatch: it was torn, and is removed.
  [[nodiscard]] async::Task<Result<StoredPtr>> find(std::vector<std::string> facts);
  struct Original {
    pid_t pid = 0;
    std::vector<std::uint64_t> ready;  ///< Inodes of our ends of its connections.
    std::uint16_t port = 0;
    std::vector<std::string> notes;  ///< Kept with the image.
  };
  [[nodiscard]] static std::vector<std::string> notes_of(Stored const& image);
  /// The process stands still afterwards, and is to be ended.
  [[nodiscard]] async::Task<Result<StoredPtr>> write(Original original,
                                                     std::vector<std::string> facts);
  /// Removes all others.
  [[nodiscard]] async::Task<void> keep_only(std::vector<StoredPtr> images);

  /// A process that stands still yet: it is told who it is, then gets SIGCONT. `group` names its
  /// control group. Timeout over the limit, which names restore_timeout_ms; ImageFailed.
  [[nodiscard]] async::Task<Result<FreshCopy>> restore(StoredPtr image, std::string group,
                                                       Duration limit);
  /// Lets a CRIU wait for the next restore, if none waits yet.
  void prepare(StoredPtr const& image, std::string group);
  /// What was prepared ends.
  void unprepare();

 private:
  struct State;
  std::shared_ptr<State> state_;
  async::ThreadPool thread_;
};

}  // namespace aether::functions
