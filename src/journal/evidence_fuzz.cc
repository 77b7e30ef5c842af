// SPDX-License-Identifier: Apache-2.0
// Any file that somebody calls evidence or growth, and any note that somebody calls a checkpoint.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "journal/checkpoint.h"
#include "journal/evidence.h"
#include "journal/growth.h"
#include "journal/json_extent.h"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  using namespace aether::journal;
  std::string_view const text(reinterpret_cast<char const*>(data), size);
  auto const evidence = parse_evidence(text);
  if (evidence) AETHER_CHECK(evidence_text(*evidence) == text);
  (void)verify_evidence(text, "");
  auto const growth = parse_growth(text);
  if (growth) AETHER_CHECK(growth_text(*growth) == text);
  (void)note_in(text);
  auto const note = parse_note(text);
  if (note) AETHER_CHECK(note_text(*note) == text);
  auto const checkpoint = parse_checkpoint_text(text);
  if (checkpoint) AETHER_CHECK(checkpoint_text(*checkpoint) == text);
  auto const key = VerifierKey::parse(text);
  if (key) AETHER_CHECK(key->text() == text);
  auto const event = parse_event_line(text);
  if (event) AETHER_CHECK(event_line(*event) == text);
  auto const extent = json_extent(text);
  if (extent) AETHER_CHECK(*extent > 0 && *extent <= text.size());
  auto const bytes = from_base64(text);
  if (bytes) AETHER_CHECK(to_base64(*bytes) == text);
  return 0;
}
