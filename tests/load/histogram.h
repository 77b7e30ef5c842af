// SPDX-License-Identifier: Apache-2.0
// Latencies as HdrHistogram counts them: each power of two in 64 equal buckets, so that a quantile
// is at most 1.6 % too high, from a microsecond to an hour.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdint>

namespace aether::load {

class Histogram {
 public:
  void add(std::chrono::nanoseconds latency) {
    auto const us = static_cast<std::uint64_t>(std::max<std::int64_t>(latency.count() / 1000, 1));
    ++counts_[std::min(bucket_of(us), counts_.size() - 1)];
    ++total_;
    max_ = std::max(max_, us);
  }
  /// In microseconds; 0 if there is nothing.
  [[nodiscard]] std::uint64_t quantile(double q) const {
    auto const wanted = static_cast<std::uint64_t>(std::ceil(q * static_cast<double>(total_)));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      seen += counts_[i];
      if (seen >= wanted && seen > 0) return std::min(max_, end_of(i));
    }
    return 0;
  }
  [[nodiscard]] std::uint64_t max() const { return max_; }

 private:
  static constexpr unsigned kBits = 6;
  static constexpr std::size_t kParts = std::size_t{1} << kBits;

  static std::size_t bucket_of(std::uint64_t us) {
    if (us < kParts) return us;
    unsigned const shift = static_cast<unsigned>(std::bit_width(us)) - kBits - 1;
    return kParts * (shift + 1) + ((us >> shift) - kParts);
  }
  /// The highest value that is counted in the bucket.
  static std::uint64_t end_of(std::size_t bucket) {
    if (bucket < kParts) return bucket;
    std::size_t const shift = bucket / kParts - 1;
    return ((bucket % kParts + kParts + 1) << shift) - 1;
  }

  std::array<std::uint64_t, kParts * 27> counts_{};
  std::uint64_t total_ = 0;
  std::uint64_t max_ = 0;
};

}  // namespace aether::load
