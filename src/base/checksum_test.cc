// SPDX-License-Identifier: Apache-2.0
#include "base/checksum.h"

#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/checksum_kernels.h"
#include "base/checksum_polynomial.h"

namespace aether::checksum {
namespace {

std::uint32_t run(Kernel kernel, std::span<std::byte const> bytes, std::uint32_t crc = 0) {
  return ~kernel(~crc, bytes.data(), bytes.size());
}

std::uint32_t run(Kernel kernel, std::string_view text) {
  return run(kernel, std::as_bytes(std::span(text)));
}

std::vector<std::byte> random_bytes(std::size_t size, std::mt19937_64& random) {
  std::vector<std::byte> bytes(size);
  std::ranges::generate(bytes, [&] { return static_cast<std::byte>(random()); });
  return bytes;
}

TEST(Checksum, GivesTheVectorsOfRfc3720InEveryImplementation) {
  std::string ascending(32, '\0');
  for (int at = 0; at < 32; ++at) ascending[static_cast<std::size_t>(at)] = static_cast<char>(at);
  std::string const descending(ascending.rbegin(), ascending.rend());
  // An iSCSI SCSI Read (10) command PDU, RFC 3720 appendix B.4.
  std::array<unsigned char, 48> const pdu{
      0x01, 0xc0, 0, 0,    0, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0,
      0,    0,    0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0,    0};
  for (Implementation const& each : implementations()) {
    SCOPED_TRACE(each.name);
    EXPECT_EQ(run(each.kernel, std::string(32, '\0')), 0x8A9136AAU);
    EXPECT_EQ(run(each.kernel, std::string(32, '\xFF')), 0x62A8AB43U);
    EXPECT_EQ(run(each.kernel, ascending), 0x46DD794EU);
    EXPECT_EQ(run(each.kernel, descending), 0x113FDB5CU);
    EXPECT_EQ(run(each.kernel, std::as_bytes(std::span(pdu))), 0xD9963A56U);
    EXPECT_EQ(run(each.kernel, "123456789"), 0xE3069283U);
    EXPECT_EQ(run(each.kernel, ""), 0U);
  }
}

// Both checksums: the fast ways against the table, which the vectors above and below hold.
struct Family {
  Kernel table;
  std::span<Implementation const> all;
};
std::array<Family, 2> families() {
  return {Family{crc32c_table, implementations()}, Family{crc32_table, crc32_implementations()}};
}

TEST(Checksum, GivesTheValuesOfZlibInEveryImplementation) {
  // From Python: zlib.crc32(bytes), with `ascending` as in RFC 3720's vectors.
  std::string ascending;
  for (int at = 0; at < 1000; ++at) ascending.push_back(static_cast<char>(at % 251));
  for (Implementation const& each : crc32_implementations()) {
    SCOPED_TRACE(each.name);
    EXPECT_EQ(run(each.kernel, "123456789"), 0xCBF43926U);
    EXPECT_EQ(run(each.kernel, ""), 0U);
    EXPECT_EQ(run(each.kernel, std::string(32, '\0')), 0x190A55ADU);
    EXPECT_EQ(run(each.kernel, std::string(32, '\xFF')), 0xFF6CAB0BU);
    EXPECT_EQ(run(each.kernel, ascending.substr(0, 16)), 0xCECEE288U);
    EXPECT_EQ(run(each.kernel, ascending.substr(0, 100)), 0x58C932F5U);
    EXPECT_EQ(run(each.kernel, ascending), 0x721746A6U);
  }
}

TEST(Checksum, AgreesBetweenImplementationsForEveryLengthUpToTwoKilobytes) {
  std::mt19937_64 random(1);
  std::vector<std::byte> const bytes = random_bytes(2048 + 64, random);
  for (std::size_t size = 0; size <= 2048; ++size) {
    std::span const part = std::span(bytes).subspan(size % 64, size);
    for (Family const& family : families()) {
      std::uint32_t const expected = run(family.table, part);
      for (Implementation const& each : family.all) {
        ASSERT_EQ(run(each.kernel, part), expected) << each.name << " of " << size << " bytes";
      }
    }
  }
}

TEST(Checksum, AgreesForRandomLengthsAlignmentsAndSplits) {
  std::mt19937_64 random(2);
  std::vector<std::byte> const bytes = random_bytes(200'000, random);
  for (int round = 0; round < 300; ++round) {
    std::size_t const begin = random() % 300;
    std::size_t const size = random() % (bytes.size() - begin);
    std::size_t const split = size == 0 ? 0 : random() % size;
    auto const seed = static_cast<std::uint32_t>(random());
    std::span const part = std::span(bytes).subspan(begin, size);
    for (Family const& family : families()) {
      std::uint32_t const expected = run(family.table, part, seed);
      for (Implementation const& each : family.all) {
        SCOPED_TRACE(each.name);
        ASSERT_EQ(run(each.kernel, part, seed), expected);
        std::uint32_t const head = run(each.kernel, part.first(split), seed);
        ASSERT_EQ(run(each.kernel, part.subspan(split), head), expected);
      }
    }
  }
}

TEST(Checksum, ChoosesTheFirstImplementationAndAlwaysHasTheTable) {
  EXPECT_EQ(crc32c_implementation(), implementations().front().name);
  EXPECT_EQ(implementations().back().name, "table");
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c("6789", crc32c("12345")), 0xE3069283U);
  EXPECT_EQ(crc32_implementation(), crc32_implementations().front().name);
  EXPECT_EQ(crc32_implementations().back().name, "table");
  EXPECT_EQ(crc32("123456789"), 0xCBF43926U);
  EXPECT_EQ(crc32("6789", crc32("12345")), 0xCBF43926U);
}

TEST(ChecksumPolynomial, DividesAsBarrettsReductionNeedsIt) {
  EXPECT_EQ(whole_modulus<kZlib>(), 0x1DB710641U);
  // quotient * modulus differs from x^64 only below x^32: reflected, only in the upper 32 bits.
  unsigned __int128 product = 0;
  for (int bit = 0; bit <= 32; ++bit) {
    if ((barrett_quotient<kZlib>() >> bit & 1) != 0) {
      product ^= static_cast<unsigned __int128>(whole_modulus<kZlib>()) << bit;
    }
  }
  EXPECT_EQ(static_cast<std::uint64_t>(product & 0x1FFFFFFFF), 1U);
}

TEST(ChecksumPolynomial, MultipliesAsRepeatedShiftsDo) {
  std::uint32_t power = 0x80000000;
  for (std::uint64_t exponent = 0; exponent < 3000; ++exponent) {
    ASSERT_EQ(x_to_the(exponent), power);
    power = times_x(power);
  }
}

}  // namespace
}  // namespace aether::checksum
