// SPDX-License-Identifier: Apache-2.0
// testdata/vectors.txt: rings byte for byte, which the peers in other languages read and write in
// their tests too. Checksums are taken bit by bit here, by other code than the ring's.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include <gmock/gmock.h>

#include "ring/testing.h"

namespace aether::ring {
namespace {

struct VectorMessage {
  unsigned type;
  unsigned flags;
  unsigned producer;
  std::string payload;
  bool operator==(VectorMessage const&) const = default;
};

struct Vector {
  std::string name;
  std::uint32_t kind;
  std::uint32_t checksum;
  std::uint64_t capacity;
  std::uint64_t start;
  std::uint64_t sequence;
  unsigned fill;
  std::vector<VectorMessage> messages;
  std::map<std::uint64_t, std::string> pieces;  // by their offset

  [[nodiscard]] std::uint64_t data_at() const {
    return aether_ring_data_offset(aether_ring_slots_of(kind));
  }
};

std::string from_hex(std::string_view text) {
  std::string bytes;
  for (std::size_t at = 0; text != "-" && at < text.size(); at += 2) {
    bytes += static_cast<char>(std::stoi(std::string(text.substr(at, 2)), nullptr, 16));
  }
  return bytes;
}

std::vector<Vector> read_vectors() {
  std::ifstream file(AETHER_RING_VECTORS);
  std::vector<Vector> all;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string word;
    std::string bytes;
    words >> word;
    if (word == "ring") {
      Vector& each = all.emplace_back();
      words >> each.name >> each.kind >> each.checksum >> each.capacity >> each.start >>
          each.sequence >> std::hex >> each.fill;
    } else if (word == "message") {
      VectorMessage& each = all.back().messages.emplace_back();
      words >> each.type >> each.flags >> each.producer >> bytes;
      each.payload = from_hex(bytes);
    } else if (word == "at") {
      std::uint64_t at = 0;
      words >> at >> bytes;
      all.back().pieces[at] = from_hex(bytes);
    }
  }
  return all;
}

// The ring's memory: as `vector` says it is before anything is written, or afterwards.
std::string image_of(Vector const& vector, bool written) {
  std::uint64_t const data = vector.data_at();
  std::string image(data, '\0');
  image.append(vector.capacity, static_cast<char>(vector.fill));
  image.replace(data + vector.start % vector.capacity, 8, 8, '\0');
  for (std::uint32_t slot = 0; slot < aether_ring_slots_of(vector.kind); ++slot) {
    image.replace(aether_ring_slot_at(slot), 8, 8, '\xff');
  }
  std::uint64_t const slot = aether_ring_slot_at(vector.messages.front().producer);
  image.replace(0, 80, vector.pieces.at(0));
  std::memcpy(image.data() + AETHER_RING_AT_HEAD, &vector.start, 8);
  std::memcpy(image.data() + AETHER_RING_AT_TAIL, &vector.start, 8);
  std::memcpy(image.data() + slot + 8, &vector.sequence, 8);
  if (!written) return image;
  for (auto const& [at, bytes] : vector.pieces) image.replace(at, bytes.size(), bytes);
  return image;
}

RingMemory memory_of(std::string const& image) {
  os::UniqueFd fd(::memfd_create("vector", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(::write(fd.get(), image.data(), image.size()), static_cast<ssize_t>(image.size()));
  EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
  return must(RingMemory::adopt(std::move(fd)));
}

std::uint32_t crc_bit_by_bit(std::uint32_t polynomial, std::string_view bytes, std::uint32_t crc) {
  crc = ~crc;
  for (char const byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? polynomial : 0);
  }
  return ~crc;
}

TEST(RingVectors, AreReadAsTheyWereWritten) {
  std::vector<Vector> const all = read_vectors();
  ASSERT_GE(all.size(), 10U);
  for (Vector const& vector : all) {
    for (Peer const peer : {Peer::Hostile, Peer::Trusted}) {
      RingMemory const memory = memory_of(image_of(vector, true));
      Consumer in = must(Consumer::attach(memory.ring(), peer));
      std::vector<VectorMessage> got;
      std::uint64_t due = vector.sequence;
      must(in.drain(100, [&](Message const& each) {
        got.push_back({each.type, each.flags, each.producer, as_text(each.payload)});
        EXPECT_EQ(each.sequence, due++) << vector.name;
      }));
      EXPECT_EQ(got, vector.messages) << vector.name;
      std::string const tail = vector.pieces.at(AETHER_RING_AT_TAIL);
      EXPECT_EQ(std::memcmp(&in.core().next, tail.data(), 8), 0) << vector.name;
    }
  }
}

TEST(RingVectors, AreWrittenByteForByte) {
  for (Vector const& vector : read_vectors()) {
    RingMemory const memory = memory_of(image_of(vector, false));
    std::vector<Producer> outs;
    while (outs.size() <= vector.messages.front().producer)
      outs.push_back(must(Producer::attach(memory.ring())));
    for (VectorMessage const& each : vector.messages) {
      auto room =
          must(outs.back().claim(static_cast<std::uint16_t>(each.type),
                                 static_cast<std::uint16_t>(each.flags), each.payload.size()));
      ASSERT_TRUE(room.has_value()) << vector.name;
      std::ranges::copy(bytes_of(each.payload), room->begin());
      outs.back().commit(each.payload.size());
    }
    std::string due = image_of(vector, true);
    std::string got(reinterpret_cast<char const*>(memory.ring().base), memory.ring().total);
    for (std::uint32_t slot = 0; slot < memory.ring().slots; ++slot) {
      got.replace(aether_ring_slot_at(slot) + 16, 24, 24, '\0');  // Who is attached.
    }
    auto const [left, right] = std::ranges::mismatch(got, due);
    EXPECT_TRUE(left == got.end()) << vector.name << " at " << left - got.begin();
  }
}

TEST(RingVectors, HaveChecksumsThatAreRightBitByBit) {
  std::size_t checked = 0;
  for (Vector const& vector : read_vectors()) {
    std::string const& header = vector.pieces.at(0);
    std::uint32_t sum = 0;
    std::memcpy(&sum, header.data() + AETHER_RING_AT_CRC, 4);
    EXPECT_EQ(sum, crc_bit_by_bit(0xEDB88320, header.substr(0, AETHER_RING_AT_CRC), 0));
    std::uint32_t const polynomial = vector.checksum == 1 ? 0xEDB88320 : 0x82F63B78;
    for (auto const& [at, bytes] : vector.pieces) {
      if (at < vector.data_at() || bytes.size() < AETHER_RING_RECORD) continue;
      std::uint32_t producer = 0;
      std::memcpy(&sum, bytes.data() + 16, 4);
      std::memcpy(&producer, bytes.data() + 20, 4);
      std::string const covered = bytes.substr(0, 16) + bytes.substr(AETHER_RING_RECORD);
      EXPECT_EQ(sum, vector.checksum == 0 ? 0 : crc_bit_by_bit(polynomial, covered, producer));
      ++checked;
    }
  }
  EXPECT_GE(checked, 30U);
}

}  // namespace
}  // namespace aether::ring
