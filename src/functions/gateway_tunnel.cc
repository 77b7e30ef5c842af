// SPDX-License-Identifier: Apache-2.0
// GatewayClient: after an upgrade, bytes go both ways until both sides have ended.
#include "functions/gateway_client.h"

namespace aether::functions {

void GatewayClient::upgrade(AnswerHead const& head, std::string_view rest) {
  answer_.begun = true;
  answer_.status = 101;
  keep_alive_ = false;
  std::string bytes;
  write_answer_head(head,
                    {.call_id = request_.call_id,
                     .tier = request_.tier,
                     .queue = request_.queue,
                     .start = request_.start,
                     .function = poller().clock().now() - request_.given},
                    bytes);
  count(101, {});  // its latency is that of the upgrade: the tunnel may live for days
  state_ = State::Tunnel;
  poller().clear_alarm(*this);
  down_.send({bytes, rest});
  up_->stream.send({in_});
  in_.clear();
}

bool GatewayClient::tunnel() {
  Stream::Io const downward = carry(up_->stream, down_);
  Stream::Io const upward = carry(down_, up_->stream);
  up_ended_ |= downward == Stream::Io::End;
  down_ended_ |= upward == Stream::Io::End;
  bool const broken = downward == Stream::Io::Broken || upward == Stream::Io::Broken;
  bool const delivered = down_.kept() == 0 && up_->stream.kept() == 0;
  if (broken || (up_ended_ && down_ended_ && delivered)) {
    leave();
    return false;
  }
  return downward == Stream::Io::Some || upward == Stream::Io::Some;
}

Stream::Io GatewayClient::carry(Stream& from, Stream& to) {
  if (to.kept() > 0 || !from.readable()) return Stream::Io::Blocked;
  auto const scratch = gate_.shared().scratch;
  Stream::Got const got = from.read(scratch);
  if (got.io == Stream::Io::End) to.shut_writes();
  if (got.io != Stream::Io::Some) return got.io;
  return to.send({std::string_view(scratch.data(), got.bytes)});
}

}  // namespace aether::functions
