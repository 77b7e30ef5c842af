// SPDX-License-Identifier: Apache-2.0
// Image files and manifests of anybody: read, changed, and read again.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "clone/image_manifest.h"
#include "clone/image_patch.h"

namespace {

using namespace aether::clone;  // NOLINT(google-build-using-namespace)

void check_tree(std::string_view bytes) {
  auto const threads = threads_of_image(bytes);
  if (!threads) return;
  Renumbering numbers;
  for (pid_t const thread : *threads) numbers[thread] = 1000 + static_cast<pid_t>(numbers.size());
  auto const changed = renumber(bytes, numbers);
  AETHER_CHECK(changed.has_value());
  auto const again = threads_of_image(*changed);
  AETHER_CHECK(again && again->size() == threads->size());
  AETHER_CHECK(again->front() == numbers.at(threads->front()));
}

void check_files(std::string_view bytes) {
  auto const listeners = listeners_of_image(bytes);
  PortChanges ports;
  if (listeners)
    for (ImageListener const& one : *listeners) ports[one.port] = 4242;
  auto const changed = change_ports(bytes, ports);
  AETHER_CHECK(changed.has_value() == listeners.has_value());
  if (!changed) return;
  auto const again = listeners_of_image(*changed);
  AETHER_CHECK(again && again->size() == listeners->size());
  for (ImageListener const& one : *again) AETHER_CHECK(one.port == 4242);
}

void check_manifest(std::string_view bytes) {
  auto const manifest = read_manifest(bytes);
  if (!manifest) return;
  auto const again = read_manifest(write_manifest(*manifest));
  AETHER_CHECK(again.has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  if (size < 1) return 0;
  std::string_view const bytes(reinterpret_cast<char const*>(data + 1), size - 1);
  switch (data[0] % 5) {
    case 0:
      check_tree(bytes);
      break;
    case 1:
      check_files(bytes);
      break;
    case 2:
      check_manifest(bytes);
      break;
    case 3:
      (void)pages_between(bytes, 0x1000, UINT64_MAX);
      (void)pages_number(bytes);
      break;
    default:
      (void)number_address(bytes);
      (void)die_with_parent(bytes);
      break;
  }
  return 0;
}
