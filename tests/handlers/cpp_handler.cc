// SPDX-License-Identifier: Apache-2.0
// Plain sockets and a second thread that waits, as compiled servers have.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <string>
#include <thread>

int main() {
  std::mutex mutex;
  std::condition_variable work;
  std::thread([&] {
    std::unique_lock lock(mutex);
    work.wait(lock, [] { return false; });
  }).detach();
  std::mt19937_64 generator(std::random_device{}());

  int const listener = socket(AF_INET, SOCK_STREAM, 0);
  int const yes = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_port = htons(static_cast<uint16_t>(std::atoi(std::getenv("AETHER_TRIGGER_PORT"))));
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(listener, reinterpret_cast<sockaddr*>(&here), sizeof here) != 0) return 1;
  if (listen(listener, 128) != 0) return 1;

  int const aether = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un there{};
  there.sun_family = AF_UNIX;
  std::snprintf(there.sun_path, sizeof there.sun_path, "%s", std::getenv("AETHER_SOCKET"));
  if (connect(aether, reinterpret_cast<sockaddr*>(&there), sizeof there) != 0) return 1;
  if (write(aether, "READY", 5) != 5) return 1;

  while (true) {
    int const client = accept(listener, nullptr, nullptr);
    if (client < 0) continue;
    std::string request;
    char buffer[4096];
    while (request.find("\r\n\r\n") == std::string::npos) {
      ssize_t const got = read(client, buffer, sizeof buffer);
      if (got <= 0) break;
      request.append(buffer, static_cast<size_t>(got));
    }
    std::string const body = "{\"language\": \"c++\", \"pid\": " + std::to_string(getpid()) +
                             ", \"random\": " + std::to_string(generator()) + "}\n";
    std::string const answer =
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) +
        "\r\n\r\n" + body;
    if (write(client, answer.data(), answer.size()) < 0) std::perror("write");
    close(client);
  }
}
