// SPDX-License-Identifier: Apache-2.0
#include "clone/call_list.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace aether::clone {
namespace {

// Data is aligned for whatever the kernel reads there.
constexpr std::size_t kAlignment = 16;

/// What an entry holds before its call was made.
constexpr std::uint64_t kNotMade = 0x8000'0000'0000'0000;

constexpr std::int64_t kErrnoMax = 4095;

// clang-format off
constexpr std::array<std::uint8_t, 60> kCallLoop{
    0x4d, 0x85, 0xe4,              //  0 next:  test r12, r12
    0x74, 0x36,                    //  3        jz   done
    0x48, 0x8b, 0x03,              //  5        mov  rax, [rbx]
    0x48, 0x8b, 0x7b, 0x08,        //  8        mov  rdi, [rbx + 8]
    0x48, 0x8b, 0x73, 0x10,        // 12        mov  rsi, [rbx + 16]
    0x48, 0x8b, 0x53, 0x18,        // 16        mov  rdx, [rbx + 24]
    0x4c, 0x8b, 0x53, 0x20,        // 20        mov  r10, [rbx + 32]
    0x4c, 0x8b, 0x43, 0x28,        // 24        mov  r8,  [rbx + 40]
    0x4c, 0x8b, 0x4b, 0x30,        // 28        mov  r9,  [rbx + 48]
    0x0f, 0x05,                    // 32        syscall
    0x48, 0x89, 0x43, 0x38,        // 34        mov  [rbx + 56], rax
    0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff,  // 38  cmp  rax, -4095
    0x73, 0x0d,                    // 44        jae  done
    0x48, 0x83, 0xc3, 0x40,        // 46        add  rbx, 64
    0x49, 0xff, 0xcc,              // 50        dec  r12
    0xeb, 0xc9,                    // 53        jmp  next
    0x90, 0x90, 0x90, 0x90,        // 55
    0xcc,                          // 59 done:  int3
};
// clang-format on
static_assert(sizeof(CallList::Entry) == 64);

}  // namespace

std::span<std::byte const> call_loop() {
  return std::as_bytes(std::span(kCallLoop));
}

std::size_t CallList::call(std::string_view what, long number,
                           std::initializer_list<Argument> arguments) {
  Entry entry{.number = static_cast<std::uint64_t>(number), .result = kNotMade};
  std::ranges::copy(arguments, entry.arguments.begin());
  entries_.push_back(entry);
  names_.emplace_back(what);
  return entries_.size() - 1;
}

CallList::Argument CallList::place(std::span<std::byte const> bytes) {
  auto const address = base_ + data_.size();
  data_.insert(data_.end(), bytes.begin(), bytes.end());
  data_.resize((data_.size() + kAlignment - 1) / kAlignment * kAlignment);
  return address;
}

CallList::Argument CallList::place_text(std::string const& text) {
  return place(std::as_bytes(std::span(text.c_str(), text.size() + 1)));
}

std::optional<std::vector<std::byte>> CallList::image() const {
  if (data_.size() + bytes_of_entries() > capacity_) return std::nullopt;
  auto bytes = data_;
  auto const entries = std::as_bytes(std::span(entries_));
  bytes.insert(bytes.end(), entries.begin(), entries.end());
  return bytes;
}

std::uint64_t CallList::entries_at() const {
  return base_ + data_.size();
}

void CallList::set_results(std::span<Entry const> entries) {
  std::ranges::copy(entries, entries_.begin());
}

void CallList::set_performed(std::span<std::byte const> image) {
  auto const data = image.first(data_.size());
  std::ranges::copy(data, data_.begin());
  auto const entries = image.subspan(data_.size());
  std::memcpy(entries_.data(), entries.data(), std::min(entries.size(), bytes_of_entries()));
}

std::int64_t CallList::result(std::size_t place) const {
  return static_cast<std::int64_t>(entries_[place].result);
}

std::optional<std::string> CallList::failure() const {
  for (std::size_t place = 0; place < entries_.size(); ++place) {
    if (entries_[place].result == kNotMade) return names_[place] + ": was not reached";
    auto const value = result(place);
    if (value < 0 && value >= -kErrnoMax) {
      return fmt::format("{}: {}", names_[place], std::strerror(static_cast<int>(-value)));
    }
  }
  return std::nullopt;
}

}  // namespace aether::clone
