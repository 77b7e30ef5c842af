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

#include "clone/channel.h"

namespace aether::clone {
namespace {

constexpr auto kThisFolder = static_cast<std::uint64_t>(AT_FDCWD);

/// Of a pipe or a socket, what F_SETFL may change.
constexpr std::uint32_t kSettable = O_NONBLOCK | O_DIRECT;

/// Two of the same kind of which one is shown once for all its duplicates.
constexpr std::string_view kOnce[] = {"pipe:[", "socket:["};

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

bool is_one_object(std::string const& link) {
  return std::ranges::any_of(kOnce, [&](auto prefix) { return link.starts_with(prefix); });
}

}  // namespace

Rebuild::Rebuild(std::vector<Descriptor> const& table, RebuildWishes const& wishes, int channel)
    : table_(table),
      wishes_(wishes),
      channel_(channel),
      free_(free_numbers(table, channel, kHandedMax)),
      lent_(all_lent()) {
  for (auto const& one : lent_) {
    if (messages_.empty() || messages_.back().size() == kHandedMax) messages_.emplace_back();
    messages_.back().push_back(one.what);
  }
}

bool Rebuild::needs_channel(std::vector<Descriptor> const& table, RebuildWishes const& wishes) {
  return !Rebuild(table, wishes, -1).lent().empty();
}

/// Its own, or that of another number of the same pipe or socket.
Replacement const* Rebuild::replacement_of(Descriptor const& descriptor) const {
  auto const& wishes = wishes_.replacements;
  auto const own = std::ranges::find(wishes, descriptor.number, &Replacement::number);
  if (own != wishes.end()) return &*own;
  if (!is_one_object(descriptor.link)) return nullptr;
  auto const same = std::ranges::find_if(wishes, [&](Replacement const& wish) {
    auto const it = std::ranges::find(table_, wish.number, &Descriptor::number);
    return it != table_.end() && it->link == descriptor.link;
  });
  return same == wishes.end() ? nullptr : &*same;
}

template <class Same>
Rebuild::Places Rebuild::all_with(Same same) const {
  Places places;
  for (auto const& it : table_) {
    if (same(it)) places.push_back(&it);
  }
  return places;
}

Rebuild::Places Rebuild::same_as(Descriptor const& first) const {
  return all_with([&](Descriptor const& it) {
    return (&it == &first || it.same_as == first.number) && replacement_of(it) == nullptr;
  });
}

std::vector<Rebuild::Lent> Rebuild::all_lent() const {
  std::vector<Lent> all;
  for (auto const& wish : wishes_.replacements) {
    if (wish.source < 0) continue;
    auto places = all_with([&](Descriptor const& it) { return replacement_of(it) == &wish; });
    if (!places.empty()) all.push_back({.what = wish.source, .places = std::move(places)});
  }
  for (auto const& it : table_) {
    if (!std::holds_alternative<RegularFile>(it.kind) || it.same_as >= 0) continue;
    auto places = same_as(it);
    if (!places.empty()) all.push_back({.what = file_of(it.number), .places = std::move(places)});
  }
  return all;
}

void Rebuild::add_calls(CallList& list) {
  take_lent(list);
  open_replacements(list);
  make_pipes(list);
  make_pairs(list);
  make_connections(list);
  make_listeners(list);
  make_others(list);
  if (channel_ >= 0) list.call("close", SYS_close, {arg(channel_)});
  // What watches others comes when these are in their places.
  for (auto const& it : table_) {
    if (replacement_of(it) == nullptr && it.same_as < 0) fill(it, list);
  }
  fill_pipes(list);
}

void Rebuild::place(int number, Places const& places, CallList& list) const {
  for (auto const* const it : places) {
    auto const cloexec = it->close_on_exec() ? std::uint64_t{O_CLOEXEC} : 0;
    list.call(fmt::format("dup3 to {}", it->number), SYS_dup3,
              {arg(number), arg(it->number), cloexec});
  }
  list.call("close", SYS_close, {arg(number)});
}

void Rebuild::made_single(std::size_t call, std::string what, Places const& places,
                          CallList& list) {
  singles_.push_back({.call = call, .what = std::move(what)});
  place(free_[0], places, list);
}

void Rebuild::take_lent(CallList& list) {
  auto next = lent_.begin();
  for (auto const& message : messages_) {
    receipts_.emplace_back(add_receipt(channel_, message.size(), list), message.size());
    for (std::size_t at = 0; at < message.size(); ++at) place(free_[at], (next++)->places, list);
  }
}

void Rebuild::open_replacements(CallList& list) {
  for (auto const& wish : wishes_.replacements) {
    if (wish.source >= 0) continue;
    auto const places = all_with([&](Descriptor const& it) { return replacement_of(it) == &wish; });
    if (places.empty()) continue;
    auto const what = fmt::format("open {}", wish.path);
    auto const path = list.place_text(wish.path);
    auto const call =
        list.call(what, SYS_openat, {kThisFolder, path, arg(wish.flags | O_CLOEXEC), 0});
    made_single(call, what, places, list);
  }
}

void Rebuild::make_pipes(CallList& list) {
  std::set<std::uint64_t> seen;
  for (auto const& it : table_) {
    auto const* const pipe = std::get_if<PipeEnd>(&it.kind);
    if (pipe == nullptr || !seen.insert(pipe->inode).second) continue;
    auto const end = [&](bool writes) {
      return all_with([&](Descriptor const& other) {
        auto const* const same = std::get_if<PipeEnd>(&other.kind);
        return same != nullptr && same->inode == pipe->inode && same->writes == writes &&
               replacement_of(other) == nullptr;
      });
    };
    auto const readers = end(false);
    auto const writers = end(true);
    // The other end is another program's: such as the reader of the output.
    if (readers.empty() || writers.empty()) continue;
    pairs_.push_back(list.place_value(std::array<int, 2>{}));
    list.call("pipe2", SYS_pipe2, {pairs_.back(), O_CLOEXEC});
    place(free_[0], readers, list);
    place(free_[1], writers, list);
  }
}

void Rebuild::make_pairs(CallList& list) {
  std::set<std::uint64_t> seen;
  for (auto const& it : table_) {
    auto const* const side = std::get_if<UnixConnection>(&it.kind);
    if (side == nullptr || side->peer == 0 || seen.contains(side->inode)) continue;
    auto const with = [&](std::uint64_t inode) {
      return all_with([&](Descriptor const& other) {
        auto const* const end = std::get_if<UnixConnection>(&other.kind);
        return end != nullptr && end->inode == inode && replacement_of(other) == nullptr;
      });
    };
    auto const near = with(side->inode);
    auto const far = with(side->peer);
    if (near.empty() || far.empty()) continue;
    seen.insert({side->inode, side->peer});
    pairs_.push_back(list.place_value(std::array<int, 2>{}));
    list.call("socketpair", SYS_socketpair,
              {AF_UNIX, arg(side->type | SOCK_CLOEXEC), 0, pairs_.back()});
    place(free_[0], near, list);
    place(free_[1], far, list);
  }
}

void Rebuild::make_connections(CallList& list) {
  std::set<std::uint64_t> seen;
  for (auto const& it : table_) {
    auto const* const old = std::get_if<UnixConnection>(&it.kind);
    if (old == nullptr || replacement_of(it) != nullptr) continue;
    auto const& path = old->peer_path;
    auto const& wished = wishes_.reconnections;
    if (std::ranges::find(wished, path, &Reconnection::path) == wished.end()) continue;
    if (!seen.insert(old->inode).second) continue;
    auto const places = all_with([&](Descriptor const& other) {
      auto const* const same = std::get_if<UnixConnection>(&other.kind);
      return same != nullptr && same->inode == old->inode && replacement_of(other) == nullptr;
    });
    auto const call = list.call("socket", SYS_socket, {AF_UNIX, arg(old->type | SOCK_CLOEXEC), 0});
    auto const address = list.place_value(address_of(path));
    list.call(fmt::format("connect to {}", path), SYS_connect,
              {arg(free_[0]), address, size_of(path)});
    made_single(call, "socket", places, list);
  }
}

void Rebuild::make_listeners(CallList& list) {
  std::set<std::uint64_t> seen;
  for (auto const& it : table_) {
    auto const* const old = std::get_if<TcpListener>(&it.kind);
    if (old == nullptr || replacement_of(it) != nullptr || !seen.insert(old->inode).second)
      continue;
    CopiedListener copied{.descriptor = it.number,
                          .original_port = old->port,
                          .port = old->port,
                          .only_ipv6 = old->only_ipv6};
    if (wishes_.listeners == TcpListeners::Shared) {
      listeners_.emplace_back(0, copied);
      continue;
    }
    auto const call = list.size();
    listeners_.emplace_back(add_listener_calls(*old, free_[0], list), copied);
    auto const places = all_with([&](Descriptor const& other) {
      auto const* const same = std::get_if<TcpListener>(&other.kind);
      return same != nullptr && same->inode == old->inode && replacement_of(other) == nullptr;
    });
    made_single(call, "socket", places, list);
  }
}

void Rebuild::make_others(CallList& list) {
  std::set<std::uint64_t> counters;
  for (auto const& it : table_) {
    if (replacement_of(it) != nullptr || it.same_as >= 0) continue;
    if (std::holds_alternative<EpollInstance>(it.kind)) {
      auto const call = list.call("epoll_create1", SYS_epoll_create1, {EPOLL_CLOEXEC});
      made_single(call, "epoll_create1", same_as(it), list);
    } else if (auto const* const timer = std::get_if<TimerDescriptor>(&it.kind)) {
      auto const call = list.call("timerfd_create", SYS_timerfd_create,
                                  {arg(timer->clock), TFD_CLOEXEC | nonblock_of(it)});
      made_single(call, "timerfd_create", same_as(it), list);
    } else if (auto const* const signals = std::get_if<SignalDescriptor>(&it.kind)) {
      auto const mask = list.place_value(signals->mask);
      auto const call = list.call("signalfd4", SYS_signalfd4,
                                  {arg(-1), mask, sizeof mask, O_CLOEXEC | nonblock_of(it)});
      made_single(call, "signalfd4", same_as(it), list);
    } else if (auto const* const event = std::get_if<EventCounter>(&it.kind)) {
      if (counters.insert(event->id).second) make_counter(it, *event, list);
    }
  }
}

void Rebuild::make_counter(Descriptor const& it, EventCounter const& event, CallList& list) {
  auto const semaphore = event.semaphore ? std::uint64_t{EFD_SEMAPHORE} : 0;
  auto const call =
      list.call("eventfd2", SYS_eventfd2, {event.count, EFD_CLOEXEC | semaphore | nonblock_of(it)});
  auto const places = all_with([&](Descriptor const& other) {
    auto const* const same = std::get_if<EventCounter>(&other.kind);
    return same != nullptr && same->id == event.id && replacement_of(other) == nullptr;
  });
  made_single(call, "eventfd2", places, list);
}

void Rebuild::fill(Descriptor const& it, CallList& list) const {
  auto const fd = arg(it.number);
  if (auto const* const file = std::get_if<RegularFile>(&it.kind)) {
    if (file->position != 0) list.call("lseek", SYS_lseek, {fd, file->position, SEEK_SET});
  } else if (auto const* const epoll = std::get_if<EpollInstance>(&it.kind)) {
    for (auto const& target : epoll->targets) {
      epoll_event event{.events = target.events, .data = {.u64 = target.data}};
      list.call(fmt::format("epoll_ctl of descriptor {}", target.descriptor), SYS_epoll_ctl,
                {fd, EPOLL_CTL_ADD, arg(target.descriptor), list.place_value(event)});
    }
  } else if (auto const* const timer = std::get_if<TimerDescriptor>(&it.kind)) {
    itimerspec const when{.it_interval = {timer->interval_s, timer->interval_ns},
                          .it_value = {timer->value_s, timer->value_ns}};
    list.call("timerfd_settime", SYS_timerfd_settime, {fd, 0, list.place_value(when), 0});
  } else if (std::holds_alternative<TcpListener>(it.kind)) {
    auto const is_new = wishes_.listeners == TcpListeners::Own && nonblock_of(it) != 0;
    if (is_new) list.call("fcntl(F_SETFL)", SYS_fcntl, {fd, F_SETFL, O_NONBLOCK | O_RDWR});
  } else if (std::holds_alternative<UnixConnection>(it.kind) && nonblock_of(it) != 0) {
    list.call("fcntl(F_SETFL)", SYS_fcntl, {fd, F_SETFL, O_NONBLOCK | O_RDWR});
  }
}

void Rebuild::fill_pipes(CallList& list) const {
  std::set<std::uint64_t> filled;
  for (auto const& it : table_) {
    auto const* const end = std::get_if<PipeEnd>(&it.kind);
    if (end == nullptr || !end->writes || replacement_of(it) != nullptr) continue;
    auto const readers = all_with([&](Descriptor const& other) {
      auto const* const same = std::get_if<PipeEnd>(&other.kind);
      return same != nullptr && !same->writes && same->inode == end->inode &&
             replacement_of(other) == nullptr;
    });
    if (readers.empty() || !filled.insert(end->inode).second) continue;
    auto const& unread = std::get<PipeEnd>(readers.front()->kind).unread;
    if (!unread.empty()) {
      auto const bytes = list.place(std::as_bytes(std::span(unread)));
      list.call("write into a pipe", SYS_write, {arg(it.number), bytes, unread.size()});
    }
    for (auto const* const one : {&it, readers.front()}) {
      auto const flags = one->flags & kSettable;
      if (flags != 0) list.call("fcntl(F_SETFL)", SYS_fcntl, {arg(one->number), F_SETFL, flags});
    }
  }
}

Result<std::vector<CopiedListener>> Rebuild::check(CallList const& performed) const {
  auto const differ = [&](std::string_view what, int got, int expected) {
    return fail(ErrorCode::Internal,
                fmt::format("{} in a copy gave number {} and not {}", what, got, expected));
  };
  for (auto const& single : singles_) {
    auto const got = static_cast<int>(performed.result(single.call));
    if (got != free_[0]) return differ(single.what, got, free_[0]);
  }
  for (auto const pair : pairs_) {
    auto const got = performed.value_at<std::array<int, 2>>(pair);
    if (got[0] != free_[0]) return differ("a pair", got[0], free_[0]);
    if (got[1] != free_[1]) return differ("a pair", got[1], free_[1]);
  }
  for (auto const& [receipt, count] : receipts_) {
    auto const got = received(performed, receipt);
    if (!std::ranges::equal(got, std::span(free_).first(count))) {
      return fail(ErrorCode::LimitReached,
                  fmt::format("a copy got {} of {} descriptors: RLIMIT_NOFILE is too low for it",
                              got.size(), count));
    }
  }
  std::vector<CopiedListener> all;
  for (auto const& [address, listener] : listeners_) {
    all.push_back(listener);
    if (address != 0) all.back().port = made_port(performed, address);
  }
  return all;
}

}  // namespace aether::clone
