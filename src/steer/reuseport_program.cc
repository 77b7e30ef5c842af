// SPDX-License-Identifier: Apache-2.0
#include "steer/reuseport_program.h"

#include <array>

namespace aether::steer {
namespace {

using Code = std::vector<sock_filter>;

// Offsets from the IP header (linux/filter.h); our own pointer is behind the TCP header.
constexpr __u32 at(int offset) {
  return static_cast<__u32>(SKF_NET_OFF + offset);
}
constexpr __u32 place_of(std::size_t place) {
  return static_cast<__u32>(place);
}

/// Whoever is no guest comes out at the end.
void add_guest(Code& code, ReuseportProgram::Guest const& guest) {
  std::array<sock_filter, 14> const section = {{
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, at(0)),
      BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 4),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 6, 8, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at(16)),  // IPv4: the destination ...
      BPF_STMT(BPF_MISC | BPF_TAX, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at(12)),  // ... is the source,
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_X, 0, 2, 0),
      BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 24),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 127, 0, 5),  // or that is a loopback address.
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, at(20)),      // No options: nobody here sets any.
      BPF_STMT(BPF_JMP | BPF_JA, 1),
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, at(40)),  // IPv6
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, guest.port, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, place_of(guest.place)),
  }};
  code.insert(code.end(), section.begin(), section.end());
}

/// A number of 32 bits that is the same for the same source address, and as good as chance.
void add_source_number(Code& code) {
  // The constants of MurmurHash3's last step, which spreads each bit over all of them.
  std::array<sock_filter, 26> const section = {{
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, at(0)),
      BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 4),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 6, 2, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at(12)),  // IPv4
      BPF_STMT(BPF_JMP | BPF_JA, 10),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at(8)),  // IPv6: four words of source address.
      BPF_STMT(BPF_MISC | BPF_TAX, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at(12)),
      BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
      BPF_STMT(BPF_MISC | BPF_TAX, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at(16)),
      BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
      BPF_STMT(BPF_MISC | BPF_TAX, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at(20)),
      BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
      BPF_STMT(BPF_MISC | BPF_TAX, 0),
      BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16),
      BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
      BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, 0x85ebca6b),
      BPF_STMT(BPF_MISC | BPF_TAX, 0),
      BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 13),
      BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
      BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, 0xc2b2ae35),
      BPF_STMT(BPF_MISC | BPF_TAX, 0),
      BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16),
      BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
  }};
  code.insert(code.end(), section.begin(), section.end());
}

void add_rest(Code& code, ReuseportProgram const& program) {
  ReuseportProgram::Rest const& rest = *program.rest;
  if (rest.stick == Stick::Source) {
    add_source_number(code);
  } else {
    constexpr auto chance = static_cast<__u32>(SKF_AD_OFF + SKF_AD_RANDOM);
    code.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, chance));
  }
  // Numbers below this go to the first place.
  auto const bound = (std::uint64_t{1} << 32) * static_cast<unsigned>(rest.percent) / 100;
  code.push_back(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, static_cast<__u32>(bound), 0, 1));
  code.push_back(BPF_STMT(BPF_RET | BPF_K, place_of(rest.place)));
}

}  // namespace

std::vector<sock_filter> code_of(ReuseportProgram const& program) {
  Code code;
  if (program.guest) add_guest(code, *program.guest);
  bool const is_split = program.rest && program.rest->percent < 100;
  if (is_split) add_rest(code, program);
  code.push_back(BPF_STMT(BPF_RET | BPF_K, place_of(program.place)));
  return code;
}

}  // namespace aether::steer
