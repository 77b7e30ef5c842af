// SPDX-License-Identifier: Apache-2.0
// ImageLauncher of a build without the room clone (AETHER_CLONE): there are no images.
#include <utility>

#include "functions/image_launcher.h"

namespace aether::functions {

struct ImageLauncher::Stored {};
struct ImageLauncher::State {};

namespace {

Failure makes_no_images() {
  return fail(ErrorCode::ImageUnavailable,
              "this build of Aether makes no images of processes: it can on x86-64 only, with the "
              "CMake option AETHER_CLONE");
}

}  // namespace

Result<std::string> try_images(std::string const& /*snapshot_dir*/) {
  return makes_no_images();
}

void keep_images_of(std::string const& /*snapshot_dir*/, std::string const& /*owner*/,
                    std::vector<std::string> const& /*functions*/) {}

ImageLauncher::ImageLauncher(ImageHome /*home*/, supervise::KnownChildren& /*known*/)
    : thread_(1) {}
ImageLauncher::~ImageLauncher() = default;

async::Task<Result<std::vector<std::string>>> ImageLauncher::facts(ImageSubject /*subject*/) {
  co_return makes_no_images();
}

async::Task<Result<ImageLauncher::StoredPtr>> ImageLauncher::find(
    std::vector<std::string> /*facts*/) {
  co_return makes_no_images();
}

async::Task<Result<ImageLauncher::StoredPtr>> ImageLauncher::write(
    Original /*original*/, std::vector<std::string> /*facts*/) {
  co_return makes_no_images();
}

std::vector<std::string> ImageLauncher::notes_of(Stored const& /*image*/) {
  return {};
}

async::Task<void> ImageLauncher::keep_only(std::vector<StoredPtr> /*images*/) {
  co_return;
}

async::Task<Result<FreshCopy>> ImageLauncher::restore(StoredPtr /*image*/, std::string /*group*/,
                                                      Duration /*limit*/) {
  co_return makes_no_images();
}

void ImageLauncher::prepare(StoredPtr const& /*image*/, std::string /*group*/) {}
void ImageLauncher::unprepare() {}

}  // namespace aether::functions
