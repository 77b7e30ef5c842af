// SPDX-License-Identifier: Apache-2.0
#include "jobs/ids.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/check.h"
#include "base/json.h"
#include "journal/hash.h"

namespace aether::jobs {
namespace {

constexpr std::size_t kUuidBytes = 16;
constexpr std::size_t kRandomBytes = 8;

bool is_hyphen_place(std::size_t at) {
  return at == 8 || at == 13 || at == 18 || at == 23;
}

/// RFC 4648 section 5, without padding.
std::string base64url(journal::Hash const& hash) {
  std::string text = journal::to_base64(hash.view());
  while (text.ends_with('=')) text.pop_back();
  std::ranges::replace(text, '+', '-');
  std::ranges::replace(text, '/', '_');
  return text;
}

}  // namespace

RunId make_run_id(WallTime at, std::string_view random) {
  AETHER_CHECK(random.size() == kRandomBytes, "a run id needs 8 random bytes");
  auto const since = std::chrono::floor<std::chrono::milliseconds>(at.time_since_epoch());
  auto const time = static_cast<std::uint64_t>(since.count());
  Duration const beyond = at.time_since_epoch() - since;
  // RFC 9562, section 6.2, method 3: runs of one millisecond are in the order of their times, too.
  auto const fraction = static_cast<std::uint64_t>(beyond.count()) * 4096 / 1'000'000;
  std::array<std::uint8_t, kUuidBytes> bytes{};
  for (std::size_t i = 0; i < 6; ++i) {
    bytes[i] = static_cast<std::uint8_t>(time >> (40U - 8U * i) & 0xFFU);
  }
  for (std::size_t i = 0; i < kRandomBytes; ++i) {
    bytes[8 + i] = static_cast<std::uint8_t>(random[i]);
  }
  bytes[6] = static_cast<std::uint8_t>(fraction >> 8U | 0x70U);  // Version 7,
  bytes[7] = static_cast<std::uint8_t>(fraction & 0xFFU);
  bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3FU) | 0x80U);  // and the variant.
  std::string text;
  text.reserve(36);
  for (std::uint8_t const byte : bytes) {
    if (is_hyphen_place(text.size())) text += '-';
    constexpr std::string_view kDigits = "0123456789abcdef";
    text += kDigits[byte >> 4U];
    text += kDigits[byte & 0x0FU];
  }
  return RunId{std::move(text)};
}

Result<RunId> parse_run_id(std::string_view text) {
  bool good = text.size() == 36;
  for (std::size_t at = 0; good && at < text.size(); ++at) {
    char const c = text[at];
    bool const digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
    good = is_hyphen_place(at) ? c == '-' : digit;
  }
  if (good) return RunId{std::string(text)};
  return fail(ErrorCode::RequestInvalid,
              fmt::format("'{}' is not the id of a run: it is a UUID in lower case, such as "
                          "0193a6c1-7e4b-7d3c-9f00-2b6d1c5e8a47",
                          text.substr(0, 64)));
}

std::string effect_id(RunId const& run, std::string_view path, std::string_view tool,
                      std::uint32_t occurrence) {
  std::string const number = std::to_string(occurrence);
  return base64url(journal::sha256(
      {fmt::format("{}:", run.text.size()), run.text, fmt::format("{}:", path.size()), path,
       fmt::format("{}:", tool.size()), tool, fmt::format("{}:", number.size()), number}));
}

std::string content_hash(std::string_view canonical) {
  return base64url(journal::sha256({canonical}));
}

std::string value_hash(boost::json::value const& value) {
  return content_hash(canonical_json(value));
}

}  // namespace aether::jobs
