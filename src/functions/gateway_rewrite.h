// SPDX-License-Identifier: Apache-2.0
// Inside of this room: the heads that the gateway sends on, written from those that came. Pure.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "functions/function_status.h"
#include "functions/proxy_head.h"

namespace aether::functions {

/// What the gateway adds to a request.
struct RequestFacts {
  std::string_view client;       ///< Its IP address.
  std::string_view call_id;      ///< Accepted or made.
  std::string_view traceparent;  ///< Accepted or made.
};
/// For the handler: HTTP/1.1, without what concerns this one connection only (RFC 9110, 7.6.1).
[[nodiscard]] std::string write_request_head(RequestHead const& request, RequestFacts const& facts);

/// How an answer's body goes to the client.
enum class Relaying : std::uint8_t {
  Nothing,   ///< There is none.
  Verbatim,  ///< As it came, in its chunks if it has some.
  AsChunks,  ///< It ends with the handler's connection; the client's goes on.
  Unchunked  ///< To a client that knows no chunks.
};
/// @param for_head The request was HEAD.
[[nodiscard]] Relaying choose_relaying(AnswerHead const& answer, bool for_head, bool http_1_0);

/// What the gateway adds to an answer.
struct AnswerFacts {
  std::string_view call_id;
  StartTier tier = StartTier::Warm;
  Duration queue{};               ///< Waited for room.
  std::optional<Duration> start;  ///< Waited for an instance to be made.
  Duration function{};            ///< Until the handler's first byte.
  Relaying relaying = Relaying::Nothing;
  bool keep_alive = true;
  bool http_1_0 = false;  ///< What the client speaks.
};
/// For the client; of a final answer, or of the 101 that begins a tunnel.
void write_answer_head(AnswerHead const& answer, AnswerFacts const& facts, std::string& head);
/// Of an interim answer: 100, 103.
void write_interim_head(AnswerHead const& answer, std::string& head);

/// An answer of the gateway's own.
struct OwnAnswer {
  int status = 500;
  std::string_view code;  ///< "timeout"
  std::string message;
};
[[nodiscard]] std::string write_own_answer(OwnAnswer const& answer, std::string_view function,
                                           std::string_view call_id, bool keep_alive,
                                           bool for_head);
/// 200 to a probe.
[[nodiscard]] std::string write_probe_answer(bool ready, bool keep_alive, bool for_head);

}  // namespace aether::functions
