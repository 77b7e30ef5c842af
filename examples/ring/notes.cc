// SPDX-License-Identifier: Apache-2.0
// A handler with `ipc: ring` over the C header: c++ -std=c++17 -I ../../sdk/c -o notes notes.cc
#include <cctype>
#include <string>
#include <string_view>

#include "aether_handler.h"

namespace {

void upper(aether_handler& handler, aether_request& request) {
  std::string piece(16384, '\0');
  if (aether_handler_begin(&handler, &request, 200, "Content-Type: text/plain\r\n") != 0) return;
  while (true) {
    ssize_t const size = aether_handler_read(&handler, &request, piece.data(), piece.size());
    if (size < 0) return;  // the client has left
    if (size == 0) break;
    for (ssize_t i = 0; i < size; ++i)
      piece[i] = static_cast<char>(std::toupper(static_cast<unsigned char>(piece[i])));
    if (aether_handler_write(&handler, &request, piece.data(), size) != 0) return;
  }
  aether_handler_end(&handler, &request);
}

}  // namespace

int main() {
  static aether_handler handler;
  aether_request request;
  if (aether_handler_open(&handler) != 0) return 1;
  while (aether_handler_next(&handler, &request) == 1) {
    std::string_view const target = request.target;
    if (target == "/upper") {
      upper(handler, request);
      continue;
    }
    bool const known = target == "/hello";
    std::string_view const body = known ? "{\"from\": \"cpp\"}\n" : "there is no such page\n";
    aether_handler_answer(&handler, &request, known ? 200 : 404,
                          known ? "application/json" : "text/plain", body.data(), body.size());
  }
}
