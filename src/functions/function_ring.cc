// SPDX-License-Identifier: Apache-2.0
// Instances with `ipc: ring`: what they are given, and how one that is not offered yet is asked.
#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "async/timers.h"
#include "async/wait_fd.h"
#include "functions/function_impl.h"
#include "functions/proxy_head.h"

namespace aether::functions {

bool Function::Impl::has_ring(Revision const& revision) {
  return revision.spec.function.ipc == config::Ipc::Ring;
}

Result<std::shared_ptr<HandlerRing>> Function::Impl::make_ring(Revision const& revision) const {
  if (!has_ring(revision)) return std::shared_ptr<HandlerRing>();
  return HandlerRing::create(revision.spec.settings.shm_buffer_size);
}

async::Task<Function::Impl::Answered> Function::Impl::ask_ring(std::shared_ptr<HandlerRing> ring,
                                                               std::string path, Duration limit) {
  Instant const deadline = deps_.clock.now() + limit;
  std::string const head = fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
  std::uint32_t const id = ring->exchange().begin(head, {}, true);
  (void)ring->send();
  Answered answered{.why = fmt::format("it was not answered within {}", humanize(limit))};
  int const fd = ring->wake_fd();
  while (deps_.clock.now() < deadline) {
    auto const received = ring->receive();
    RingExchange::Call* const call = ring->exchange().find(id);
    if (!received) answered.why = received.error().why;
    if (!received || call == nullptr) break;
    AnswerHead parsed;
    if (call->has_head && answered.status == 0 && parse_answer_head(call->head, parsed))
      answered.status = parsed.status;
    if (!call->failure.empty()) answered.why = call->failure;
    if (call->ended || !call->failure.empty() || (call->has_head && answered.status == 0)) break;
    ring->exchange().taken(id, call->body.size());
    (void)ring->send();
    if (*received) continue;
    async::Task<bool> waiting = async::readable_for(fd, deadline - deps_.clock.now());
    co_await std::move(waiting);
  }
  ring->exchange().drop(id);
  (void)ring->send();
  co_return answered;
}

}  // namespace aether::functions
