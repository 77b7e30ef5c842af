// SPDX-License-Identifier: Apache-2.0
#include "steer/bpf_steer.h"

#include <sys/socket.h>

#include <numeric>
#include <vector>

#include <fmt/format.h>

#include "base/fault.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace aether::steer {
namespace {

Result<std::uint64_t> number_option(int socket, int option, std::string_view name) {
  std::uint64_t value = 0;
  socklen_t length = sizeof(value);
  if (getsockopt(socket, SOL_SOCKET, option, &value, &length) != 0)
    return fail(system_error("getsockopt", name));
  return value;
}

}  // namespace

Result<std::uint64_t> network_of(int socket) {
  return number_option(socket, SO_NETNS_COOKIE, "SO_NETNS_COOKIE");
}

Result<std::uint64_t> cookie_of(int socket) {
  return number_option(socket, SO_COOKIE, "SO_COOKIE");
}

FreeNumbers::FreeNumbers(std::uint32_t count) : free_(count) {
  std::iota(free_.begin(), free_.end(), 0U);
}

std::optional<std::uint32_t> FreeNumbers::take() {
  if (free_.empty()) return {};
  std::uint32_t const number = free_.front();
  free_.pop_front();
  return number;
}

Result<std::uint32_t> LookupRouter::State::add_socket(int fd) {
  TRY(fault::pass(fault::Point::LookupSocket));
  auto const slot = slots.take();
  if (!slot)
    return fail(ErrorCode::LimitReached,
                fmt::format("all routes together have {} sockets, and no more", AETHER_SLOTS + 0));
  std::vector<std::uint64_t> const zeros(processors);
  Status added = bpf_write(programs.map("aether_given"), &*slot, zeros.data());
  if (added) added = put_socket(*slot, fd);
  if (added) return *slot;
  slots.give_back(*slot);
  return fail(std::move(added).error());
}

Status LookupRouter::State::put_socket(std::uint32_t slot, int fd) const {
  auto const value = static_cast<std::uint64_t>(fd);
  return bpf_write(programs.map("aether_sockets"), &slot, &value);
}

void LookupRouter::State::remove_socket(std::uint32_t slot) {
  (void)bpf_erase(programs.map("aether_sockets"), &slot);
  slots.give_back(slot);
}

bool LookupRouter::State::is_open(std::uint32_t slot) const {
  std::uint64_t cookie = 0;
  return bpf_read(programs.map("aether_sockets"), &slot, &cookie).value_or(false);
}

std::uint64_t LookupRouter::State::given(std::uint32_t slot) const {
  std::vector<std::uint64_t> counts(processors);
  if (!bpf_read(programs.map("aether_given"), &slot, counts.data()).value_or(false)) return 0;
  return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

}  // namespace aether::steer
