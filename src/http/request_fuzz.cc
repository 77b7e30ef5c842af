// SPDX-License-Identifier: Apache-2.0
// Any bytes, in any pieces: requests parse or are refused, within the limits.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "http/request_parser.h"

using namespace aether;
using Step = http::RequestParser::Step;

namespace {

constexpr std::size_t kHeaderBytesMax = 512;
constexpr std::size_t kBodyBytesMax = 256;

// False: the connection is over.
bool advance(http::RequestParser& parser, std::string& buffer) {
  while (true) {
    Step const step = parser.advance(buffer);
    if (step == Step::Refused) AETHER_CHECK(parser.refusal().status >= 400);
    if (step == Step::Refused || step == Step::Done) return false;
    if (step == Step::NeedMore) {
      AETHER_CHECK(buffer.size() <= kHeaderBytesMax);
      return true;
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  if (size < 1) return 0;
  std::size_t const piece = 1U + (data[0] % 97U);
  std::string_view rest(reinterpret_cast<char const*>(data + 1), size - 1);
  http::RequestParser parser(kHeaderBytesMax, kBodyBytesMax);
  std::string buffer;
  bool open = true;
  while (open && !rest.empty()) {
    std::size_t const taken = std::min(piece, rest.size());
    buffer.append(rest.substr(0, taken));
    rest.remove_prefix(taken);
    open = advance(parser, buffer);
  }
  if (!open && parser.refusal().detail.empty()) {
    http::Request const request = parser.take();
    AETHER_CHECK(request.body.size() <= kBodyBytesMax);
    AETHER_CHECK(request.path == "*" || request.path.starts_with('/'));
  }
  return 0;
}
