// SPDX-License-Identifier: Apache-2.0
#include "journal/laws.h"

namespace aether::journal {

std::string_view text_of(Breach breach) {
  switch (breach) {
    case Breach::Form:
      return "the event has not the form of one";
    case Breach::Position:
      return "positions are missing before it, or come twice";
    case Breach::Sequence:
      return "events of its stream are missing before it, or come twice";
    case Breach::Fence:
      return "the fence of its stream went back";
    case Breach::SpanOpened:
      return "its span was opened before";
    case Breach::SpanClosed:
      return "its span was closed before, or never opened";
    case Breach::Key:
      return "its key was taken before";
    case Breach::Cause:
      break;
  }
  return "its cause comes after it";
}

std::vector<Breach> Laws::take(Event const& event) {
  std::vector<Breach> breaches;
  if (!check_event(event)) breaches.push_back(Breach::Form);
  bool const follows = positions_ == Positions::Gapless ? event.position.value == last_.value + 1
                                                        : event.position > last_;
  if (!follows) breaches.push_back(Breach::Position);
  last_ = event.position;
  if (event.cause && *event.cause >= event.position) breaches.push_back(Breach::Cause);
  Stream& stream = streams_[event.stream];
  if (event.sequence.value != stream.state.last.value + 1) breaches.push_back(Breach::Sequence);
  if (event.fence < stream.state.fence) breaches.push_back(Breach::Fence);
  stream.state = {.last = event.sequence, .fence = event.fence, .head = event.position};
  if (event.mark == Mark::Open && !stream.spans.try_emplace(event.span, true).second) {
    breaches.push_back(Breach::SpanOpened);
  }
  if (event.mark == Mark::Close) {
    auto const span = stream.spans.find(event.span);
    if (span == stream.spans.end() || !span->second) breaches.push_back(Breach::SpanClosed);
    stream.spans[event.span] = false;
  }
  for (std::string const& key : event.keys) {
    if (!keys_.try_emplace(key, event.position).second) breaches.push_back(Breach::Key);
  }
  return breaches;
}

}  // namespace aether::journal
