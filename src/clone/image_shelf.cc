// SPDX-License-Identifier: Apache-2.0
// Where images lie, and how they are written.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "base/checksum.h"
#include "base/fault.h"
#include "clone/image.h"
#include "clone/mappings.h"
#include "clone/unix_peers.h"
#include "os/file.h"
#include "os/proc.h"
#include "os/temp_dir.h"

namespace aether::clone {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kManifest = "manifest";
constexpr std::string_view kHalf = "half";
constexpr std::size_t kManifestMax = std::size_t{16} * 1024 * 1024;
constexpr std::size_t kWrittenMax = std::size_t{64} * 1024 * 1024;
constexpr std::size_t kRightsMax = 8192;
constexpr std::size_t kPieceBytes = std::size_t{256} * 1024;

Result<ImageManifest::File> sum_of(std::string const& path) {
  os::UniqueFd const file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file) return fail(system_error("open", path));
  ImageManifest::File sum;
  std::vector<std::byte> piece(kPieceBytes);
  while (true) {
    ssize_t const count = ::read(file.get(), piece.data(), piece.size());
    if (count < 0) return fail(system_error("read", path));
    if (count == 0) return sum;
    sum.size += static_cast<std::uint64_t>(count);
    sum.checksum = crc32c(std::span(piece).first(static_cast<std::size_t>(count)), sum.checksum);
  }
}

/// What of the process is given to it anew.
struct Ends {
  std::string stdout_name;
  std::string stderr_name;
  std::string ready_name;
  std::uint64_t ready = 0;
};

Result<Ends> ends_of(pid_t pid, std::vector<std::uint64_t> const& ready) {
  TRY_ASSIGN(UnixPeers const peers, UnixPeers::read());
  Ends ends;
  for (int const fd : os::list_fds(pid)) {
    std::string const link = os::read_fd_link(pid, fd);
    bool const is_pipe = link.starts_with("pipe:[");
    if (is_pipe && fd == STDOUT_FILENO) ends.stdout_name = link;
    if (is_pipe && fd == STDERR_FILENO) ends.stderr_name = link;
    if (!link.starts_with("socket:[")) continue;
    std::uint64_t const inode = std::strtoull(link.c_str() + 8, nullptr, 10);
    if (std::ranges::find(ready, peers.peer_of(inode)) == ready.end() || inode == 0) continue;
    if (ends.ready != 0 && ends.ready != inode)
      return fail(ErrorCode::Unsupported, "it is connected to AETHER_SOCKET more than once");
    ends.ready = inode;
    ends.ready_name = link;
  }
  return ends;
}

Status check_room(pid_t pid, std::string const& folder) {
  std::uint64_t const bytes = os::read_rss_bytes(pid);
  struct statvfs room{};
  if (::statvfs(folder.c_str(), &room) != 0) return fail(system_error("statvfs", folder));
  std::uint64_t const left = std::uint64_t{room.f_bavail} * room.f_frsize;
  if (bytes <= kImageBytesMax && bytes <= left) return {};
  return fail(ErrorCode::LimitReached,
              fmt::format("an image of {} MiB has no room: an image may have {} MiB, and {} has {} "
                          "MiB left (orchestrator.snapshot_dir)",
                          bytes >> 20, kImageBytesMax >> 20, folder, left >> 20));
}

/// As a fork would: programs see there that they were copied (MADV_WIPEONFORK).
Status wipe_pages(std::string const& folder, pid_t pid, std::vector<Mapping> const& areas) {
  std::string const table = fmt::format("{}/pagemap-{}.img", folder, pid);
  TRY_ASSIGN(std::string const pagemap, os::read_file(table, kWrittenMax));
  TRY_ASSIGN(std::uint32_t const number, pages_number(pagemap));
  std::string const path = fmt::format("{}/pages-{}.img", folder, number);
  os::UniqueFd const file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) return fail(system_error("open", path));
  for (Mapping const& area : areas) {
    if (!area.wiped_by_fork) continue;
    TRY_ASSIGN(auto const parts, pages_between(pagemap, area.begin, area.end));
    for (PagesPart const& part : parts) {
      std::string const zeroes(part.size, '\0');
      ssize_t const count =
          ::pwrite(file.get(), zeroes.data(), zeroes.size(), static_cast<off_t>(part.offset));
      if (count != static_cast<ssize_t>(zeroes.size())) return fail(system_error("write", path));
    }
  }
  return {};
}

Status read_numbers(std::string const& folder, ImageManifest& manifest) {
  TRY_ASSIGN(std::string const tree, os::read_file(folder + "/pstree.img", kWrittenMax));
  TRY_ASSIGN(manifest.threads, threads_of_image(tree));
  for (pid_t const thread : manifest.threads) {
    std::string const path = fmt::format("{}/core-{}.img", folder, thread);
    TRY_ASSIGN(std::string const core, os::read_file(path, kWrittenMax));
    TRY_ASSIGN(manifest.number_addresses[thread], number_address(core));
  }
  std::string const main = fmt::format("{}/core-{}.img", folder, manifest.threads.front());
  TRY_ASSIGN(std::string const core, os::read_file(main, kWrittenMax));
  TRY_ASSIGN(std::string const mortal, die_with_parent(core));
  TRY(os::write_file_atomically(main, mortal, 0600));
  TRY_ASSIGN(std::string const files, os::read_file(folder + "/files.img", kWrittenMax));
  TRY_ASSIGN(manifest.listeners, listeners_of_image(files));
  return {};
}

Status seal_image(std::string const& folder, ImageManifest& manifest) {
  std::error_code failed;
  for (auto const& entry : fs::directory_iterator(folder, failed)) {
    std::string const name = entry.path().filename().string();
    if (!name.ends_with(".img")) continue;
    TRY_ASSIGN(manifest.files[name], sum_of(entry.path().string()));
  }
  TRY(fault::pass(fault::Point::ImageSeal));
  return os::write_file_atomically(fmt::format("{}/{}", folder, kManifest),
                                   write_manifest(manifest), 0600);
}

Status check_files(std::string const& folder, ImageManifest const& manifest) {
  for (auto const& [name, file] : manifest.files) {
    auto const found = sum_of(fmt::format("{}/{}", folder, name));
    if (!found || !(*found == file))
      return fail(ErrorCode::ChecksumMismatch, fmt::format("its file {} is not whole", name));
  }
  return {};
}

Result<Image> look_at_image(std::string const& folder, ImageKey const& key) {
  struct stat there{};
  if (::lstat(folder.c_str(), &there) != 0 || !S_ISDIR(there.st_mode))
    return fail(ErrorCode::NotFound, "there is no image of it");
  auto const text = os::read_file(fmt::format("{}/{}", folder, kManifest), kManifestMax);
  if (!text) return fail(ErrorCode::ChecksumMismatch, "it has no manifest");
  TRY_ASSIGN(ImageManifest manifest, read_manifest(*text));
  if (manifest.key != key) return fail(ErrorCode::ChecksumMismatch, "it is of something else");
  TRY(check_files(folder, manifest));
  return Image{.folder = folder, .manifest = std::move(manifest)};
}

std::vector<std::string> dump_words(pid_t pid, std::string const& folder, Ends const& ends,
                                    std::string const& log) {
  std::vector<std::string> words{"dump", "-t", fmt::format("{}", pid), "-D",   folder,
                                 "-o",   log,  "--network-lock",       "skip", "--leave-stopped"};
  if (ends.ready != 0)
    words.insert(words.end(), {"--external", fmt::format("unix[{}]", ends.ready)});
  return words;
}

}  // namespace

Result<Image> ImageShelf::find(ImageKey const& key) const {
  std::string const place = fmt::format("{}/{}", folder_, key_name(key));
  auto found = look_at_image(place, key);
  if (!found && found.error().code() == ErrorCode::ChecksumMismatch) {
    std::error_code failed;
    fs::remove_all(place, failed);
    return fail(ErrorCode::ChecksumMismatch,
                fmt::format("the image in {} was removed: {}", place, found.error().message()));
  }
  return found;
}

Result<Image> ImageShelf::write(Criu const& criu, Original const& original, ImageKey const& key,
                                Spawner const& spawner, Duration patience) const {
  pid_t const pid = original.pid;
  TRY(check_room(pid, folder_));
  TRY_ASSIGN(os::TempDir half, os::TempDir::create(kHalf, folder_));
  TRY_ASSIGN(auto const areas, read_mappings(pid));
  TRY_ASSIGN(Ends const ends, ends_of(pid, original.ready));
  std::string const status_path = fmt::format("/proc/{}/status", pid);
  TRY_ASSIGN(std::string const status, os::read_file(status_path, kRightsMax));
  TRY(fault::pass(fault::Point::ImageDump));
  std::string const log = half.file("dump.log");
  TRY(run_criu(criu, dump_words(pid, half.path(), ends, log), log, spawner, patience));
  ImageManifest manifest{.key = key,
                         .threads = {},
                         .number_addresses = {},
                         .listeners = {},
                         .port = original.port,
                         .stdout_name = ends.stdout_name,
                         .stderr_name = ends.stderr_name,
                         .ready_name = ends.ready_name,
                         .rights = rights_of(status),
                         .notes = original.notes,
                         .files = {}};
  TRY(read_numbers(half.path(), manifest));
  TRY(wipe_pages(half.path(), manifest.threads.front(), areas));
  TRY(seal_image(half.path(), manifest));
  std::string const place = fmt::format("{}/{}", folder_, key_name(key));
  std::error_code failed;
  fs::remove_all(place, failed);
  if (::rename(half.path().c_str(), place.c_str()) != 0) return fail(system_error("rename", place));
  (void)std::move(half).release();
  return Image{.folder = place, .manifest = std::move(manifest)};
}

void ImageShelf::keep_only(std::vector<ImageKey> const& keys) const {
  std::error_code failed;
  std::vector<fs::path> old;
  for (auto const& entry : fs::directory_iterator(folder_, failed)) {
    std::string const name = entry.path().filename().string();
    bool const kept =
        std::ranges::any_of(keys, [&](ImageKey const& key) { return key_name(key) == name; });
    if (!kept) old.push_back(entry.path());
  }
  for (fs::path const& path : old) fs::remove_all(path, failed);
}

}  // namespace aether::clone
