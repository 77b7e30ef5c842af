// SPDX-License-Identifier: Apache-2.0
#include "clone/image_patch.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <optional>

#include <fmt/format.h>

#include "clone/image_wire.h"

namespace aether::clone {
namespace {

using Kind = WireField::Kind;
using Fields = std::vector<WireField>;

// pstree.proto
constexpr std::uint32_t kPid = 1;
constexpr std::uint32_t kGroup = 3;
constexpr std::uint32_t kSession = 4;
constexpr std::uint32_t kThreads = 5;
// fdinfo.proto: file_entry.isk
constexpr std::uint32_t kInetSocket = 4;
// sk-inet.proto
constexpr std::uint32_t kFamily = 3;
constexpr std::uint32_t kType = 4;
constexpr std::uint32_t kState = 6;
constexpr std::uint32_t kSourcePort = 7;
constexpr std::uint32_t kSourceAddress = 11;
constexpr std::uint32_t kOnlyIpv6 = 15;
constexpr std::uint64_t kListening = 10;  // TCP_LISTEN
// core.proto, core-x86.proto
constexpr std::uint32_t kThreadInfo = 2;
constexpr std::uint32_t kThreadCore = 5;
constexpr std::uint32_t kNumberAddress = 1;
constexpr std::uint32_t kParentDeathSignal = 8;
// pagemap.proto
constexpr std::uint32_t kPagesNumber = 1;
constexpr std::uint32_t kAddress = 1;
constexpr std::uint32_t kPagesNarrow = 2;  // 0 in images of 4.2, which has the other
constexpr std::uint32_t kPages = 5;
constexpr std::uint32_t kInParent = 3;
constexpr std::uint32_t kPageFlags = 4;
constexpr std::uint64_t kPresent = 4;  // PE_PRESENT
constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint64_t kPagesMax = UINT64_C(1) << 40;

Failure torn(std::string_view name) {
  return fail(ErrorCode::ChecksumMismatch, fmt::format("{} of the image is not whole", name));
}

/// The only message of that file, as fields.
Result<Fields> only_message(std::string_view bytes, std::string_view name) {
  TRY_ASSIGN(ImageFile const file, read_image_file(bytes, name));
  if (file.messages.size() != 1) return torn(name);
  auto fields = read_message(file.messages.front());
  if (!fields) return torn(name);
  return std::move(*fields);
}

struct Socket {
  std::uint64_t family = 0;
  std::uint16_t port = 0;
  bool only_ipv6 = false;
  std::vector<std::uint32_t> address;  ///< Words in the order of the network.
};

/// None: it does not listen, is not of TCP, or says no port that could be one.
std::optional<Socket> listening(Fields const& fields) {
  if (find_number(fields, kState) != kListening || find_number(fields, kType) != SOCK_STREAM)
    return std::nullopt;
  std::uint64_t const port = find_number(fields, kSourcePort).value_or(0);
  if (port == 0 || port > UINT16_MAX) return std::nullopt;
  Socket socket{.family = find_number(fields, kFamily).value_or(0),
                .port = static_cast<std::uint16_t>(port),
                .only_ipv6 = find_number(fields, kOnlyIpv6).value_or(0) != 0,
                .address = {}};
  for (WireField const& field : fields)
    if (field.number == kSourceAddress && field.kind == Kind::Varint)
      socket.address.push_back(static_cast<std::uint32_t>(field.value));
  return socket;
}

std::vector<std::uint32_t> loopback_if_any(Socket const& socket) {
  bool const is_any = std::ranges::all_of(socket.address, [](auto word) { return word == 0; });
  std::uint32_t const loopback = htonl(INADDR_LOOPBACK);
  if (!is_any) return socket.address;
  if (socket.family == AF_INET) return {loopback};
  if (socket.only_ipv6) return {0, 0, 0, htonl(1)};
  return {0, 0, htonl(0xFFFF), loopback};
}

std::string change_socket(Fields const& fields, Socket const& socket, std::uint16_t port) {
  std::string changed;
  bool written = false;
  for (WireField const& field : fields) {
    bool const is_address = field.number == kSourceAddress && field.kind == Kind::Varint;
    if (field.number == kSourcePort)
      append_number(changed, kSourcePort, port);
    else if (!is_address)
      changed += field.whole;
    else if (!written)
      for (std::uint32_t const word : loopback_if_any(socket))
        append_number(changed, kSourceAddress, word);
    written = written || is_address;
  }
  return changed;
}

/// `message` of files.img with other ports.
Result<std::string> change_file(std::string_view message, PortChanges const& ports) {
  auto const fields = read_message(message);
  if (!fields) return torn("files.img");
  std::string changed;
  for (WireField const& field : *fields) {
    bool const is_socket = field.number == kInetSocket && field.kind == Kind::Bytes;
    auto const inner = is_socket ? read_message(field.bytes) : std::nullopt;
    if (is_socket && !inner) return torn("files.img");
    auto const socket = inner ? listening(*inner) : std::nullopt;
    auto const port = socket ? ports.find(socket->port) : ports.end();
    if (port == ports.end())
      changed += field.whole;
    else
      append_bytes(changed, kInetSocket, change_socket(*inner, *socket, port->second));
  }
  return changed;
}

}  // namespace

Result<std::vector<pid_t>> threads_of_image(std::string_view pstree) {
  TRY_ASSIGN(ImageFile const file, read_image_file(pstree, "pstree.img"));
  if (file.messages.size() > 1)
    return fail(ErrorCode::Unsupported,
                fmt::format("it has {} processes, and only one can be restored with a number of "
                            "its own",
                            file.messages.size()));
  TRY_ASSIGN(Fields const fields, only_message(pstree, "pstree.img"));
  auto const pid = find_number(fields, kPid);
  if (!pid || *pid == 0 || *pid > INT32_MAX) return torn("pstree.img");
  for (std::uint32_t const leads : {kGroup, kSession})
    if (find_number(fields, leads) != pid)
      return fail(ErrorCode::Unsupported, "it leads no session of its own");
  std::vector<pid_t> threads{static_cast<pid_t>(*pid)};
  for (WireField const& field : fields) {
    if (field.number != kThreads || field.kind != Kind::Varint) continue;
    if (field.value == 0 || field.value > INT32_MAX) return torn("pstree.img");
    if (field.value != *pid) threads.push_back(static_cast<pid_t>(field.value));
  }
  return threads;
}

Result<std::string> renumber(std::string_view pstree, Renumbering const& numbers) {
  TRY_ASSIGN(ImageFile const file, read_image_file(pstree, "pstree.img"));
  TRY_ASSIGN(Fields const fields, only_message(pstree, "pstree.img"));
  std::string changed;
  for (WireField const& field : fields) {
    bool const is_number =
        field.kind == Kind::Varint && (field.number == kPid || field.number == kGroup ||
                                       field.number == kSession || field.number == kThreads);
    auto const found = is_number ? numbers.find(static_cast<pid_t>(field.value)) : numbers.end();
    if (found == numbers.end())
      changed += field.whole;
    else
      append_number(changed, field.number, static_cast<std::uint64_t>(found->second));
  }
  std::string result(file.magic);
  append_message(result, changed);
  return result;
}

Result<std::vector<ImageListener>> listeners_of_image(std::string_view files) {
  TRY_ASSIGN(ImageFile const file, read_image_file(files, "files.img"));
  std::vector<ImageListener> listeners;
  for (std::string_view const message : file.messages) {
    auto const fields = read_message(message);
    if (!fields) return torn("files.img");
    for (WireField const& field : *fields) {
      if (field.number != kInetSocket || field.kind != Kind::Bytes) continue;
      auto const inner = read_message(field.bytes);
      if (!inner) return torn("files.img");
      if (auto const socket = listening(*inner))
        listeners.push_back({.port = socket->port,
                             .ipv6 = socket->family == AF_INET6,
                             .only_ipv6 = socket->only_ipv6});
    }
  }
  return listeners;
}

Result<std::string> change_ports(std::string_view files, PortChanges const& ports) {
  TRY_ASSIGN(ImageFile const file, read_image_file(files, "files.img"));
  std::string result(file.magic);
  for (std::string_view const message : file.messages) {
    TRY_ASSIGN(std::string const changed, change_file(message, ports));
    append_message(result, changed);
  }
  return result;
}

Result<std::uint64_t> number_address(std::string_view core) {
  TRY_ASSIGN(Fields const fields, only_message(core, "core.img"));
  auto const info = find_bytes(fields, kThreadInfo);
  auto const inner = info ? read_message(*info) : std::nullopt;
  if (!inner) return torn("core.img");
  return find_number(*inner, kNumberAddress).value_or(0);
}

Result<std::string> die_with_parent(std::string_view core) {
  TRY_ASSIGN(ImageFile const file, read_image_file(core, "core.img"));
  TRY_ASSIGN(Fields const fields, only_message(core, "core.img"));
  std::string changed;
  bool found = false;
  for (WireField const& field : fields) {
    if (field.number != kThreadCore || field.kind != Kind::Bytes) {
      changed += field.whole;
      continue;
    }
    auto const inner = read_message(field.bytes);
    if (!inner) return torn("core.img");
    std::string thread;
    for (WireField const& one : *inner)
      if (one.number != kParentDeathSignal) thread += one.whole;
    append_number(thread, kParentDeathSignal, SIGKILL);
    append_bytes(changed, kThreadCore, thread);
    found = true;
  }
  if (!found) return torn("core.img");
  std::string result(file.magic);
  append_message(result, changed);
  return result;
}

Result<std::uint32_t> pages_number(std::string_view pagemap) {
  TRY_ASSIGN(ImageFile const file, read_image_file(pagemap, "pagemap.img"));
  auto const head = file.messages.empty() ? std::nullopt : read_message(file.messages.front());
  auto const number = head ? find_number(*head, kPagesNumber) : std::nullopt;
  if (!number || *number > UINT32_MAX) return torn("pagemap.img");
  return static_cast<std::uint32_t>(*number);
}

Result<std::vector<PagesPart>> pages_between(std::string_view pagemap, std::uint64_t begin,
                                             std::uint64_t end) {
  TRY_ASSIGN(ImageFile const file, read_image_file(pagemap, "pagemap.img"));
  std::vector<PagesPart> parts;
  std::uint64_t offset = 0;
  for (std::size_t i = 1; i < file.messages.size(); ++i) {
    auto const fields = read_message(file.messages[i]);
    auto const address = fields ? find_number(*fields, kAddress) : std::nullopt;
    auto pages = fields ? find_number(*fields, kPages) : std::nullopt;
    if (fields && !pages) pages = find_number(*fields, kPagesNarrow);
    if (!address || !pages || *pages > kPagesMax || *address > UINT64_MAX - *pages * kPageBytes)
      return torn("pagemap.img");
    bool const elsewhere = find_number(*fields, kInParent).value_or(0) != 0 ||
                           (find_number(*fields, kPageFlags).value_or(kPresent) & kPresent) == 0;
    if (elsewhere) continue;
    std::uint64_t const last = *address + *pages * kPageBytes;
    std::uint64_t const from = std::max(begin, *address);
    std::uint64_t const to = std::min(end, last);
    if (from < to) parts.push_back({.offset = offset + (from - *address), .size = to - from});
    offset += *pages * kPageBytes;
  }
  return parts;
}

}  // namespace aether::clone
