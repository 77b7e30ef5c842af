// SPDX-License-Identifier: Apache-2.0
// Any bytes, cut anywhere: the decoder yields frames that encode to the same bytes, or one error.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "relay/srp_frame.h"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  using namespace aether::relay;
  if (size == 0) return 0;
  std::size_t const step = data[0] % 31 + 1;
  std::string_view bytes(reinterpret_cast<char const*>(data + 1), size - 1);
  std::string_view rest = bytes;
  FrameDecoder decoder;
  bool broken = false;
  while (!rest.empty() && !broken) {
    decoder.feed(rest.substr(0, step));
    rest.remove_prefix(std::min(step, rest.size()));
    for (;;) {
      auto frame = decoder.next();
      broken = !frame;
      if (!frame || !*frame) break;
      std::string const again = encode(**frame);
      AETHER_CHECK(bytes.substr(0, again.size()) == again);
      bytes.remove_prefix(again.size());
      auto const part = split_state(**frame);
      AETHER_CHECK(part.has_value() ==
                   (carries_state((*frame)->type) && (*frame)->payload.size() >= 4));
    }
  }
  if (broken) {
    decoder.feed("more");
    AETHER_CHECK(!decoder.next());
  }
  return 0;
}
