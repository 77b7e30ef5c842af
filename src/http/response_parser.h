// SPDX-License-Identifier: Apache-2.0
// Inside of this room: bytes to a Response. Pure, incremental, bounded.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "http/message.h"

namespace aether::http {

/// Whether the request was a HEAD: its response has headers about a body, but no body.
enum class BodyExpected : std::uint8_t { Yes, No };

/// One response. Steps over "100 Continue" and its like.
class ResponseParser {
 public:
  enum class Step : std::uint8_t { NeedMore, HeaderDone, Done };

  ResponseParser(std::size_t header_bytes_max, BodyExpected body);
  ~ResponseParser();
  ResponseParser(ResponseParser const&) = delete;
  ResponseParser& operator=(ResponseParser const&) = delete;

  /// Takes what it can from the front of the buffer. HeaderDone comes once; call again for the
  /// body. ProtocolViolation: this is not HTTP.
  [[nodiscard]] Result<Step> advance(std::string& buffer);
  /// The peer has closed its side: Done if the body was meant to end so, else ProtocolViolation.
  [[nodiscard]] Result<Step> end();

  [[nodiscard]] bool header_done() const { return header_done_; }
  /// From HeaderDone on: status and headers.
  [[nodiscard]] Response& head() { return response_; }
  /// Whether take_body() has something to give.
  [[nodiscard]] bool has_body() const;
  /// The piece of the body that came since the last call.
  [[nodiscard]] std::string take_body();

 private:
  struct Beast;
  Result<Step> advance_header(std::string& buffer);
  void begin();

  std::unique_ptr<Beast> beast_;
  std::size_t header_bytes_max_;
  std::size_t header_bytes_ = 0;
  BodyExpected body_;
  bool header_done_ = false;
  Response response_;
};

}  // namespace aether::http
