// SPDX-License-Identifier: Apache-2.0
// Any bytes, in any pieces, as a request or as an answer: they parse or are refused, the same
// whatever the pieces are, and what is written from them parses again.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "functions/gateway_rewrite.h"
#include "functions/proxy_body.h"
#include "functions/proxy_head.h"

using namespace aether::functions;

namespace {

/// Length of the head; 0 if there is none.
std::size_t find_head(std::string_view bytes, std::size_t piece, bool lenient) {
  HeadScan scan;
  scan.lenient = lenient;
  for (std::size_t came = 0; came < bytes.size();) {
    came = std::min(bytes.size(), came + piece);
    auto const step = scan.advance(bytes.substr(0, came));
    if (step == HeadScan::Step::Done) return scan.length();
    if (step == HeadScan::Step::BareLineEnd) return 0;
  }
  return 0;
}

struct Taken {
  std::size_t bytes = 0;
  bool done = false;
  bool bad = false;
  std::string plain;
};

Taken take(BodyFrame frame, std::string_view bytes, std::size_t piece) {
  BodyMeter meter(frame);
  Taken taken;
  while (taken.bytes < bytes.size() && !meter.done() && !meter.bad()) {
    std::size_t const came = meter.take(bytes.substr(taken.bytes, piece), &taken.plain);
    taken.bytes += came;
    AETHER_CHECK(came > 0 || meter.bad());
  }
  taken.done = meter.done();
  taken.bad = meter.bad();
  return taken;
}

void check_body(BodyFrame frame, std::string_view bytes, std::size_t piece) {
  Taken const whole = take(frame, bytes, bytes.size());
  Taken const pieces = take(frame, bytes, piece);
  AETHER_CHECK(whole.bytes == pieces.bytes && whole.done == pieces.done &&
               whole.bad == pieces.bad && whole.plain == pieces.plain);
}

void check_request(std::string_view bytes, std::size_t piece) {
  std::size_t const length = find_head(bytes, piece, false);
  AETHER_CHECK(length == find_head(bytes, bytes.size(), false));
  if (length == 0) return;
  RequestHead request;
  auto const parsed = parse_request_head(bytes.substr(0, length), request);
  if (!parsed) {
    AETHER_CHECK(parsed.error().status >= 400 && parsed.error().status < 600);
    return;
  }
  check_body(request.body, bytes.substr(length), piece);
  std::string const written =
      write_request_head(request, {.client = "127.0.0.1", .call_id = "c", .traceparent = "t"});
  RequestHead again;
  AETHER_CHECK(find_head(written, written.size(), false) == written.size());
  AETHER_CHECK(parse_request_head(written, again).has_value());
  AETHER_CHECK(again.method == request.method && again.target == request.target &&
               again.authority == request.authority && again.body.kind == request.body.kind &&
               again.body.length == request.body.length);
}

void check_answer(std::string_view bytes, std::size_t piece) {
  std::size_t const length = find_head(bytes, piece, true);
  if (length == 0) return;
  AnswerHead answer;
  if (!parse_answer_head(bytes.substr(0, length), answer) || answer.status < 200) return;
  Relaying const relaying = choose_relaying(answer, false, false);
  std::string written;
  write_answer_head(answer, {.call_id = "c", .relaying = relaying}, written);
  AnswerHead again;
  AETHER_CHECK(find_head(written, written.size(), false) == written.size());
  AETHER_CHECK(parse_answer_head(written, again).has_value());
  AETHER_CHECK(again.status == answer.status);
  if (relaying == Relaying::Verbatim) {
    AETHER_CHECK(again.body.kind == answer.body.kind && again.body.length == answer.body.length);
    check_body(answer.body, bytes.substr(length), piece);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  if (size < 3) return 0;
  std::size_t const piece = 1U + (data[0] % 97U);
  std::string_view const bytes(reinterpret_cast<char const*>(data + 2), size - 2);
  if (data[1] % 2 == 0)
    check_request(bytes, piece);
  else
    check_answer(bytes, piece);
  return 0;
}
