// SPDX-License-Identifier: Apache-2.0
// Image: a program that was started, made ready and then written into a folder by CRIU, of which
// instances are made in some ten milliseconds, also after a restart of Aether. Each instance has a
// process number and ports of its own, as a copy of a template has, so that any number of them may
// live beside each other.
//
// An image is written beside its place and moved there when it is whole: one that is torn is never
// used. What it was made for is in its key (image_manifest.h): of another key it is stale.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "clone/criu.h"
#include "clone/image_manifest.h"
#include "os/child.h"
#include "os/temp_dir.h"
#include "os/unique_fd.h"

namespace aether::clone {

/// A bound for one image: the memory that its process has for itself.
inline constexpr std::uint64_t kImageBytesMax = std::uint64_t{2} * 1024 * 1024 * 1024;

struct Image {
  std::string folder;
  ImageManifest manifest;
};

/// The images of one function: `<folder>/<key_name>/`. Any thread.
class ImageShelf {
 public:
  /// `folder` is a private one (make_private_folder) of one function.
  explicit ImageShelf(std::string folder) : folder_(std::move(folder)) {}
  [[nodiscard]] std::string const& folder() const { return folder_; }

  /// The image of that key, each byte of it checked. NotFound if there is none; ChecksumMismatch if
  /// it is torn: it is removed then.
  [[nodiscard]] Result<Image> find(ImageKey const& key) const;
  struct Original {
    pid_t pid = 0;  ///< Of a process at rest. It stands still afterwards; its owner ends it.
    /// The inodes of our ends of its connections to AETHER_SOCKET.
    std::vector<std::uint64_t> ready;
    std::uint16_t port = 0;  ///< Where it serves.
    std::vector<std::string> notes = {};
  };
  /// Lets CRIU write a process, and puts the image in its place. Unsupported says what of it cannot
  /// be kept; ImageFailed is CRIU's refusal; LimitReached: there is no room for it.
  [[nodiscard]] Result<Image> write(Criu const& criu, Original const& original, ImageKey const& key,
                                    Spawner const& spawner, Duration patience) const;
  /// Removes all images but those of these keys, and what half-written ones left.
  void keep_only(std::vector<ImageKey> const& keys) const;

 private:
  std::string folder_;
};

/// A process that was restored and stands still yet, so that it can be told who it is before it
/// goes on.
struct Restored {
  os::Child child;
  struct Listener {
    std::uint16_t original_port = 0;
    std::uint16_t port = 0;
    bool only_ipv6 = false;
  };
  std::vector<Listener> listeners;
  os::UniqueFd ready;  ///< Our end of its connection to AETHER_SOCKET; empty: it has none.
  /// It goes on.
  [[nodiscard]] Status awaken() const;
};

/// One restore: prepared ahead, as far as that goes, so that little is left to do when an instance
/// is wanted. CRIU runs already, has looked about it, and waits. Not thread-safe; the restored
/// process ends when the thread ends that called prepare() (PR_SET_PDEATHSIG).
class Restore {
 public:
  struct Wishes {
    int stdout_fd = -1;  ///< Borrowed for the call of prepare().
    int stderr_fd = -1;
    int cgroup = -1;
    /// In it a folder is made that goes with the restore.
    std::string scratch;
  };
  using FreePort = std::function<Result<std::uint16_t>()>;

  [[nodiscard]] static Result<Restore> prepare(Criu const& criu, Image const& image,
                                               Wishes const& wishes, Spawner const& spawner);
  Restore(Restore&&) noexcept;
  Restore& operator=(Restore&&) noexcept;
  /// Kills CRIU, and what it has made unless finish() has given it away. Waits until they are gone.
  ~Restore();

  /// False: CRIU has ended without being asked to.
  [[nodiscard]] bool waits() const;
  /// Chooses numbers and ports, and lets CRIU go on.
  [[nodiscard]] Status begin(FreePort const& free_port);
  /// Readable when CRIU has ended. Borrowed.
  [[nodiscard]] int pidfd() const;
  /// After that. ImageFailed with CRIU's log.
  [[nodiscard]] Result<Restored> finish();

 private:
  struct State;
  explicit Restore(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Numbers that no process has now, far from those that the next processes get. LimitReached if
/// there are none.
[[nodiscard]] Result<std::vector<pid_t>> free_numbers(std::size_t count);

}  // namespace aether::clone
