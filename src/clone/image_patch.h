// SPDX-License-Identifier: Apache-2.0
// What an image of a process says, and the same with other numbers and ports: so that several
// instances of one image may live beside each other, each with a process number and a port of its
// own, as copies of a template have. Pure. The numbers of fields are those of CRIU's
// images/*.proto.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace aether::clone {

/// Old number to new number, of each thread.
using Renumbering = std::map<pid_t, pid_t>;
/// Old port to new port, of each TCP listener.
using PortChanges = std::map<std::uint16_t, std::uint16_t>;

/// pstree.img: the process and its threads, its own number first. Unsupported if there are several
/// processes, or a terminal's session.
[[nodiscard]] Result<std::vector<pid_t>> threads_of_image(std::string_view pstree);
[[nodiscard]] Result<std::string> renumber(std::string_view pstree, Renumbering const& numbers);

/// A TCP socket of the image that listens.
struct ImageListener {
  std::uint16_t port = 0;
  bool ipv6 = false;
  bool only_ipv6 = false;
  bool operator==(ImageListener const&) const = default;
};
/// files.img.
[[nodiscard]] Result<std::vector<ImageListener>> listeners_of_image(std::string_view files);
/// With other ports for its listeners, on the loopback address instead of any: nobody else is to
/// find them there.
[[nodiscard]] Result<std::string> change_ports(std::string_view files, PortChanges const& ports);

/// core-N.img: where the C library keeps the thread's number (man 2 set_tid_address); 0: nowhere.
[[nodiscard]] Result<std::uint64_t> number_address(std::string_view core);
/// core-N.img, of a process that gets SIGKILL when its parent ends (PR_SET_PDEATHSIG).
[[nodiscard]] Result<std::string> die_with_parent(std::string_view core);

/// A part of pages-N.img, in bytes.
struct PagesPart {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  bool operator==(PagesPart const&) const = default;
};
/// pagemap-N.img: where the memory from `begin` to `end` lies.
[[nodiscard]] Result<std::vector<PagesPart>> pages_between(std::string_view pagemap,
                                                           std::uint64_t begin, std::uint64_t end);
/// The N of its pages-N.img.
[[nodiscard]] Result<std::uint32_t> pages_number(std::string_view pagemap);

}  // namespace aether::clone
