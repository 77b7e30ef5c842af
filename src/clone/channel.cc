// SPDX-License-Identifier: Apache-2.0
#include "clone/channel.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

#include "base/fault.h"

namespace aether::clone {
namespace {

/// As the kernel writes it, on 64 bits: a cmsghdr without its open end, then the numbers.
struct Receipt {
  struct {
    std::size_t cmsg_len = 0;
    int cmsg_level = 0;
    int cmsg_type = 0;
  } head;
  std::array<int, kHandedMax> numbers{};
};
static_assert(offsetof(Receipt, numbers) == CMSG_LEN(0));

}  // namespace

Result<Channel> Channel::open(FrozenProcess& program, int number) {
  auto list = program.arena().process_list();
  auto const numbers = list.place_value(std::array<int, 2>{});
  list.call("socketpair", SYS_socketpair, {AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, numbers});
  TRY(program.perform(list));
  auto const ends = list.value_at<std::array<int, 2>>(numbers);
  os::UniqueFd ours(static_cast<int>(syscall(SYS_pidfd_getfd, program.pidfd(), ends[1], 0)));
  auto const reason = errno;
  auto closing = program.arena().process_list();
  closing.call("close", SYS_close, {arg(ends[1])});
  if (!ours || ends[0] != number) closing.call("close", SYS_close, {arg(ends[0])});
  TRY(program.perform(closing));
  if (!ours) return fail(system_error_from(reason, "pidfd_getfd", "the end of a channel"));
  if (ends[0] == number) return Channel(std::move(ours), number);
  return fail(ErrorCode::Internal, fmt::format("a channel to process {} got number {} and not {}",
                                               program.pid(), ends[0], number));
}

Status Channel::hand(std::span<int const> descriptors) const {
  TRY(fault::pass(fault::Point::CloneHand));
  Receipt message;
  message.head = {.cmsg_len = CMSG_LEN(descriptors.size_bytes()),
                  .cmsg_level = SOL_SOCKET,
                  .cmsg_type = SCM_RIGHTS};
  std::ranges::copy(descriptors, message.numbers.begin());
  char byte = 0;
  iovec content{&byte, 1};
  msghdr const envelope{.msg_name = nullptr,
                        .msg_namelen = 0,
                        .msg_iov = &content,
                        .msg_iovlen = 1,
                        .msg_control = &message,
                        .msg_controllen = CMSG_SPACE(descriptors.size_bytes()),
                        .msg_flags = 0};
  if (sendmsg(ours_.get(), &envelope, MSG_NOSIGNAL | MSG_DONTWAIT) == 1) return {};
  return fail(system_error("sendmsg", "descriptors for a copy"));
}

Status Channel::close(FrozenProcess& program) const {
  auto list = program.arena().process_list();
  list.call("close", SYS_close, {arg(number_)});
  return program.perform(list);
}

CallList::Argument add_receipt(int channel, std::size_t count, CallList& list) {
  auto const receipt = list.place_value(Receipt{});
  auto const byte = list.place_value(std::uint64_t{0});
  iovec const content{reinterpret_cast<void*>(byte), 1};
  auto const contents = list.place_value(content);
  msghdr const envelope{.msg_name = nullptr,
                        .msg_namelen = 0,
                        .msg_iov = reinterpret_cast<iovec*>(contents),
                        .msg_iovlen = 1,
                        .msg_control = reinterpret_cast<void*>(receipt),
                        .msg_controllen = CMSG_SPACE(count * sizeof(int)),
                        .msg_flags = 0};
  list.call("recvmsg of what Aether hands over", SYS_recvmsg,
            {arg(channel), list.place_value(envelope), MSG_CMSG_CLOEXEC | MSG_DONTWAIT});
  return receipt;
}

std::vector<int> received(CallList const& performed, CallList::Argument receipt) {
  auto const message = performed.value_at<Receipt>(receipt);
  if (message.head.cmsg_len < CMSG_LEN(0)) return {};
  auto const count = std::min((message.head.cmsg_len - CMSG_LEN(0)) / sizeof(int), kHandedMax);
  return {message.numbers.begin(), message.numbers.begin() + static_cast<std::ptrdiff_t>(count)};
}

}  // namespace aether::clone
