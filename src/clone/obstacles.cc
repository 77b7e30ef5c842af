// SPDX-License-Identifier: Apache-2.0
#include "clone/obstacles.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace aether::clone {
namespace {

using Reasons = std::vector<std::string>;

/// Whether both ends are in this process, so that a copy can have a pair of its own.
bool has_both_ends(std::vector<Descriptor> const& table, std::uint64_t inode) {
  bool reads = false;
  bool writes = false;
  for (auto const& descriptor : table) {
    auto const* const pipe = std::get_if<PipeEnd>(&descriptor.kind);
    if (pipe == nullptr || pipe->inode != inode) continue;
    (pipe->writes ? writes : reads) = true;
  }
  return reads && writes;
}

void look_at(Descriptor const& it, Uncopyable const& kind, Sight const&, Reasons& reasons) {
  reasons.push_back(fmt::format("descriptor {} is {}", it.number, kind.reason));
}

void look_at(Descriptor const& it, PipeEnd const& pipe, Sight const& sight, Reasons& reasons) {
  if (pipe.unread.size() <= kUnreadBytesMax || !has_both_ends(sight.descriptors, pipe.inode))
    return;
  reasons.push_back(fmt::format("descriptor {} is a pipe with more than {} unread bytes", it.number,
                                kUnreadBytesMax));
}

void look_at(Descriptor const& it, EpollInstance const& epoll, Sight const& sight,
             Reasons& reasons) {
  for (auto const& target : epoll.targets) {
    auto const& table = sight.descriptors;
    if (std::ranges::find(table, target.descriptor, &Descriptor::number) != table.end()) continue;
    reasons.push_back(
        fmt::format("descriptor {} is an epoll that watches descriptor {}, which was "
                    "closed while a duplicate of it is open",
                    it.number, target.descriptor));
  }
}

void look_at(Descriptor const& it, UnixConnection const& connection, Sight const& sight,
             Reasons& reasons) {
  auto const& anew = sight.reconnects;
  auto const& path = connection.peer_path;
  if (!path.empty() && std::ranges::find(anew, path) != anew.end()) return;
  auto const within = std::ranges::any_of(sight.descriptors, [&](Descriptor const& other) {
    auto const* const side = std::get_if<UnixConnection>(&other.kind);
    return side != nullptr && connection.peer != 0 && side->inode == connection.peer;
  });
  if (!within) {
    reasons.push_back(
        fmt::format("descriptor {} is a connection to {}", it.number,
                    connection.peer_path.empty() ? "another process" : connection.peer_path));
  } else if (connection.waiting != 0) {
    reasons.push_back(fmt::format("descriptor {} is a socket pair with {} unread bytes", it.number,
                                  connection.waiting));
  }
}

template <class Kind>
void look_at(Descriptor const&, Kind const&, Sight const&, Reasons&) {}

bool overlap(Mapping const& one, Mapping const& other) {
  return one.offset < other.offset + other.size() && other.offset < one.offset + one.size();
}

/// The same memory at two addresses, as just-in-time compilers and ring buffers have it: a private
/// copy of each would tear them apart.
void look_for_double_mappings(std::vector<Mapping> const& mappings, Reasons& reasons) {
  for (auto one = mappings.begin(); one != mappings.end(); ++one) {
    if (!one->shared || one->file.empty()) continue;
    auto const twice = std::find_if(one + 1, mappings.end(), [&](Mapping const& other) {
      return other.shared && other.file == one->file && overlap(*one, other) &&
             (one->writable || other.writable);
    });
    if (twice == mappings.end()) continue;
    reasons.push_back(fmt::format("it has the same shared memory ({}) at two addresses",
                                  one->name.empty() ? one->file : one->name));
    return;
  }
}

void look_at_memory(std::vector<Mapping> const& mappings, Reasons& reasons) {
  look_for_double_mappings(mappings, reasons);
  auto const is_aio = [](Mapping const& area) { return area.name.starts_with("/[aio]"); };
  if (std::ranges::any_of(mappings, is_aio)) reasons.emplace_back("it uses io_setup()");
  std::uint64_t shared = 0;
  for (auto const& area : mappings) {
    if (needs_private_copy(area)) shared += area.size();
  }
  if (shared <= kSharedBytesMax) return;
  reasons.push_back(
      fmt::format("it shares {} MiB of memory with others, more than the {} MiB that "
                  "a copy gets for itself",
                  shared >> 20, kSharedBytesMax >> 20));
}

}  // namespace

bool needs_private_copy(Mapping const& mapping) {
  return mapping.shared && mapping.writable;
}

std::vector<std::string> obstacles(Sight const& sight) {
  Reasons reasons;
  for (auto const& descriptor : sight.descriptors) {
    std::visit([&](auto const& kind) { look_at(descriptor, kind, sight, reasons); },
               descriptor.kind);
  }
  look_at_memory(sight.mappings, reasons);
  if (!sight.children.empty()) {
    reasons.push_back(fmt::format("it has child processes ({})", fmt::join(sight.children, ", ")));
  }
  if (sight.has_posix_timers) reasons.emplace_back("it has timers of timer_create()");
  if (sight.has_interval_timer) reasons.emplace_back("it has a running timer of setitimer()");
  if (sight.has_shadow_stack) reasons.emplace_back("it runs with a shadow stack");
  return reasons;
}

}  // namespace aether::clone
