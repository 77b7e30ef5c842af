// SPDX-License-Identifier: Apache-2.0
#include "clone/rebuild.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include <fmt/format.h>

namespace aether::clone {
namespace {

constexpr auto kThisFolder = static_cast<std::uint64_t>(AT_FDCWD);

/// Of those that open() takes for a file that is there already.
constexpr std::uint32_t kReopenFlags =
    O_ACCMODE | O_APPEND | O_NONBLOCK | O_DSYNC | O_SYNC | O_DIRECT | O_NOATIME;

std::uint64_t arg(int value) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
}

std::uint64_t nonblock_of(Descriptor const& it) {
  return it.flags & O_NONBLOCK;
}

sockaddr_un address_of(std::string const& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (path.starts_with('@')) address.sun_path[0] = '\0';
  return address;
}

std::uint64_t size_of(std::string const& path) {
  auto const ends = path.starts_with('@') ? 0 : 1;
  return offsetof(sockaddr_un, sun_path) + path.size() + static_cast<std::size_t>(ends);
}

}  // namespace

Rebuild::Rebuild(std::vector<Descriptor> const& table, RebuildWishes const& wishes)
    : table_(table), wishes_(wishes) {}

bool Rebuild::is_replaced(Descriptor const& descriptor) const {
  return std::ranges::find(wishes_.replacements, descriptor.number, &Replacement::number) !=
         wishes_.replacements.end();
}

void Rebuild::add_creation(CallList& list) {
  create_replacements(list);
  create_pipes(list);
  create_pairs(list);
  create_connections(list);
  create_single(list);
  create_files(list);
}

void Rebuild::create_replacements(CallList& list) {
  for (auto const& wish : wishes_.replacements) {
    auto const place = std::ranges::find(table_, wish.number, &Descriptor::number);
    if (place == table_.end()) continue;
    auto const path = list.place_text(wish.path);
    auto const call = list.call(fmt::format("open {}", wish.path), SYS_openat,
                                {kThisFolder, path, arg(wish.flags | O_CLOEXEC), 0});
    made_.push_back({.places = {&*place}, .call = call});
  }
}

void Rebuild::create_pipes(CallList& list) {
  std::set<std::uint64_t> seen;
  for (auto const& it : table_) {
    auto const* const pipe = std::get_if<PipeEnd>(&it.kind);
    if (pipe == nullptr || !seen.insert(pipe->inode).second) continue;
    std::array<Made, 2> ends{Made{.side = 0}, Made{.side = 1}};
    for (auto const& other : table_) {
      auto const* const end = std::get_if<PipeEnd>(&other.kind);
      if (end == nullptr || end->inode != pipe->inode || is_replaced(other)) continue;
      ends[end->writes ? 1 : 0].places.push_back(&other);
    }
    // The other end is another program's: such as the reader of the output.
    if (ends[0].places.empty() || ends[1].places.empty()) continue;
    auto const numbers = list.place_value(std::array<int, 2>{});
    auto const call = list.call("pipe2", SYS_pipe2, {numbers, O_CLOEXEC});
    for (auto& end : ends) {
      end.call = call;
      end.pair = numbers;
      made_.push_back(end);
    }
  }
}

void Rebuild::create_pairs(CallList& list) {
  std::set<std::uint64_t> seen;
  for (auto const& it : table_) {
    auto const* const side = std::get_if<UnixConnection>(&it.kind);
    if (side == nullptr || side->peer == 0 || seen.contains(side->inode)) continue;
    std::array<Made, 2> sides{Made{.side = 0}, Made{.side = 1}};
    for (auto const& other : table_) {
      auto const* const end = std::get_if<UnixConnection>(&other.kind);
      if (end == nullptr || is_replaced(other)) continue;
      if (end->inode == side->inode) sides[0].places.push_back(&other);
      if (end->inode == side->peer) sides[1].places.push_back(&other);
    }
    if (sides[0].places.empty() || sides[1].places.empty()) continue;
    seen.insert({side->inode, side->peer});
    auto const numbers = list.place_value(std::array<int, 2>{});
    auto const call = list.call("socketpair", SYS_socketpair,
                                {AF_UNIX, arg(side->type | SOCK_CLOEXEC), 0, numbers});
    for (auto& made : sides) {
      made.call = call;
      made.pair = numbers;
      made_.push_back(made);
    }
  }
}

void Rebuild::create_connections(CallList& list) {
  for (auto const& it : table_) {
    auto const* const connection = std::get_if<UnixConnection>(&it.kind);
    if (connection == nullptr || is_replaced(it)) continue;
    auto const& wished = wishes_.reconnections;
    if (std::ranges::find(wished, connection->peer_path, &Reconnection::path) == wished.end()) {
      continue;
    }
    // Connected where it is placed: until then the number of the new socket is not known.
    auto const call =
        list.call("socket", SYS_socket, {AF_UNIX, arg(connection->type | SOCK_CLOEXEC), 0});
    made_.push_back({.places = {&it}, .call = call});
  }
}

void Rebuild::create_single(CallList& list) {
  std::set<std::uint64_t> counters;
  for (auto const& it : table_) {
    if (is_replaced(it)) continue;
    if (std::holds_alternative<EpollInstance>(it.kind)) {
      auto const call = list.call("epoll_create1", SYS_epoll_create1, {EPOLL_CLOEXEC});
      made_.push_back({.places = {&it}, .call = call});
    } else if (auto const* const timer = std::get_if<TimerDescriptor>(&it.kind)) {
      auto const call = list.call("timerfd_create", SYS_timerfd_create,
                                  {arg(timer->clock), TFD_CLOEXEC | nonblock_of(it)});
      made_.push_back({.places = {&it}, .call = call});
    } else if (auto const* const signals = std::get_if<SignalDescriptor>(&it.kind)) {
      auto const mask = list.place_value(signals->mask);
      auto const call = list.call("signalfd4", SYS_signalfd4,
                                  {arg(-1), mask, sizeof mask, O_CLOEXEC | nonblock_of(it)});
      made_.push_back({.places = {&it}, .call = call});
    } else if (auto const* const event = std::get_if<EventCounter>(&it.kind)) {
      if (!counters.insert(event->id).second) continue;
      auto const semaphore = event->semaphore ? std::uint64_t{EFD_SEMAPHORE} : 0;
      auto const call = list.call("eventfd2", SYS_eventfd2,
                                  {event->count, EFD_CLOEXEC | semaphore | nonblock_of(it)});
      Made made{.call = call};
      for (auto const& other : table_) {
        auto const* const same = std::get_if<EventCounter>(&other.kind);
        if (same != nullptr && same->id == event->id && !is_replaced(other))
          made.places.push_back(&other);
      }
      made_.push_back(std::move(made));
    }
  }
}

void Rebuild::create_files(CallList& list) {
  for (auto const& it : table_) {
    if (!std::holds_alternative<RegularFile>(it.kind) || is_replaced(it)) continue;
    // By number, so that a file without a name (any more) is found as well.
    auto const path = list.place_text(fmt::format("/proc/self/fd/{}", it.number));
    auto const call = list.call(fmt::format("open {} anew", it.link), SYS_openat,
                                {kThisFolder, path, (it.flags & kReopenFlags) | O_CLOEXEC, 0});
    made_.push_back({.places = {&it}, .call = call});
  }
}

int Rebuild::number_of(CallList const& created, Made const& made) const {
  if (made.pair == 0) return static_cast<int>(created.result(made.call));
  return created.value_at<std::array<int, 2>>(made.pair)[static_cast<std::size_t>(made.side)];
}

void Rebuild::add_placement(CallList const& created, CallList& list) {
  for (auto const& made : made_) {
    auto const number = number_of(created, made);
    for (auto const* const place : made.places) {
      auto const cloexec = place->close_on_exec() ? std::uint64_t{O_CLOEXEC} : 0;
      list.call(fmt::format("dup3 to {}", place->number), SYS_dup3,
                {arg(number), arg(place->number), cloexec});
    }
    list.call("close", SYS_close, {arg(number)});
  }
  // What watches others comes when these are in their places.
  for (auto const& made : made_) fill(made, list);
}

void Rebuild::fill(Made const& made, CallList& list) const {
  auto const& place = *made.places.front();
  auto const fd = arg(place.number);
  if (is_replaced(place)) return;
  if (auto const* const file = std::get_if<RegularFile>(&place.kind)) {
    list.call("lseek", SYS_lseek, {fd, file->position, SEEK_SET});
  } else if (auto const* const epoll = std::get_if<EpollInstance>(&place.kind)) {
    for (auto const& target : epoll->targets) {
      epoll_event event{.events = target.events, .data = {.u64 = target.data}};
      list.call(fmt::format("epoll_ctl of descriptor {}", target.descriptor), SYS_epoll_ctl,
                {fd, EPOLL_CTL_ADD, arg(target.descriptor), list.place_value(event)});
    }
  } else if (auto const* const timer = std::get_if<TimerDescriptor>(&place.kind)) {
    itimerspec const when{.it_interval = {timer->interval_s, timer->interval_ns},
                          .it_value = {timer->value_s, timer->value_ns}};
    list.call("timerfd_settime", SYS_timerfd_settime, {fd, 0, list.place_value(when), 0});
  } else if (auto const* const connection = std::get_if<UnixConnection>(&place.kind)) {
    if (made.pair == 0) {
      auto const address = list.place_value(address_of(connection->peer_path));
      list.call(fmt::format("connect to {}", connection->peer_path), SYS_connect,
                {fd, address, size_of(connection->peer_path)});
    }
    if (nonblock_of(place) != 0) {
      list.call("fcntl(F_SETFL)", SYS_fcntl, {fd, F_SETFL, O_NONBLOCK | O_RDWR});
    }
  } else if (std::holds_alternative<PipeEnd>(place.kind)) {
    fill_pipe(made, list);
  }
}

void Rebuild::fill_pipe(Made const& made, CallList& list) const {
  auto const& place = *made.places.front();
  auto const& end = std::get<PipeEnd>(place.kind);
  if (end.writes) {
    for (auto const& it : table_) {
      auto const* const other = std::get_if<PipeEnd>(&it.kind);
      if (other == nullptr || other->inode != end.inode || other->unread.empty()) continue;
      auto const bytes = list.place(std::as_bytes(std::span(other->unread)));
      list.call("write into a pipe", SYS_write, {arg(place.number), bytes, other->unread.size()});
      break;
    }
  }
  if (nonblock_of(place) != 0) {
    list.call("fcntl(F_SETFL)", SYS_fcntl, {arg(place.number), F_SETFL, O_NONBLOCK});
  }
}

}  // namespace aether::clone
