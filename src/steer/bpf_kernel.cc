// SPDX-License-Identifier: Apache-2.0
#include "steer/bpf_kernel.h"

#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"
#include "base/fault.h"

#ifdef AETHER_WITH_BPF
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#endif

namespace aether::steer {
namespace {

/// ENOTSUPP of include/linux/errno.h, which leaks out of some BPF calls.
constexpr int kNotSupportedInKernel = 524;

int const* find_fd(std::map<std::string, os::UniqueFd, std::less<>> const& fds,
                   std::string_view name, int& number) {
  auto const found = fds.find(name);
  if (found == fds.end()) return nullptr;
  number = found->second.get();
  return &number;
}

bool has_capability(std::array<__user_cap_data_struct, 2> const& sets, int capability) {
  auto const& set = sets[static_cast<std::size_t>(capability) / 32];
  return (set.effective >> (capability % 32) & 1U) != 0;
}

}  // namespace

std::vector<std::string> missing_bpf_capabilities(BpfObject object) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, 2> sets{};
  std::vector<std::string> missing;
  if (syscall(SYS_capget, &header, sets.data()) != 0) return missing;
  bool const all = has_capability(sets, CAP_SYS_ADMIN);
  if (!all && !has_capability(sets, CAP_BPF)) missing.emplace_back("CAP_BPF");
  if (!has_capability(sets, CAP_NET_ADMIN)) missing.emplace_back("CAP_NET_ADMIN");
  if (!all && object == BpfObject::XdpPorts && !has_capability(sets, CAP_PERFMON))
    missing.emplace_back("CAP_PERFMON");
  return missing;
}

Error bpf_error(std::string_view tried, Error const& cause, BpfObject object) {
  auto const missing = missing_bpf_capabilities(object);
  std::string cure;
  if (cause.errno_value() == EPERM || cause.errno_value() == EACCES) {
    if (!missing.empty())
      cure = fmt::format(
          "; Aether lacks {}: run it as root, or give it the capability "
          "(AmbientCapabilities= of systemd, --cap-add of a container)",
          fmt::join(missing, " and "));
    else
      cure =
          "; the capabilities are there, so that a user namespace (a rootless container), seccomp "
          "or a security module forbids it";
  } else if (cause.errno_value() == EINVAL || cause.errno_value() == ENOSYS ||
             cause.errno_value() == EOPNOTSUPP || cause.errno_value() == kNotSupportedInKernel) {
    cure = "; this kernel is too old for it, or was built without it (docs/bpf.md has the list)";
  }
  return {ErrorCode::BpfUnavailable, fmt::format("{}: {}{}", tried, cause.message(), cure),
          cause.errno_value()};
}

int BpfPrograms::program(std::string_view name) const {
  int number = -1;
  AETHER_CHECK(find_fd(programs_, name, number) != nullptr, "bpf/ has no program {}", name);
  return number;
}

int BpfPrograms::map(std::string_view name) const {
  int number = -1;
  AETHER_CHECK(find_fd(maps_, name, number) != nullptr, "bpf/ has no map {}", name);
  return number;
}

Result<BpfMemory> BpfMemory::map(int map, std::size_t bytes) {
  void* const start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
  if (start == MAP_FAILED) return fail(system_error("mmap", "a BPF map"));
  return BpfMemory(start, bytes);
}

BpfMemory::BpfMemory(BpfMemory&& other) noexcept
    : start_(std::exchange(other.start_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

BpfMemory& BpfMemory::operator=(BpfMemory&& other) noexcept {
  std::swap(start_, other.start_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

BpfMemory::~BpfMemory() {
  if (start_ != nullptr) munmap(start_, bytes_);
}

#ifdef AETHER_WITH_BPF
namespace {

/// What libbpf said since the last load: its callback has no argument of ours.
thread_local std::string libbpf_said;

int hear_libbpf(libbpf_print_level level, char const* format, va_list arguments) {
  constexpr std::size_t kLongest = 2048;
  if (level != LIBBPF_WARN || libbpf_said.size() > kLongest) return 0;
  std::array<char, kLongest> text{};
  int const length = std::vsnprintf(text.data(), text.size(), format, arguments);
  if (length > 0) libbpf_said.append(text.data());
  return length;
}

/// The verifier's and libbpf's words in one line, for a log: only their end says what failed.
std::string last_words() {
  constexpr std::size_t kLongest = 400;
  std::string words = std::exchange(libbpf_said, {});
  for (char& letter : words)
    if (letter == '\n') letter = ' ';
  while (words.ends_with(' ')) words.pop_back();
  if (words.size() > kLongest) words = "... " + words.substr(words.size() - kLongest);
  return words;
}

using ObjectOwner = std::unique_ptr<::bpf_object, decltype(&::bpf_object__close)>;

Error load_error(BpfObject object, int errno_value) {
  // Where a capability is missing, that is all there is to say: libbpf and the verifier guess.
  bool const refused = errno_value == EPERM || errno_value == EACCES;
  if (refused && !missing_bpf_capabilities(object).empty()) libbpf_said.clear();
  return bpf_error("BPF programs could not be loaded",
                   system_error_from(errno_value, "bpf", last_words()), object);
}

::bpf_attach_type attach_type(BpfAttach attach) {
  switch (attach) {
    case BpfAttach::SkLookup:
      return BPF_SK_LOOKUP;
    case BpfAttach::Inet4Bind:
      return BPF_CGROUP_INET4_BIND;
    case BpfAttach::Inet6Bind:
      return BPF_CGROUP_INET6_BIND;
    case BpfAttach::Inet4GetSockName:
      return BPF_CGROUP_INET4_GETSOCKNAME;
    case BpfAttach::Inet6GetSockName:
      return BPF_CGROUP_INET6_GETSOCKNAME;
    case BpfAttach::Inet4PostBind:
      return BPF_CGROUP_INET4_POST_BIND;
    case BpfAttach::Inet6PostBind:
      return BPF_CGROUP_INET6_POST_BIND;
    case BpfAttach::InetSockRelease:
      return BPF_CGROUP_INET_SOCK_RELEASE;
    case BpfAttach::InetSockCreate:
      return BPF_CGROUP_INET_SOCK_CREATE;
    case BpfAttach::Xdp:
      break;
  }
  return BPF_XDP;
}

std::uint64_t write_flag(BpfWrite how) {
  if (how == BpfWrite::NewOnly) return BPF_NOEXIST;
  return how == BpfWrite::ExistingOnly ? BPF_EXIST : BPF_ANY;
}

}  // namespace

Result<BpfPrograms> BpfPrograms::load(BpfObject object) {
  TRY(fault::pass(fault::Point::BpfLoad));
  libbpf_set_print(hear_libbpf);
  libbpf_said.clear();
  auto const bytes = embedded_bpf(object);
  ObjectOwner const owner(::bpf_object__open_mem(bytes.data(), bytes.size(), nullptr),
                          &::bpf_object__close);
  if (!owner) return fail(load_error(object, errno));
  if (int const failed = ::bpf_object__load(owner.get()); failed != 0)
    return fail(load_error(object, -failed));
  // libbpf's own copy of everything is let go: the descriptors keep what is in the kernel.
  BpfPrograms loaded;
  ::bpf_program* program = nullptr;
  bpf_object__for_each_program(program, owner.get()) {
    TRY_ASSIGN(loaded.programs_[::bpf_program__name(program)],
               os::duplicate(::bpf_program__fd(program)));
  }
  ::bpf_map* map = nullptr;
  bpf_object__for_each_map(map, owner.get()) {
    TRY_ASSIGN(loaded.maps_[::bpf_map__name(map)], os::duplicate(::bpf_map__fd(map)));
  }
  return loaded;
}

Result<os::UniqueFd> bpf_link(int program, int target, BpfAttach attach, std::uint32_t flags) {
  bpf_link_create_opts options{};
  options.sz = sizeof(options);
  options.flags = flags;
  os::UniqueFd link(::bpf_link_create(program, target, attach_type(attach), &options));
  if (!link) return fail(system_error("bpf", "BPF_LINK_CREATE"));
  return link;
}

Result<std::vector<std::uint32_t>> bpf_attached(int target, BpfAttach attach) {
  constexpr std::size_t kMost = 64;  // The kernel's own bound for sk_lookup and for one cgroup.
  std::vector<std::uint32_t> ids(kMost);
  auto count = static_cast<__u32>(ids.size());
  if (::bpf_prog_query(target, attach_type(attach), 0, nullptr, ids.data(), &count) != 0)
    return fail(system_error("bpf", "BPF_PROG_QUERY"));
  ids.resize(count);
  return ids;
}

Result<std::uint32_t> xdp_program_on(int interface) {
  bpf_xdp_query_opts options{};
  options.sz = sizeof(options);
  if (int const failed = ::bpf_xdp_query(interface, 0, &options); failed != 0)
    return fail(system_error_from(-failed, "bpf_xdp_query"));
  std::uint32_t const modes[] = {options.prog_id, options.drv_prog_id, options.skb_prog_id,
                                 options.hw_prog_id};
  for (auto const id : modes)
    if (id != 0) return id;
  return 0U;
}

Status bpf_write(int map, void const* key, void const* value, BpfWrite how) {
  if (::bpf_map_update_elem(map, key, value, write_flag(how)) != 0)
    return fail(system_error("bpf", "BPF_MAP_UPDATE_ELEM"));
  return {};
}

Result<bool> bpf_read(int map, void const* key, void* value) {
  if (::bpf_map_lookup_elem(map, key, value) == 0) return true;
  if (errno == ENOENT) return false;
  return fail(system_error("bpf", "BPF_MAP_LOOKUP_ELEM"));
}

Status bpf_erase(int map, void const* key) {
  // A socket map says EINVAL for a place that is empty.
  if (::bpf_map_delete_elem(map, key) == 0 || errno == ENOENT || errno == EINVAL) return {};
  return fail(system_error("bpf", "BPF_MAP_DELETE_ELEM"));
}

bool bpf_next_key(int map, void const* key, void* next) {
  return ::bpf_map_get_next_key(map, key, next) == 0;
}

Result<std::size_t> bpf_processors() {
  int const count = ::libbpf_num_possible_cpus();
  if (count <= 0) return fail(system_error_from(-count, "libbpf_num_possible_cpus"));
  return static_cast<std::size_t>(count);
}

#else
namespace {

Failure not_built() {
  return fail(ErrorCode::BpfUnavailable,
              "this Aether was built without BPF (AETHER_BPF=OFF): use one that was built with it");
}

}  // namespace

Result<BpfPrograms> BpfPrograms::load(BpfObject) {
  return not_built();
}
Result<os::UniqueFd> bpf_link(int, int, BpfAttach, std::uint32_t) {
  return not_built();
}
Result<std::vector<std::uint32_t>> bpf_attached(int, BpfAttach) {
  return not_built();
}
Result<std::uint32_t> xdp_program_on(int) {
  return not_built();
}
Status bpf_write(int, void const*, void const*, BpfWrite) {
  return not_built();
}
Result<bool> bpf_read(int, void const*, void*) {
  return not_built();
}
Status bpf_erase(int, void const*) {
  return not_built();
}
bool bpf_next_key(int, void const*, void*) {
  return false;
}
Result<std::size_t> bpf_processors() {
  return not_built();
}

#endif

}  // namespace aether::steer
