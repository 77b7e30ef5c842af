// SPDX-License-Identifier: Apache-2.0
#include "clone/unix_peers.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "os/unique_fd.h"

namespace aether::clone {
namespace {

/// One answer at most: the kernel fills up to 32 KiB.
constexpr std::size_t kAnswerBytes = std::size_t{32} * 1024;

struct Request {
  nlmsghdr header;
  unix_diag_req body;
};

Status ask(int netlink) {
  Request request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.sdiag_family = AF_UNIX;
  request.body.udiag_states = ~0U;
  request.body.udiag_show = UDIAG_SHOW_PEER;
  if (send(netlink, &request, sizeof request, 0) >= 0) return {};
  return fail(system_error("send", "sock_diag request for unix sockets"));
}

std::uint64_t peer_in(nlmsghdr const* header) {
  auto const* body = static_cast<unix_diag_msg const*>(NLMSG_DATA(header));
  auto left = static_cast<int>(NLMSG_PAYLOAD(header, sizeof *body));
  auto const* attribute = reinterpret_cast<rtattr const*>(body + 1);
  for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
    if (attribute->rta_type != UNIX_DIAG_PEER) continue;
    std::uint32_t inode = 0;
    std::memcpy(&inode, RTA_DATA(attribute), sizeof inode);
    return inode;
  }
  return 0;
}

}  // namespace

Result<UnixPeers> UnixPeers::read() {
  os::UniqueFd const netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!netlink) return fail(ErrorCode::Unsupported, "sock_diag is not available", errno);
  TRY(ask(netlink.get()));
  UnixPeers found;
  alignas(nlmsghdr) std::array<char, kAnswerBytes> answer;
  while (true) {
    auto const got = recv(netlink.get(), answer.data(), answer.size(), 0);
    if (got < 0) return fail(system_error("recv", "sock_diag answer"));
    auto left = static_cast<unsigned>(got);
    auto const* header = reinterpret_cast<nlmsghdr const*>(answer.data());
    for (; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE) return found;
      if (header->nlmsg_type == NLMSG_ERROR) {
        return fail(ErrorCode::Unsupported, "this kernel does not list unix sockets by sock_diag");
      }
      auto const* body = static_cast<unix_diag_msg const*>(NLMSG_DATA(header));
      if (auto const peer = peer_in(header); peer != 0) found.peers_[body->udiag_ino] = peer;
    }
  }
}

std::uint64_t UnixPeers::peer_of(std::uint64_t inode) const {
  auto const found = peers_.find(inode);
  return found == peers_.end() ? 0 : found->second;
}

}  // namespace aether::clone
