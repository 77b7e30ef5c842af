// SPDX-License-Identifier: Apache-2.0
// A journal that is forgotten with its owner: for tests, for trying Aether out, and as the oracle
// that the other back ends are compared with. It answers from plain lists, by looking at all.
#pragma once
#include <memory>

#include "journal/journal.h"

namespace aether::journal {

/// Answers within append().
[[nodiscard]] std::unique_ptr<Journal> open_memory_journal();

}  // namespace aether::journal
