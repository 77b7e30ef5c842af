// SPDX-License-Identifier: Apache-2.0
// Inside of this room: bytes to a Request. Pure, incremental, bounded.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "http/message.h"

namespace aether::http {

/// Why a request is not taken: the answer it gets.
struct Refusal {
  int status = 400;
  std::string detail;
};

/// One request of a connection. After Done or Refused it is used up.
class RequestParser {
 public:
  enum class Step : std::uint8_t { NeedMore, HeaderDone, Done, Refused };

  RequestParser(std::size_t header_bytes_max, std::size_t body_bytes_max);
  ~RequestParser();
  RequestParser(RequestParser const&) = delete;
  RequestParser& operator=(RequestParser const&) = delete;

  /// Takes what it can from the front of the buffer. HeaderDone comes once, before the body is
  /// looked at; call again. With NeedMore the buffer never holds more than header_bytes_max.
  [[nodiscard]] Step advance(std::string& buffer);

  [[nodiscard]] Refusal const& refusal() const { return refusal_; }
  /// From HeaderDone on: the client waits for "100 Continue" before it sends the body.
  [[nodiscard]] bool expects_continue() const;
  [[nodiscard]] bool keep_alive() const;
  [[nodiscard]] bool is_http_1_0() const;
  /// Once Done. Without the peer.
  [[nodiscard]] Request take();

 private:
  struct Beast;
  Step refuse(int status, std::string detail);
  Step advance_header(std::string& buffer);
  Step advance_body(std::string& buffer);
  Step check_header();

  std::unique_ptr<Beast> beast_;
  std::size_t header_bytes_max_;
  std::size_t header_bytes_ = 0;
  Request request_;
  Refusal refusal_;
};

}  // namespace aether::http
