// SPDX-License-Identifier: Apache-2.0
// Any bytes a child may send to its NOTIFY_SOCKET.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "supervise/notify_message.h"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  using namespace aether::supervise;
  auto const message = parse_notify_message({reinterpret_cast<char const*>(data), size});
  // A replaced byte becomes three, so the limit holds for what was read, times three.
  if (message.status) AETHER_CHECK(message.status->size() <= 3 * kNotifyStatusBytesMax);
  if (message.main_pid) AETHER_CHECK(*message.main_pid > 1);
  if (message.extend_timeout) AETHER_CHECK(message.extend_timeout->count() > 0);
  if (message.fd_name) AETHER_CHECK(is_fd_name(*message.fd_name));
  if (message.exit_status) AETHER_CHECK(*message.exit_status >= 0 && *message.exit_status <= 255);
  if (message.bus_error) AETHER_CHECK(message.bus_error->size() <= kNotifyErrorNameBytesMax);
  return 0;
}
