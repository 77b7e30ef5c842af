// SPDX-License-Identifier: Apache-2.0
#include "functions/proxy_body.h"

#include <algorithm>
#include <limits>

#include "http/ascii.h"

namespace aether::functions {
namespace {

int hex_digit(char c) {
  if (http::is_digit(c)) return c - '0';
  char const lower = http::to_lower(c);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

}  // namespace

BodyMeter::BodyMeter(BodyFrame frame) : kind_(frame.kind) {
  switch (frame.kind) {
    case BodyKind::None:
      break;
    case BodyKind::Length:
      left_ = frame.length;
      state_ = left_ > 0 ? State::Plain : State::Done;
      break;
    case BodyKind::UntilClose:
      left_ = std::numeric_limits<std::uint64_t>::max();
      state_ = State::Plain;
      break;
    case BodyKind::Chunked:
      state_ = State::SizeFirst;
      break;
  }
}

std::size_t BodyMeter::take(std::string_view bytes, std::string* plain) {
  std::size_t at = 0;
  while (at < bytes.size() && state_ != State::Done && state_ != State::Bad) {
    if (state_ != State::Plain && state_ != State::Data) {
      State const after = next(bytes[at]);
      state_ = after;
      if (after != State::Bad) ++at;
      continue;
    }
    auto const run = static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size() - at));
    if (plain != nullptr) plain->append(bytes.substr(at, run));
    at += run;
    if (kind_ == BodyKind::UntilClose) continue;
    left_ -= run;
    if (left_ == 0) state_ = state_ == State::Plain ? State::Done : State::DataCr;
  }
  return at;
}

BodyMeter::State BodyMeter::after_size_digit(char c) {
  int const digit = hex_digit(c);
  if (digit < 0) return State::Bad;
  // 15 digits: no overflow, and more than any body.
  if (line_bytes_ > 15) return State::Bad;
  left_ = left_ * 16 + static_cast<std::uint64_t>(digit);
  return State::Size;
}

BodyMeter::State BodyMeter::next(char c) {
  bool const in_trailer = state_ >= State::TrailerFirst;
  if (++line_bytes_ > (in_trailer ? kTrailerBytesMax : kChunkLineBytesMax)) return State::Bad;
  switch (state_) {
    case State::SizeFirst:
      left_ = 0;
      return after_size_digit(c);
    case State::Size:
      if (c == '\r') return State::SizeEnd;
      return c == ';' ? State::Extension : after_size_digit(c);
    case State::Extension:
      if (c == '\r') return State::SizeEnd;
      return http::is_field_value({&c, 1}) ? State::Extension : State::Bad;
    case State::SizeEnd:
      line_bytes_ = 0;
      if (c != '\n') return State::Bad;
      return left_ == 0 ? State::TrailerFirst : State::Data;
    case State::DataCr:
      line_bytes_ = 0;
      return c == '\r' ? State::DataLf : State::Bad;
    case State::DataLf:
      line_bytes_ = 0;
      return c == '\n' ? State::SizeFirst : State::Bad;
    case State::TrailerFirst:
      if (c == '\r') return State::LastLf;
      return http::is_token({&c, 1}) ? State::TrailerName : State::Bad;
    case State::TrailerName:
      if (c == ':') return State::TrailerValue;
      return http::is_token({&c, 1}) ? State::TrailerName : State::Bad;
    case State::TrailerValue:
      if (c == '\r') return State::TrailerLf;
      return http::is_field_value({&c, 1}) ? State::TrailerValue : State::Bad;
    case State::TrailerLf:
      return c == '\n' ? State::TrailerFirst : State::Bad;
    case State::LastLf:
      return c == '\n' ? State::Done : State::Bad;
    case State::Done:
    case State::Bad:
    case State::Plain:
    case State::Data:
      break;
  }
  return state_;
}

}  // namespace aether::functions
