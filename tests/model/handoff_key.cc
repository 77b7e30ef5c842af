// SPDX-License-Identifier: Apache-2.0
// All of a world that its future depends on, as bytes.
#include "handoff_world.h"

namespace aether::model {

using namespace relay;

namespace {

struct Bytes {
  std::string text;
  void add(std::integral auto value) { text.push_back(static_cast<char>(value)); }
  template <class Enum>
    requires std::is_enum_v<Enum>
  void add(Enum value) {
    text.push_back(static_cast<char>(value));
  }
  void add(std::optional<Updates> const& value) { add(value ? *value + 1 : 0); }
  void add(RevisionId revision) { add(revision.value); }
  void add(Channel const& channel) {
    add(channel.size);
    for (std::size_t i = 0; i < channel.size; ++i) {
      Message const& message = channel.queue.at(i);
      add(message.kind);
      add(message.memory + (message.damaged ? 0x80 : 0));
    }
  }
};

void add_swap(Bytes& bytes, SwapState const& state) {
  bytes.add(state.index());
  std::visit(
      [&](auto const& s) {
        if constexpr (requires { s.serving; }) bytes.add(s.serving);
        if constexpr (requires { s.old; }) {
          bytes.add(s.old);
          bytes.add(s.next);
          bytes.add(s.steered);
          bytes.add(s.old_alive);
          bytes.add(s.memory);
        }
        if constexpr (requires { s.stage; }) bytes.add(s.stage);
        if constexpr (requires { s.asked_memory; }) bytes.add(s.asked_memory);
        if constexpr (requires { s.next_ready; }) bytes.add(s.next_ready);
        if constexpr (requires { s.forgets; }) bytes.add(s.forgets);
        if constexpr (requires { s.next_served; }) bytes.add(s.next_served);
        if constexpr (requires { s.rollback; }) bytes.add(!s.rollback.empty());
        if constexpr (requires { s.killed; }) bytes.add(s.killed);
      },
      state);
}

void add_process(Bytes& bytes, Process const& p) {
  bytes.add(p.life);
  if (p.life == Process::Life::None) return;
  bytes.add(p.gate);
  bytes.add(p.owns + 2 * p.has_attached + 4 * p.ready + 8 * p.connected + 16 * p.stop_asked);
  bytes.add(p.reached + 2 * p.late + 4 * p.broke + 8 * p.keeps);
  bytes.add(p.memory);
  bytes.add(p.attached);
  bytes.add(p.in);
  bytes.add(p.out);
}

void add_session(Bytes& bytes, Session const& s) {
  bytes.add(s.open + 2 * s.load_asked);
  bytes.add(s.exchange);
  bytes.add(s.swap);
  bytes.add(s.resumes_unanswered);
}

}  // namespace

std::string HandoffWorld::key() const {
  Bytes bytes;
  bytes.text.reserve(120);
  add_swap(bytes, swap_);
  for (std::size_t at = 0; at < revisions_; ++at) {
    add_process(bytes, processes_.at(at));
    add_session(bytes, sessions_.at(at));
    auto const& retirement = retirements_.at(at);
    bytes.add(retirement ? 1 + static_cast<int>(retirement->stage) : 0);
    bytes.add(retirement && retirement->hurried);
    bytes.add(lanes_.at(at));
    bytes.add(lane_to_retire_.at(at) + 2 * queue_watched_.at(at) + 4 * drain_watched_.at(at) +
              8 * release_waits_.at(at));
  }
  bytes.add(revisions_);
  bytes.add(steered_ + 4 * serving_ + 16 * resuming_);
  bytes.add(swap_runs_ + 2 * preflight_ + 4 * judge_ + 8 * next_asked_ + 16 * reload_waits_ +
            32 * restart_ + 64 * forgets_);
  bytes.add(swap_number_ + 8 * verdicts_ + 32 * export_waits_);
  bytes.add(memory_);
  bytes.add(reclaimed_);
  bytes.add(orphaned_);
  bytes.add(accepted_);
  bytes.add(excused_);
  bytes.add(sent_);
  bytes.add(faults_ + 16 * wishes_);
  return std::move(bytes.text);
}

}  // namespace aether::model
