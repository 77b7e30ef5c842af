// SPDX-License-Identifier: Apache-2.0
// Every CRC-32C and CRC-32 kernel that this CPU can run, beside memcpy of the same size.
#include <cstring>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/checksum_kernels.h"

namespace aether::checksum {
namespace {

std::vector<std::byte> some_bytes(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t at = 0; at < size; ++at) bytes[at] = static_cast<std::byte>(at * 131 >> 3);
  return bytes;
}

void run_kernel(benchmark::State& state, Kernel kernel) {
  std::vector<std::byte> const bytes = some_bytes(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(kernel(~0U, bytes.data(), bytes.size()));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

void run_memcpy(benchmark::State& state) {
  std::vector<std::byte> const bytes = some_bytes(static_cast<std::size_t>(state.range(0)));
  std::vector<std::byte> copy(bytes.size());
  for (auto _ : state) {
    std::memcpy(copy.data(), bytes.data(), bytes.size());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

int const kRegistered = [] {
  auto const sizes = [](benchmark::internal::Benchmark* bench) {
    for (int const size : {64, 1024, 4096, 50 << 10, 256 << 10, 4 << 20, 256 << 20}) {
      bench->Arg(size);
    }
  };
  for (Implementation const& each : implementations()) {
    std::string const name = "crc32c/" + std::string(each.name);
    sizes(benchmark::RegisterBenchmark(name.c_str(), run_kernel, each.kernel));
  }
  for (Implementation const& each : crc32_implementations()) {
    std::string const name = "crc32/" + std::string(each.name);
    sizes(benchmark::RegisterBenchmark(name.c_str(), run_kernel, each.kernel));
  }
  sizes(benchmark::RegisterBenchmark("memcpy", run_memcpy));
  return 0;
}();

}  // namespace
}  // namespace aether::checksum
