// SPDX-License-Identifier: Apache-2.0
// The ways by which ring-driver sends messages from one process to another.
#pragma once
#include <time.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace aether::bench {

inline std::uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

/// What both processes see of a measurement.
struct Shared {
  static constexpr std::size_t kRoundsMax = 100'000'000;
  std::atomic<std::uint64_t> ready;
  alignas(128) std::atomic<std::uint64_t> heard;
  alignas(128) std::uint64_t took[1'000'000];
};

/// One way between two processes, made before they part.
class Way {
 public:
  virtual ~Way() = default;
  virtual void begin_writing() {}
  virtual void begin_reading() {}
  /// One message, told to the reader at once.
  virtual void write(std::span<std::byte const> message) = 0;
  /// One of many: the reader may be told later, at the latest by finish().
  virtual void write_more(std::span<std::byte const> message) { write(message); }
  virtual void finish() {}
  /// One message; the number in its first eight bytes. Looks for it, or sleeps until it comes.
  virtual std::uint64_t read(bool sleep) = 0;
  virtual void read_many(std::size_t count) = 0;
};

/// By its name; nullptr if there is none such.
std::unique_ptr<Way> make_way(std::string const& name);

}  // namespace aether::bench
