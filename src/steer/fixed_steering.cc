// SPDX-License-Identifier: Apache-2.0
#include "steer/fixed_steering.h"

#include <sys/socket.h>

#include <fmt/format.h>

#include "steer/sock_diag.h"
#include "steer/socket_address.h"

namespace aether::steer {

std::unique_ptr<AbstractSteering> AbstractSteering::make(ListenSpec const& spec) {
  return std::unique_ptr<AbstractSteering>(new AbstractSteering(spec));
}

Result<Lane> AbstractSteering::open_lane() {
  auto const who = fmt::format("listener \"{}\" on {}", spec_.name, spec_.address.text());
  TRY_ASSIGN(auto const address, to_socket_address(spec_.address));
  int const type = socket_type(spec_.address.transport) | SOCK_CLOEXEC;
  os::UniqueFd fd(socket(AF_UNIX, type, 0));
  if (!fd)
    return fail(ErrorCode::ListenFailed,
                fmt::format("{}: {}", who, system_error("no socket could be made").message()),
                errno);
  bool const bound = ::bind(fd.get(), address.get(), address.length) == 0;
  if (!bound && errno == EADDRINUSE)
    return fail(ErrorCode::AddressInUse,
                fmt::format("{}: the name is held by {}; stop it, or choose another name", who,
                            describe_holder(spec_.address)),
                EADDRINUSE);
  if (!bound)
    return fail(ErrorCode::ListenFailed,
                fmt::format("{}: {}", who, system_error("it could not be bound").message()), errno);
  if (spec_.address.has_connections() && ::listen(fd.get(), spec_.backlog) != 0)
    return fail(ErrorCode::ListenFailed, who + ": listen failed", errno);
  TRY_ASSIGN(auto const inode, inode_of(fd.get()));
  return Lane{.fd = std::move(fd), .inode = inode};
}

Status AbstractSteering::end_lane(Lane& lane, Lane const* /*steered*/) {
  close(std::span(&lane, 1));
  return {};
}

void AbstractSteering::close(std::span<Lane> lanes) {
  for (auto& lane : lanes) {
    ::shutdown(lane.fd.get(), SHUT_RDWR);
    lane.fd.reset();
  }
}

Result<Lane> AdoptedSteering::open_lane() {
  return fail(
      ErrorCode::ListenFailed,
      fmt::format("the socket on {} was given to Aether from outside and no longer listens; "
                  "restart Aether to get a new one",
                  address_.text()));
}

void AdoptedSteering::close(std::span<Lane> lanes) {
  for (auto& lane : lanes) lane.fd.reset();
}

}  // namespace aether::steer
