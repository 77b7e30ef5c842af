// SPDX-License-Identifier: Apache-2.0
// The laws of an append that are the same whatever keeps the events: which batch is refused, and
// why. Pure; the back ends say what is stored.
#pragma once
#include <map>
#include <optional>
#include <string_view>

#include "journal/journal.h"

namespace aether::journal {

[[nodiscard]] std::optional<Refusal> refused_check(StreamCheck const& check,
                                                   StreamState const& state);
/// A cause lies before its event.
[[nodiscard]] std::optional<Refusal> refused_cause(NewEvent const& event, Position at);
[[nodiscard]] Refusal unknown_blob(BlobHash const& hash);

/// The keys that the events of one batch take, in their order. The batch outlives it.
class KeysTaken {
 public:
  /// @param stored Who has the key in the store.
  [[nodiscard]] std::optional<Refusal> take(NewEvent const& event, std::string_view key,
                                            std::optional<Position> stored, Position at);

 private:
  std::map<std::string_view, Position> here_;
};

}  // namespace aether::journal
