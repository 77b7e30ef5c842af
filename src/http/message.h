// SPDX-License-Identifier: Apache-2.0
// What goes over HTTP: requests, responses, and who asked. Plain values.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "async/task.h"

namespace aether::http {

/// Header fields in order. Names compare without case (RFC 9110, 5.1).
class Headers {
 public:
  using Field = std::pair<std::string, std::string>;

  Headers() = default;
  Headers(std::initializer_list<Field> fields) : fields_(fields) {}

  /// The first value of that name, or null. Valid until the next change.
  [[nodiscard]] std::string const* find(std::string_view name) const;
  /// The first value of that name, or empty.
  [[nodiscard]] std::string_view get(std::string_view name) const;
  /// Replaces all values of that name.
  void set(std::string_view name, std::string value);
  void add(std::string name, std::string value);
  void remove(std::string_view name);

  [[nodiscard]] std::size_t size() const { return fields_.size(); }
  [[nodiscard]] bool empty() const { return fields_.empty(); }
  [[nodiscard]] auto begin() const { return fields_.begin(); }
  [[nodiscard]] auto end() const { return fields_.end(); }

 private:
  std::vector<Field> fields_;
};

/// Who asked, as the kernel knows it.
struct Peer {
  bool unix_socket = false;
  pid_t pid = 0;                       ///< Unix only (SO_PEERCRED): who connected; else 0.
  uid_t uid = static_cast<uid_t>(-1);  ///< Unix, and loopback while its process lives; else -1.
  gid_t gid = static_cast<gid_t>(-1);  ///< Unix only; else -1.
  std::string address;                 ///< "127.0.0.1:4711", "[::1]:4711" or "unix".
  bool loopback = false;               ///< 127.0.0.0/8 or ::1. Always false for Unix.
};

/// A request. The server fills all of it; for the client, `path`, `query` and `peer` do not count.
struct Request {
  std::string method = "GET";
  std::string target = "/";  ///< As sent: path and query, percent-encoded.
  std::string path;          ///< Percent-decoded, begins with '/' ("*" for OPTIONS *).
  std::vector<std::pair<std::string, std::string>> query;  ///< Decoded, in order.
  Headers headers;
  std::string body;
  Peer peer;

  /// The first query parameter of that name, or null.
  [[nodiscard]] std::string const* query_value(std::string_view name) const;
};

/// Where a streaming response puts its bytes. Lives as long as the stream's task.
class BodyWriter {
 public:
  virtual ~BodyWriter() = default;
  /// Sends the bytes as one chunk, and returns when the kernel has taken them: a slow client slows
  /// the task. A client that is gone cancels the task instead.
  [[nodiscard]] virtual async::Task<void> write(std::string bytes) = 0;
};

/// A response: a whole body, or a stream.
struct Response {
  int status = 200;
  Headers headers;  ///< Without Content-Length, Transfer-Encoding, Connection, Date: those are the
                    ///< server's.
  std::string body;
  /// If set, `body` is not used: this task writes the body; the response ends when it returns, or
  /// is cut off (so that the client sees that it is not whole) when it throws. When the client
  /// closes its side, the task is cancelled. It is not run for HEAD.
  std::function<async::Task<void>(BodyWriter&)> stream;
  /// A stream without an end of its own (SSE, a followed log): Server::stop() ends it at once, and
  /// cleanly.
  bool endless = false;
};

/// "Not Found" for 404; "Unknown" for what is not in RFC 9110.
[[nodiscard]] std::string_view reason_phrase(int status);

/// A response with a body of application/json, or of text/plain in UTF-8.
[[nodiscard]] Response json_response(int status, std::string json);
[[nodiscard]] Response text_response(int status, std::string text);

}  // namespace aether::http
