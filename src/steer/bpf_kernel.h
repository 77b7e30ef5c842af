// SPDX-License-Identifier: Apache-2.0
// The kernel's side of BPF in RAII: programs and maps of an object of bpf/, links, and maps'
// values. The only file behind which libbpf is. Nothing is ever pinned: what these descriptors hold
// ends with them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "os/unique_fd.h"
#include "steer/bpf_objects.h"

namespace aether::steer {

/// Programs and maps of one object, in the kernel.
class BpfPrograms {
 public:
  /// BpfUnavailable: what the kernel refused, and why, as far as that can be known.
  [[nodiscard]] static Result<BpfPrograms> load(BpfObject object);

  /// Borrowed. A name that bpf/ does not have is a bug.
  [[nodiscard]] int program(std::string_view name) const;
  [[nodiscard]] int map(std::string_view name) const;

 private:
  std::map<std::string, os::UniqueFd, std::less<>> programs_;
  std::map<std::string, os::UniqueFd, std::less<>> maps_;
};

/// Where a program can be attached (enum bpf_attach_type of linux/bpf.h).
enum class BpfAttach : std::uint8_t {
  SkLookup,
  Inet4Bind,
  Inet6Bind,
  Inet4GetSockName,
  Inet6GetSockName,
  Inet4PostBind,
  Inet6PostBind,
  InetSockRelease,
  InetSockCreate,
  Xdp,
};

/// Attaches a program for as long as the link is open. `target`: a descriptor of a network
/// namespace or cgroup, or the number of an interface. The plain system error, for the caller to
/// tell.
[[nodiscard]] Result<os::UniqueFd> bpf_link(int program, int target, BpfAttach attach,
                                            std::uint32_t flags = 0);
/// Programs attached to the descriptor of a network namespace or cgroup.
[[nodiscard]] Result<std::vector<std::uint32_t>> bpf_attached(int target, BpfAttach attach);

/// The XDP program of an interface, whatever its mode; 0: none.
[[nodiscard]] Result<std::uint32_t> xdp_program_on(int interface);

enum class BpfWrite : std::uint8_t { Any, NewOnly, ExistingOnly };
/// Keys and values as bpf_steer_maps.h and bpf_xdp_maps.h declare them; the caller answers for
/// their sizes.
Status bpf_write(int map, void const* key, void const* value, BpfWrite how = BpfWrite::Any);
/// False if there is no such key.
[[nodiscard]] Result<bool> bpf_read(int map, void const* key, void* value);
/// A key that is gone already is no error.
Status bpf_erase(int map, void const* key);
/// The key after `key` (null: the first one); false behind the last.
[[nodiscard]] bool bpf_next_key(int map, void const* key, void* next);
/// Values in a map's entry for each processor that there can be.
[[nodiscard]] Result<std::size_t> bpf_processors();

/// A map's values in our own memory (BPF_F_MMAPABLE), readable and writable.
class BpfMemory {
 public:
  [[nodiscard]] static Result<BpfMemory> map(int map, std::size_t bytes);
  BpfMemory(BpfMemory&& other) noexcept;
  BpfMemory& operator=(BpfMemory&& other) noexcept;
  ~BpfMemory();
  [[nodiscard]] void* get() const { return start_; }

 private:
  BpfMemory(void* start, std::size_t bytes) : start_(start), bytes_(bytes) {}
  void* start_ = nullptr;
  std::size_t bytes_ = 0;
};

/// BpfUnavailable for a system call of BPF that failed: names what this process lacks.
[[nodiscard]] Error bpf_error(std::string_view tried, Error const& cause,
                              BpfObject object = BpfObject::Steer);
/// Those of CAP_BPF and CAP_NET_ADMIN (and for XDP, which reads packets at computed places,
/// CAP_PERFMON) that this process has not. CAP_SYS_ADMIN stands for the first and the last.
[[nodiscard]] std::vector<std::string> missing_bpf_capabilities(
    BpfObject object = BpfObject::Steer);

}  // namespace aether::steer
