// SPDX-License-Identifier: Apache-2.0
#include "relay/srp_frame.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/checksum.h"

namespace aether::relay {
namespace {

namespace fs = std::filesystem;

/// docs/srp.md of the tree this test was built in; looked for upwards from the test's own file.
std::string protocol_page() {
  for (fs::path at = fs::read_symlink("/proc/self/exe").parent_path(); at != at.root_path();
       at = at.parent_path()) {
    if (!fs::exists(at / "docs" / "srp.md")) continue;
    std::ifstream file(at / "docs" / "srp.md");
    return {std::istreambuf_iterator<char>(file), {}};
  }
  return {};
}

std::string to_hex(std::string_view bytes) {
  std::string hex;
  for (unsigned char byte : bytes) hex += fmt::format("{:02x}", byte);
  return hex;
}

std::string big_endian(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
          static_cast<char>(value >> 8), static_cast<char>(value)};
}

std::string golden_payload(std::string_view text) {
  if (text.starts_with("crc32c:")) {
    text.remove_prefix(7);
    return big_endian(crc32c(text)).append(text);
  }
  if (text.starts_with("crc32:")) {
    text.remove_prefix(6);
    return big_endian(crc32_zlib(text)).append(text);
  }
  return std::string(text);
}

FrameType type_of(std::string_view name) {
  for (unsigned type = 0; type < 256; ++type) {
    if (frame_name(static_cast<FrameType>(type)) == name) return static_cast<FrameType>(type);
  }
  ADD_FAILURE() << "no frame type is called " << name;
  return FrameType::Error;
}

struct Golden {
  Frame frame;
  std::string hex;
};

std::vector<Golden> golden_frames() {
  std::istringstream page(protocol_page());
  std::vector<Golden> frames;
  bool inside = false;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("```")) inside = line == "```golden";
    if (!inside || line.starts_with("```")) continue;
    std::size_t const name_end = line.find(' ');
    std::size_t const arrow = line.rfind(" => ");
    std::string hex = line.substr(arrow + 4);
    std::erase(hex, ' ');
    std::string const payload = line.substr(name_end + 6, arrow - name_end - 6);
    frames.push_back(
        {{type_of(line.substr(0, name_end)),
          static_cast<std::uint16_t>(std::stoul(line.substr(name_end + 1, 4), nullptr, 16)),
          golden_payload(payload)},
         hex});
  }
  return frames;
}

Result<std::vector<Frame>> decode_all(std::string_view bytes, std::size_t step) {
  FrameDecoder decoder;
  std::vector<Frame> frames;
  for (; !bytes.empty(); bytes.remove_prefix(std::min(step, bytes.size()))) {
    decoder.feed(bytes.substr(0, step));
    for (;;) {
      TRY_ASSIGN(auto frame, decoder.next());
      if (!frame) break;
      frames.push_back(std::move(*frame));
    }
  }
  return frames;
}

std::string header(std::uint32_t length, std::uint32_t magic, char version, unsigned type,
                   std::uint16_t flags) {
  std::string bytes = big_endian(length) + big_endian(magic) + version + static_cast<char>(type);
  return bytes + static_cast<char>(flags >> 8) + static_cast<char>(flags);
}

TEST(SrpFrame, MatchesTheGoldenBytesOfTheProtocolPage) {
  auto const frames = golden_frames();
  ASSERT_GE(frames.size(), 18U);
  for (Golden const& golden : frames) {
    EXPECT_EQ(to_hex(encode(golden.frame)), golden.hex) << frame_name(golden.frame.type);
  }
}

TEST(SrpFrame, DecodesWhatItEncodesHoweverTheStreamIsCut) {
  std::string stream;
  std::vector<Frame> sent;
  for (Golden const& golden : golden_frames()) {
    sent.push_back(golden.frame);
    stream += encode(golden.frame);
  }
  for (std::size_t step : {1U, 2U, 3U, 7U, 11U, 12U, 13U, 64U, 4096U}) {
    auto const got = decode_all(stream, step);
    ASSERT_TRUE(got) << got.error().describe();
    EXPECT_EQ(*got, sent) << "in steps of " << step;
  }
}

TEST(SrpFrame, RefusesEveryHeaderThatBreaksTheRules) {
  constexpr auto kLimit = static_cast<std::uint32_t>(kControlPayloadMax + 8);
  constexpr auto kStateLimit = static_cast<std::uint32_t>(kStatePayloadMax + 8);
  std::map<std::string, std::string> const broken{
      {"magic", header(8, 0xAE7E2025, 1, 1, 0)},
      {"version", header(8, kFrameMagic, 2, 1, 0)},
      {"unknown type", header(8, kFrameMagic, 1, 8, 0)},
      {"type 0", header(8, kFrameMagic, 1, 0, 0)},
      {"flags on a control frame", header(8, kFrameMagic, 1, 1, kMore)},
      {"unknown flag", header(12, kFrameMagic, 1, 2, 0x8000)},
      {"pickle flag on JSON", header(12, kFrameMagic, 1, 2, kPickle)},
      {"length below the header's rest", header(7, kFrameMagic, 1, 1, 0)},
      {"length 0", header(0, kFrameMagic, 1, 1, 0)},
      {"control payload too large", header(kLimit + 1, kFrameMagic, 1, 1, 0)},
      {"state payload too large", header(kStateLimit + 1, kFrameMagic, 1, 2, 0)},
      {"largest length", header(0xFFFFFFFF, kFrameMagic, 1, 4, 0)},
      {"HTTP", "GET / HTTP/1.1\r\n\r\n"},
      {"unframed JSON", "{\"turns\": [1, 2, 3]}"},
  };
  for (auto const& [name, bytes] : broken) {
    auto const got = decode_all(bytes, 5);
    ASSERT_FALSE(got) << name;
    EXPECT_EQ(got.error().code(), ErrorCode::ProtocolViolation) << name;
  }
}

TEST(SrpFrame, TakesPayloadsUpToTheLimitAndHoldsNothingForLengthsThatAreOnlyClaimed) {
  Frame const largest{FrameType::Ack, 0, std::string(kControlPayloadMax, 'x')};
  auto const got = decode_all(encode(largest), 1 << 14);
  ASSERT_TRUE(got);
  EXPECT_EQ(got->at(0), largest);

  FrameDecoder decoder;
  decoder.feed(header(kStatePayloadMax + 8, kFrameMagic, 1, 4, 0));
  auto const nothing = decoder.next();
  ASSERT_TRUE(nothing);
  EXPECT_FALSE(*nothing);
  EXPECT_TRUE(decoder.inside_frame());
}

TEST(SrpFrame, StaysBrokenAfterAnError) {
  FrameDecoder decoder;
  decoder.feed("GET / HTTP/1.1");
  EXPECT_FALSE(decoder.next());
  decoder.feed(encode({FrameType::Load, 0, "{}"}));
  EXPECT_FALSE(decoder.next());
}

TEST(SrpFrame, ComputesTheSameCrc32AsZlib) {
  EXPECT_EQ(crc32_zlib("123456789"), 0xCBF43926U);
  EXPECT_EQ(crc32_zlib(""), 0U);
  std::string const text = "The quick brown fox jumps over the lazy dog";
  EXPECT_EQ(crc32_zlib(text), 0x414FA339U);
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    EXPECT_EQ(crc32_zlib(text.substr(cut), crc32_zlib(text.substr(0, cut))), 0x414FA339U);
  }
}

TEST(SrpFrame, ChecksumsOfStateFramesRunOverTheWholeState) {
  for (ChecksumKind kind : {ChecksumKind::Crc32c, ChecksumKind::Crc32}) {
    RunningChecksum checksum(kind);
    std::string stream;
    for (std::string_view data : {"{\"tur", "ns\":3}"}) {
      auto const prefix =
          encode_state_prefix(FrameType::StateJson, data == "{\"tur" ? kMore : 0, checksum, data);
      stream.append(prefix.data(), prefix.size()).append(data);
    }
    auto const frames = decode_all(stream, 9);
    ASSERT_TRUE(frames);
    ASSERT_EQ(frames->size(), 2U);
    auto const last = split_state(frames->at(1));
    ASSERT_TRUE(last);
    EXPECT_EQ(last->data, "ns\":3}");
    std::string_view const whole = "{\"turns\":3}";
    EXPECT_EQ(last->checksum, kind == ChecksumKind::Crc32 ? crc32_zlib(whole) : crc32c(whole));
  }
}

TEST(SrpFrame, AStateFrameWithoutRoomForItsChecksumIsRefused) {
  EXPECT_FALSE(split_state({FrameType::StateBytes, 0, "abc"}));
  EXPECT_FALSE(split_state({FrameType::Ack, 0, "abcdef"}));
}

}  // namespace
}  // namespace aether::relay
