// SPDX-License-Identifier: Apache-2.0
// A handler with `ipc: ring`, in C++ over the C header.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "aether_handler.h"

namespace {

std::string answer_of(aether_handler& handler, aether_request& request, std::string_view path) {
  if (path == "/who") return std::to_string(::getpid());
  if (path != "/sum") return "hello from cpp " + std::string(path);
  std::vector<char> piece(20000);
  std::size_t size = 0;
  std::uint32_t crc = 0;
  while (true) {
    ssize_t const got = aether_handler_read(&handler, &request, piece.data(), piece.size());
    if (got <= 0) break;
    size += static_cast<std::size_t>(got);
    crc = aether_ring_crc32(crc, piece.data(), static_cast<std::size_t>(got));
  }
  return "{\"size\": " + std::to_string(size) + ", \"crc\": " + std::to_string(crc) + "}";
}

void echo(aether_handler& handler, aether_request& request) {
  std::vector<char> piece(20000);
  if (aether_handler_begin(&handler, &request, 200, "Content-Type: text/plain\r\n") != 0) return;
  while (true) {
    ssize_t const got = aether_handler_read(&handler, &request, piece.data(), piece.size());
    if (got < 0) return;
    if (got == 0) break;
    if (aether_handler_write(&handler, &request, piece.data(), static_cast<std::size_t>(got)) != 0)
      return;
  }
  aether_handler_end(&handler, &request);
}

void send_bytes(aether_handler& handler, aether_request& request, std::size_t size) {
  std::string piece(16384, 0);
  for (std::size_t i = 0; i < piece.size(); ++i) piece[i] = static_cast<char>(i % 256);
  if (aether_handler_begin(&handler, &request, 200, "") != 0) return;
  for (; size > 0; size -= std::min(size, piece.size()))
    if (aether_handler_write(&handler, &request, piece.data(), std::min(size, piece.size())) != 0)
      return;
  aether_handler_end(&handler, &request);
}

}  // namespace

int main() {
  static aether_handler handler;
  aether_request request;
  if (aether_handler_open(&handler) != 0) return 1;
  while (aether_handler_next(&handler, &request) == 1) {
    std::string_view const target = request.target;
    std::string_view const path = target.substr(0, target.find('?'));
    if (path == "/echo") {
      echo(handler, request);
    } else if (path == "/bytes") {
      send_bytes(handler, request, std::strtoull(request.target + path.size() + 1, nullptr, 10));
    } else {
      std::string const body = answer_of(handler, request, path);
      aether_handler_answer(&handler, &request, 200, "text/plain", body.data(), body.size());
    }
  }
}
