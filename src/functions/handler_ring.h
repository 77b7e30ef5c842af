// SPDX-License-Identifier: Apache-2.0
// HandlerRing: the two rings between Aether and one instance with `ipc: ring`: one sealed memfd,
// and a pipe in each direction to wake the other side. Pipes, not eventfds: every language can wait
// for a pipe, and its end tells that the other side is gone. The instance inherits its three ends
// (kRingDescriptors); a copy has fresh ones in place of its original's.
//
// One thread at a time: the control plane's until the instance is offered to the gateway, then the
// gateway's until it has been withdrawn there.
#pragma once
#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "functions/ring_exchange.h"
#include "os/unique_fd.h"

namespace aether::functions {

/// What a handler did to its rings. Nothing that it says afterwards can be believed.
struct RingFault {
  enum class Kind : std::uint8_t {
    Checksum,  ///< A record does not have the CRC that it names.
    Sequence,  ///< A record is missing, or is told twice.
    Record,    ///< A length, or a position, that cannot be.
    Message,   ///< A record that is well, with a message that is nonsense.
  };
  Kind kind = Kind::Message;
  std::string why;  ///< For the client, the log and a person.
};
/// "checksum", as metrics have it.
[[nodiscard]] std::string_view name_of(RingFault::Kind kind);

class HandlerRing {
 public:
  /// @param size Bytes of both rings together (shm_buffer_size).
  [[nodiscard]] static Result<std::shared_ptr<HandlerRing>> create(std::uint64_t size);
  ~HandlerRing();
  HandlerRing(HandlerRing const&) = delete;
  HandlerRing& operator=(HandlerRing const&) = delete;

  /// The instance's ends, in the order of kRingDescriptors.
  [[nodiscard]] std::vector<int> handler_ends() const;
  /// The instance has them.
  void close_handler_ends();
  /// Readable when the handler has written; ends when it is gone. Does not block.
  [[nodiscard]] int wake_fd() const;

  [[nodiscard]] RingExchange& exchange();
  /// Takes what the handler has written. True: there is more, and others should have their turn.
  [[nodiscard]] std::expected<bool, RingFault> receive();
  /// Writes the exchange's outbox as far as there is room, and wakes the handler if it waits.
  /// False: the ring is spoiled, as receive() will say.
  bool send();

  /// Whether the handler has said hello through it. The control plane's question.
  [[nodiscard]] bool is_attached();
  /// What is_attached() found wrong; or empty.
  [[nodiscard]] std::string const& complaint() const;

 private:
  struct State;
  explicit HandlerRing(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace aether::functions
