// SPDX-License-Identifier: Apache-2.0
// Rebuild: the system calls with which a fresh copy of a process gets open files of its own, on the
// same numbers. Two lists, because the kernel chooses numbers in the first that the second needs.
// Pure: descriptors in, lists out.
#pragma once
#include <cstdint>
#include <string>
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

class Rebuild {
 public:
  /// The table must have no obstacles.
  Rebuild(std::vector<Descriptor> const& table, RebuildWishes const& wishes);

  /// Makes new open files.
  void add_creation(CallList& list);
  /// Reads their numbers from the list that was performed; then puts them where the program knows
  /// them, with what belongs into them.
  void add_placement(CallList const& created, CallList& list);

 private:
  /// One new open file that takes the place of one or several numbers.
  struct Made {
    std::vector<Descriptor const*> places;
    std::size_t call = 0;         ///< In the list of creations.
    CallList::Argument pair = 0;  ///< Where a pair of numbers was put; 0: the call's result is it.
    int side = 0;                 ///< Of the pair.
  };

  [[nodiscard]] bool is_replaced(Descriptor const& descriptor) const;
  void create_replacements(CallList& list);
  void create_pipes(CallList& list);
  void create_pairs(CallList& list);
  void create_connections(CallList& list);
  void create_single(CallList& list);
  void create_files(CallList& list);
  [[nodiscard]] int number_of(CallList const& created, Made const& made) const;
  void fill(Made const& made, CallList& list) const;
  void fill_pipe(Made const& made, CallList& list) const;

  std::vector<Descriptor> const& table_;
  RebuildWishes const& wishes_;
  std::vector<Made> made_;
};

}  // namespace aether::clone
