// SPDX-License-Identifier: Apache-2.0
// CallList: system calls that a held thread is to make, with the memory that they point to, as one
// image. A loop of a few instructions in the program (kCallLoop) makes them one after the other and
// stops at the first that fails, so that a hundred calls cost one stop of the thread. Pure: nothing
// here touches a process.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace aether::clone {

class CallList {
 public:
  using Argument = std::uint64_t;
  /// One call as the loop reads it. The loop knows this layout.
  struct Entry {
    std::uint64_t number = 0;
    std::array<Argument, 6> arguments{};
    std::uint64_t result = 0;
  };

  /// The image will lie at `base` in the program, and has room for `capacity` bytes.
  CallList(std::uint64_t base, std::size_t capacity) : base_(base), capacity_(capacity) {}

  /// Appends a call; `what` is for messages. Returns its place in the list.
  std::size_t call(std::string_view what, long number, std::initializer_list<Argument> arguments);
  /// Puts bytes beside the list and returns where the program will find them.
  [[nodiscard]] Argument place(std::span<std::byte const> bytes);
  template <class T>
    requires std::is_trivially_copyable_v<T>
  [[nodiscard]] Argument place_value(T const& value) {
    return place(std::as_bytes(std::span<T const, 1>(&value, 1)));
  }
  /// With the 0 at its end.
  [[nodiscard]] Argument place_text(std::string const& text);

  [[nodiscard]] bool empty() const { return entries_.empty(); }
  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] std::uint64_t base() const { return base_; }
  /// The bytes to write at base(): the data first, the entries behind them. Nothing if they do not
  /// fit.
  [[nodiscard]] std::optional<std::vector<std::byte>> image() const;
  /// Where the entries begin, for the loop's register.
  [[nodiscard]] std::uint64_t entries_at() const;

  /// The image as it was read from the program again, with what came back.
  void set_performed(std::span<std::byte const> image);
  void set_results(std::span<Entry const> entries);
  [[nodiscard]] std::size_t bytes_of_entries() const { return entries_.size() * sizeof(Entry); }
  [[nodiscard]] std::int64_t result(std::size_t place) const;
  [[nodiscard]] std::span<std::byte const> data() const { return data_; }
  /// The value placed at this address, as it was read back.
  template <class T>
  [[nodiscard]] T value_at(Argument address) const {
    T value{};
    auto const from = data_.begin() + static_cast<std::ptrdiff_t>(address - base_);
    std::copy(from, from + sizeof(T), reinterpret_cast<std::byte*>(&value));
    return value;
  }
  /// The first call that failed, as "epoll_ctl of descriptor 7: reason"; nothing if none did.
  [[nodiscard]] std::optional<std::string> failure() const;

 private:
  std::uint64_t base_;
  std::size_t capacity_;
  std::vector<std::byte> data_;
  std::vector<Entry> entries_;
  std::vector<std::string> names_;
};

/// A number as the kernel takes it: with its sign.
[[nodiscard]] constexpr CallList::Argument arg(int value) {
  return static_cast<CallList::Argument>(static_cast<std::int64_t>(value));
}

/// The loop in machine code. Registers at its start: rbx = entries, r12 = how many. It ends at a
/// breakpoint, with r12 = how many were not made. It uses no stack.
[[nodiscard]] std::span<std::byte const> call_loop();

}  // namespace aether::clone
