// SPDX-License-Identifier: Apache-2.0
// Rebuild: the system calls with which a fresh copy of a process gets open files of its own, on the
// same numbers. Pure: descriptors in, a list out.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "clone/call_list.h"
#include "clone/descriptors.h"

namespace aether::clone {

/// What a copy gets in place of what the original has open there, and wherever else it has the same
/// pipe or socket open.
struct Replacement {
  int number = 0;
  /// A descriptor of ours, of which the copy gets a duplicate whatever it may itself open; lent for
  /// the call. -1: the copy opens `path` with `flags`.
  int source = -1;
  std::string path = {};
  int flags = 0;
};
/// A unix socket that the original is connected to; the copy makes a connection of its own, and who
/// accepts it learns by SO_PEERCRED that it is the copy's.
struct Reconnection {
  std::string path;
};

/// Whether a copy answers where the original does, or elsewhere.
enum class TcpListeners : std::uint8_t {
  Shared,  ///< The same open socket: whoever accepts first has the connection.
  Own      ///< A fresh one on a port of the loopback interface that the kernel chooses.
};

/// Where a copy listens in place of the original.
struct CopiedListener {
  int descriptor = 0;               ///< Its (lowest) number in the program.
  std::uint16_t original_port = 0;  ///< The original's.
  std::uint16_t port = 0;           ///< The copy's: of 127.0.0.1, or of ::1 if `only_ipv6`.
  bool only_ipv6 = false;
  bool operator==(CopiedListener const&) const = default;
};

struct RebuildWishes {
  std::vector<Replacement> replacements;
  std::vector<Reconnection> reconnections;
  TcpListeners listeners = TcpListeners::Shared;
};

/// The table must have no obstacles. Numbers are known before they are made, because the kernel
/// always gives the lowest that is free.
class Rebuild {
 public:
  /// `channel`: the number over which `lent()` arrives; -1: there is none. All are borrowed.
  Rebuild(std::vector<Descriptor> const& table, RebuildWishes const& wishes, int channel);

  /// Whether a copy needs descriptors of ours for this.
  [[nodiscard]] static bool needs_channel(std::vector<Descriptor> const& table,
                                          RebuildWishes const& wishes);
  /// The messages to hand over before the list is performed: descriptors of ours, or (negative
  /// ones, see file_of()) files of the original that are to be opened anew.
  using Message = std::vector<int>;
  [[nodiscard]] std::vector<Message> const& lent() const { return messages_; }
  [[nodiscard]] static int file_of(int lent) { return -1 - lent; }

  void add_calls(CallList& list);
  /// Whether all got the numbers that were expected, and where the listeners are.
  [[nodiscard]] Result<std::vector<CopiedListener>> check(CallList const& performed) const;

 private:
  using Places = std::vector<Descriptor const*>;
  struct Lent {
    int what;
    Places places;
  };
  struct Single {
    std::size_t call;
    std::string what;
  };

  [[nodiscard]] Replacement const* replacement_of(Descriptor const& descriptor) const;
  template <class Same>
  [[nodiscard]] Places all_with(Same same) const;
  [[nodiscard]] std::vector<Lent> all_lent() const;
  [[nodiscard]] Places same_as(Descriptor const& first) const;
  void place(int number, Places const& places, CallList& list) const;
  void made_single(std::size_t call, std::string what, Places const& places, CallList& list);
  void take_lent(CallList& list);
  void open_replacements(CallList& list);
  void make_pipes(CallList& list);
  void make_pairs(CallList& list);
  void make_connections(CallList& list);
  void make_listeners(CallList& list);
  void make_others(CallList& list);
  void make_counter(Descriptor const& it, EventCounter const& event, CallList& list);
  void fill(Descriptor const& it, CallList& list) const;
  void fill_pipes(CallList& list) const;

  std::vector<Descriptor> const& table_;
  RebuildWishes const& wishes_;
  int channel_;
  std::vector<int> free_;  ///< Lowest free numbers.
  std::vector<Message> messages_;
  std::vector<Lent> lent_;
  // What is to be looked at when the calls were made.
  std::vector<Single> singles_;
  std::vector<CallList::Argument> pairs_;
  std::vector<std::pair<CallList::Argument, std::size_t>> receipts_;
  std::vector<std::pair<CallList::Argument, CopiedListener>> listeners_;
};

}  // namespace aether::clone
