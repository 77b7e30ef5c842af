// SPDX-License-Identifier: Apache-2.0
#include "tools/resolver.h"

#include <netdb.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include <fmt/format.h>

#include "async/wait_fd.h"
#include "base/error.h"
#include "os/unique_fd.h"

namespace aether::tools {
namespace {

constexpr std::size_t kThreads = 2;
/// Waiting lookups: a resolver this far behind does not answer at all.
constexpr std::size_t kLookupsMax = 256;
/// Addresses that are tried: more are a mistake of the name's owner.
constexpr std::size_t kAddressesMax = 8;

/// Shared with the thread: who asked may be gone before the answer comes. It wakes by a descriptor
/// and not through the loop, which may be gone as well.
struct Lookup {
  std::string host;
  os::UniqueFd wake;
  std::mutex mutex;
  int failed = 0;
  std::vector<std::string> addresses;

  void run();
};

void Lookup::run() {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* list = nullptr;
  int const result = ::getaddrinfo(host.c_str(), nullptr, &hints, &list);
  std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> const owner(list, ::freeaddrinfo);
  {
    std::lock_guard const held(mutex);
    failed = result;
    for (addrinfo* each = list; each != nullptr; each = each->ai_next) {
      std::array<char, NI_MAXHOST> text{};
      if (addresses.size() < kAddressesMax &&
          ::getnameinfo(each->ai_addr, each->ai_addrlen, text.data(), text.size(), nullptr, 0,
                        NI_NUMERICHOST) == 0)
        addresses.emplace_back(text.data());
    }
  }
  std::uint64_t const one = 1;
  (void)!::write(wake.get(), &one, sizeof(one));
}

}  // namespace

Resolver::Resolver() : threads_(kThreads, kLookupsMax) {}

async::Task<std::vector<std::string>> Resolver::look_up(std::string host) {
  auto lookup = std::make_shared<Lookup>();
  lookup->host = host;
  lookup->wake = os::UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!lookup->wake) throw system_error("eventfd");
  if (!threads_.post([lookup] { lookup->run(); })) {
    throw Error(ErrorCode::LimitReached,
                fmt::format("looking up {}: {} lookups wait already; is the name server down?",
                            host, kLookupsMax));
  }
  co_await async::readable(lookup->wake.get());
  std::lock_guard const held(lookup->mutex);
  if (lookup->failed == 0 && !lookup->addresses.empty()) co_return lookup->addresses;
  bool const unknown = lookup->failed == EAI_NONAME;
  throw Error(
      unknown ? ErrorCode::AddressInvalid : ErrorCode::Unreachable,
      fmt::format("looking up {}: {}", host,
                  lookup->failed == 0 ? "it has no address" : ::gai_strerror(lookup->failed)));
}

}  // namespace aether::tools
