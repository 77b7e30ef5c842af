// SPDX-License-Identifier: Apache-2.0
#include "supervise/fd_store.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "async/wait_fd.h"
#include "base/log.h"

namespace aether::supervise {
namespace {

/// Hang-ups taken in one turn of the loop.
constexpr int kHangUpsPerTurn = 64;

/// Whether both are the same open file. Some sandboxes forbid kcmp: a socket's inode is its own,
/// but two openings of one file share theirs, and are then taken for different.
bool same_file(int one, int other, mode_t kind) {
  long const self = ::getpid();
  long const order = ::syscall(SYS_kcmp, self, self, KCMP_FILE, one, other);
  return order >= 0 ? order == 0 : S_ISSOCK(kind);
}

}  // namespace

void close_received(os::UniqueFd fd) {
  linger lingers{};
  socklen_t size = sizeof(lingers);
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &lingers, &size) != 0) return;  // No socket.
  if (lingers.l_onoff == 0 || lingers.l_linger == 0) return;
  lingers.l_onoff = 0;
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &lingers, sizeof(lingers));
}

FdStore::FdStore(async::TaskGroup& tasks, std::string service, std::size_t max)
    : tasks_(tasks), service_(std::move(service)), max_(max) {}

FdStore::~FdStore() {
  clear();
}

FdStore::Kept FdStore::keep(os::UniqueFd fd, std::string name, Watched watched) {
  struct stat file{};
  bool const has_file = ::fstat(fd.get(), &file) == 0;
  if (has_file && is_known(fd.get(), file.st_dev, file.st_ino)) {
    close_received(std::move(fd));
    return Kept::Known;
  }
  if (entries_.size() >= max_) {
    if (counts_.refused++ == 0)
      log::warn(
          "{}: its descriptor \"{}\" was not stored, but closed: the store holds {}, and more are "
          "not taken (service.fd_store). Further ones are only counted",
          service_, name, max_);
    close_received(std::move(fd));
    return Kept::Full;
  }
  bool const is_watched = watched == Watched::Yes && watch(fd.get());
  entries_.push_back({.fd = std::move(fd),
                      .name = std::move(name),
                      .device = file.st_dev,
                      .inode = file.st_ino,
                      .watched = is_watched});
  return Kept::Yes;
}

bool FdStore::is_known(int fd, dev_t device, ino_t inode) const {
  struct stat file{};
  if (::fstat(fd, &file) != 0) return false;
  return std::ranges::any_of(entries_, [&](Entry const& entry) {
    return entry.device == device && entry.inode == inode &&
           same_file(entry.fd.get(), fd, file.st_mode);
  });
}

bool FdStore::watch(int fd) {
  if (!epoll_) {
    epoll_ = os::UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll_ || !tasks_.spawn("stored descriptors", watch_hang_ups())) return false;
  }
  // No events asked for: EPOLLHUP and EPOLLERR are always told.
  epoll_event event{.events = 0, .data = {.fd = fd}};
  return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void FdStore::drop(std::list<Entry>::iterator entry) {
  // Before it is closed: others may hold the same file, and it would be watched on.
  if (entry->watched) (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, entry->fd.get(), nullptr);
  close_received(std::move(entry->fd));
  entries_.erase(entry);
}

std::size_t FdStore::remove(std::string_view name) {
  std::size_t removed = 0;
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    auto const next = std::next(entry);
    if (entry->name == name) {
      drop(entry);
      ++removed;
    }
    entry = next;
  }
  return removed;
}

void FdStore::clear() {
  while (!entries_.empty()) drop(entries_.begin());
}

std::vector<FdStore::Stored> FdStore::stored() const {
  std::vector<Stored> all;
  for (Entry const& entry : entries_) all.push_back({.name = entry.name, .fd = entry.fd.get()});
  return all;
}

void FdStore::drop_hung_up() {
  std::array<epoll_event, kHangUpsPerTurn> events{};
  int const count = ::epoll_wait(epoll_.get(), events.data(), kHangUpsPerTurn, 0);
  for (int i = 0; i < count; ++i) {
    int const fd = events[static_cast<std::size_t>(i)].data.fd;
    auto const entry =
        std::ranges::find_if(entries_, [fd](Entry const& e) { return e.fd.get() == fd; });
    if (entry == entries_.end()) continue;
    ++counts_.hung_up;
    log::debug("{}: the stored descriptor \"{}\" was hung up", service_, entry->name);
    drop(entry);
  }
}

async::Task<void> FdStore::watch_hang_ups() {
  while (true) {
    int const fd = epoll_.get();
    co_await async::readable(fd);
    drop_hung_up();
  }
}

}  // namespace aether::supervise
