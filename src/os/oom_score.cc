// SPDX-License-Identifier: Apache-2.0
#include "os/oom_score.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string>

#include <fmt/format.h>

#include "os/file.h"
#include "os/unique_fd.h"

namespace aether::os {
namespace {

constexpr char const* kPath = "/proc/self/oom_score_adj";
constexpr std::size_t kTextMax = 16;
/// Of 1000, which would be all the memory there is. What dockerd uses for itself.
constexpr int kAdvantage = 500;
/// One more than "never": an Aether that is the cause itself must not bring the machine down.
constexpr int kLowest = -999;

std::optional<int> read_score() {
  auto const text = read_file(kPath, kTextMax);
  if (!text) return std::nullopt;
  int score = 0;
  if (std::from_chars(text->data(), text->data() + text->size(), score).ec != std::errc())
    return std::nullopt;
  return score;
}

Status write_score(int score) {
  UniqueFd const file(::open(kPath, O_WRONLY | O_CLOEXEC));
  if (!file) return fail(system_error("open", kPath));
  std::string const text = fmt::format("{}", score);
  if (::write(file.get(), text.data(), text.size()) < 0) return fail(system_error("write", kPath));
  return {};
}

}  // namespace

std::optional<int> given_oom_score() {
  static std::optional<int> const given = read_score();
  return given;
}

Status protect_from_oom() {
  std::optional<int> const given = given_oom_score();
  if (!given) return fail(ErrorCode::Unsupported, fmt::format("{} cannot be read", kPath));
  int const wanted = std::max(*given - kAdvantage, kLowest);
  if (wanted >= *given) return {};
  Status written = write_score(wanted);
  // What was raised on the way here may be taken back without the right.
  if (!written && wanted < 0 && *given > 0) written = write_score(0);
  if (written) return {};
  return fail(ErrorCode::Unsupported,
              fmt::format("when memory runs out, Aether is as likely to be killed as its services: "
                          "{} (it needs CAP_SYS_RESOURCE)",
                          written.error().message()),
              written.error().errno_value());
}

GivenOomScore::GivenOomScore() {
  std::optional<int> const given = given_oom_score();
  std::optional<int> const now = given ? read_score() : std::nullopt;
  if (!now || *now >= *given) return;
  if (write_score(*given)) own_ = now;
}

GivenOomScore::~GivenOomScore() {
  if (own_) (void)write_score(*own_);
}

}  // namespace aether::os
