// SPDX-License-Identifier: Apache-2.0
// The handoff's exchanges on one connection: export, deliver, release or resume.
#include <deque>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "async/timers.h"
#include "base/fault.h"
#include "base/log.h"
#include "relay/srp_json.h"
#include "relay/srp_session.h"

namespace aether::relay {
namespace {

namespace json = boost::json;

/// States up to this size are written down on the loop's thread (microseconds); larger ones are
/// not.
constexpr std::size_t kCopyOnLoopMax = std::size_t{1} << 20;

Failure exchange_violation(std::string what) {
  return fail(ErrorCode::ProtocolViolation, std::move(what));
}

StateFormat format_of(Frame const& frame) {
  if (frame.type == FrameType::StateJson) return StateFormat::Json;
  if (frame.type == FrameType::StateProtobuf) return StateFormat::Protobuf;
  return (frame.flags & kPickle) != 0 ? StateFormat::Pickle : StateFormat::Bytes;
}

FrameType frame_type_of(StateFormat format) {
  if (format == StateFormat::Json) return FrameType::StateJson;
  return format == StateFormat::Protobuf ? FrameType::StateProtobuf : FrameType::StateBytes;
}

/// The child's ERROR as a fault of ours.
Error told_error(Frame const& frame) {
  auto const object = parse_object(frame);
  if (!object) return object.error();
  return {ErrorCode::HandoffFailed,
          fmt::format("the program's SDK says {}: {}", text_field(*object, "code"),
                      text_field(*object, "message"))};
}

Duration from_milliseconds(double value) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::milli>(value));
}

std::int64_t milliseconds(Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

Error too_late(std::string_view what, Duration limit) {
  return {ErrorCode::Timeout,
          fmt::format("{} took longer than {} (handoff.timeout)", what, format_duration(limit))};
}

Error gave_way(std::string_view what) {
  return {ErrorCode::HandoffFailed,
          fmt::format("{} was given up: the program is to work on", what)};
}

/// The value of an exchange; nothing if it took too long, or gave way.
template <class T>
async::Task<std::optional<T>> unless_given_up(async::Event* give_up, Duration limit,
                                              async::Task<T> task) {
  std::optional<T> value;
  async::Task<void> kept = async::detail::keep(std::move(task), &value);
  async::Task<bool> running = async::until(*give_up, std::move(kept));
  (void)co_await async::with_deadline(limit, std::move(running));
  co_return value;
}

std::string_view wire_name(Mechanism mechanism) {
  return mechanism == Mechanism::Shm ? "shm" : "pipe";
}

/// Written down on another thread: the frames come along, so that they outlive the caller.
Result<State> write_down(StateFormat format, std::deque<Frame> const& frames) {
  std::vector<std::string_view> pieces;
  for (Frame const& frame : frames) pieces.push_back(std::string_view(frame.payload).substr(4));
  return State::from_pieces(format, pieces);
}

}  // namespace

/// Marks an exchange as running, and empties the queue for it and after it.
struct SrpSession::Exchange {
  explicit Exchange(SrpSession* session) : session_(session) {
    drop_answers();
    session_->exchanging_ = true;
  }
  Exchange(Exchange const&) = delete;
  Exchange& operator=(Exchange const&) = delete;
  ~Exchange() {
    session_->exchanging_ = false;
    drop_answers();
    session_->exchange_ended_.set();
  }

 private:
  void drop_answers() {
    while (session_->answers_.try_receive()) {
    }
  }
  SrpSession* session_;
};

async::Task<Result<Exported>> SrpSession::export_state(Mechanism mechanism, Duration limit,
                                                       Trial trial) {
  auto const self = shared_from_this();
  if (exchanging_) co_return fail(ErrorCode::Internal, "an SRP exchange is running already");
  if (!hello_.can_export) {
    co_return fail(ErrorCode::HandoffFailed, "the program's SDK cannot export memory");
  }
  Exchange const exchange(this);
  if (!hello_.can_shm) mechanism = Mechanism::Pipe;
  async::Task<Result<Exported>> task = exchange_export(mechanism, limit, trial);
  auto exported = co_await unless_given_up(&give_up_, limit, std::move(task));
  if (!exported) {
    constexpr std::string_view kWhat = "the export of memory";
    co_return fail(give_up_.is_set() ? gave_way(kWhat) : too_late(kWhat, limit));
  }
  if (*exported) co_return std::move(*exported);
  Error error = std::move(*exported).error();
  if (error.code() == ErrorCode::ChecksumMismatch) {
    (void)co_await send(FrameType::Error, error_json("state", error));
  } else if (error.code() != ErrorCode::HandoffFailed) {
    co_await say_goodbye(error);
    close();
  }
  co_return fail(std::move(error).while_doing("taking the memory of the old revision"));
}

async::Task<Result<SrpSession::Incoming>> SrpSession::next_answer() {
  auto incoming = co_await answers_.receive();
  if (!incoming) {
    co_return fail(ErrorCode::Unreachable, "the program closed its SRP connection, or ended");
  }
  co_return std::move(*incoming);
}

async::Task<Result<Exported>> SrpSession::exchange_export(Mechanism mechanism, Duration limit,
                                                          Trial trial) {
  json::object question{{"mechanism", wire_name(mechanism)}, {"deadline_ms", milliseconds(limit)}};
  if (trial == Trial::Yes) question["trial"] = true;
  Status asked = co_await send(FrameType::Export, json::serialize(question));
  if (!asked) co_return fail(std::move(asked).error());
  Exported exported;
  std::uint32_t version = 0;
  std::optional<std::uint64_t> announced;
  for (;;) {
    auto answer = co_await next_answer();
    if (!answer) co_return fail(std::move(answer).error());
    Frame const& frame = answer->frame;
    if (frame.type == FrameType::Error) co_return fail(told_error(frame));
    if (answers_of(frame, FrameType::Ack, "export")) co_return exported;
    if (frame.type == FrameType::Checkpoint) {
      auto figures = parse_object(frame);
      if (!figures) co_return fail(std::move(figures).error());
      exported.quiesce = from_milliseconds(milliseconds_field(*figures, "quiesce_ms"));
      exported.export_time = from_milliseconds(milliseconds_field(*figures, "export_ms"));
      version = version_field(*figures);
      announced = number_field(*figures, "bytes");
      continue;
    }
    if (frame.type == FrameType::Ack)
      co_return exchange_violation("an ACK answers nothing that was asked");
    async::Task<Result<State>> taking = frame.type == FrameType::StateFd
                                            ? adopt_memfd(std::move(*answer))
                                            : collect_frames(std::move(*answer));
    auto state = co_await std::move(taking);
    if (!state) co_return fail(std::move(state).error());
    if (announced && *announced != state->size()) {
      co_return fail(
          ErrorCode::ChecksumMismatch,
          fmt::format("the state has {} bytes; its CHECKPOINT says {}", state->size(), *announced));
    }
    Status told =
        co_await send(FrameType::Ack,
                      json::serialize(json::object{
                          {"of", "state"}, {"bytes", state->size()}, {"crc32c", state->crc32c()}}));
    if (!told) co_return fail(std::move(told).error());
    state->set_version(version);
    exported.state = std::move(*state);
    co_return exported;
  }
}

async::Task<Result<State>> SrpSession::collect_frames(Incoming first) {
  FrameType const type = first.frame.type;
  auto const kind_flags = static_cast<std::uint16_t>(first.frame.flags & ~kMore);
  bool const crc32 = (kind_flags & kCrc32) != 0;
  RunningChecksum checksum(crc32 ? ChecksumKind::Crc32 : ChecksumKind::Crc32c);
  std::deque<Frame> frames;
  std::uint64_t size = 0;
  frames.push_back(std::move(first.frame));
  for (;;) {
    Frame const& frame = frames.back();
    if (Status fault = fault::pass(fault::Point::SrpReceive); !fault) {
      co_return fail(std::move(fault).error());
    }
    if (frame.type != type || (frame.flags & ~kMore) != kind_flags) {
      co_return exchange_violation("the frames of one state differ in type or flags");
    }
    auto const part = split_state(frame);
    if (!part) co_return fail(part.error());
    checksum.update(part->data);
    size += part->data.size();
    if (checksum.value() != part->checksum) {
      co_return fail(
          ErrorCode::ChecksumMismatch,
          fmt::format("the first {} bytes of the state have the {} {:08x}, not {:08x}", size,
                      checksum_name(checksum.kind()), checksum.value(), part->checksum));
    }
    if (size > kPipeStateMax) {
      co_return exchange_violation(
          "a state of more than 1 GiB came by pipe; use handoff.mechanism: shm");
    }
    if ((frame.flags & kMore) == 0) break;
    auto next = co_await next_answer();
    if (!next) co_return fail(std::move(next).error());
    if (next->frame.type == FrameType::Error) co_return fail(told_error(next->frame));
    frames.push_back(std::move(next->frame));
  }
  StateFormat const format = format_of(frames.front());
  if (size <= kCopyOnLoopMax) co_return write_down(format, frames);
  auto work = [format, frames = std::move(frames)] { return write_down(format, frames); };
  co_return co_await async::offload(thread_->get(), std::move(work));
}

async::Task<Result<State>> SrpSession::adopt_memfd(Incoming incoming) {
  if (Status fault = fault::pass(fault::Point::SrpReceive); !fault) {
    co_return fail(std::move(fault).error());
  }
  auto const object = parse_object(incoming.frame);
  if (!object) co_return fail(object.error());
  auto const format = parse_format(text_field(*object, "format"));
  auto const size = number_field(*object, "size");
  auto const claimed = number_field(*object, "crc32c");
  if (!format || !size || *size == 0) {
    co_return exchange_violation(
        "a STATE_FD frame needs a known \"format\" and a \"size\" above 0");
  }
  auto work = [format = *format, size = *size, fd = std::move(incoming.fd)]() mutable {
    return State::from_memfd(format, std::move(fd), size);
  };
  auto state = co_await async::offload(thread_->get(), std::move(work));
  if (state && claimed && *claimed != state->crc32c()) {
    co_return fail(ErrorCode::ChecksumMismatch,
                   fmt::format("the state has the crc32c {:08x}; its STATE_FD frame says {:08x}",
                               state->crc32c(), *claimed));
  }
  co_return state;
}

async::Task<Status> SrpSession::deliver(std::optional<State> state, Mechanism mechanism,
                                        Duration limit) {
  auto const self = shared_from_this();
  if (exchanging_) co_return fail(ErrorCode::Internal, "an SRP exchange is running already");
  if (!load_asked_) {
    co_return fail(ErrorCode::HandoffFailed, "the program has not asked for its memory");
  }
  Exchange const exchange(this);
  load_asked_ = false;
  async::Task<Status> task = exchange_deliver(std::move(state), mechanism);
  auto delivered = co_await unless_given_up(&give_up_, limit, std::move(task));
  if (!delivered) {
    constexpr std::string_view kWhat = "the delivery of memory";
    co_return fail(give_up_.is_set() ? gave_way(kWhat) : too_late(kWhat, limit));
  }
  co_return std::move(*delivered);
}

async::Task<Status> SrpSession::exchange_deliver(std::optional<State> state, Mechanism mechanism) {
  if (!state) {
    co_return co_await send(FrameType::Ack, R"({"of":"load","memory":"none"})");
  }
  Status sent = co_await send_state(*state, mechanism);
  if (!sent) co_return sent;
  co_return co_await await_state_ack(*state);
}

async::Task<Status> SrpSession::send_state(State state, Mechanism mechanism) {
  if (Status fault = fault::pass(fault::Point::SrpSend); !fault) co_return fault;
  if (state.version() != 0 && hello_.knows_versions) {
    Status told = co_await send(FrameType::Checkpoint,
                                json::serialize(json::object{{"state_version", state.version()}}));
    if (!told) co_return told;
  }
  bool const by_memfd = mechanism == Mechanism::Shm && hello_.can_shm && state.size() > 0;
  if (!by_memfd) co_return co_await send_frames(state);
  json::object const about{{"name", "context"},
                           {"size", state.size()},
                           {"format", format_name(state.format())},
                           {"crc32c", state.crc32c()}};
  co_return co_await send(FrameType::StateFd, json::serialize(about), state.fd());
}

async::Task<Status> SrpSession::send_frames(State state) {
  if (state.size() > kPipeStateMax) {
    co_return fail(ErrorCode::HandoffFailed,
                   "the state is larger than 1 GiB; use handoff.mechanism: shm");
  }
  auto const mapping = state.map();
  if (!mapping) co_return fail(mapping.error());
  std::string_view rest(reinterpret_cast<char const*>(mapping->bytes().data()), state.size());
  RunningChecksum checksum(hello_.wants_crc32 ? ChecksumKind::Crc32 : ChecksumKind::Crc32c);
  std::uint16_t const kind = state.format() == StateFormat::Pickle ? kPickle : 0;
  do {
    std::string_view const data = rest.substr(0, kStateChunkBytes);
    rest.remove_prefix(data.size());
    auto const flags = static_cast<std::uint16_t>(kind | (rest.empty() ? 0 : kMore));
    auto const prefix = encode_state_prefix(frame_type_of(state.format()), flags, checksum, data);
    std::string bytes;
    bytes.reserve(prefix.size() + data.size());
    bytes.append(prefix.data(), prefix.size()).append(data);
    Status sent = co_await write_all(bytes, -1);
    if (!sent) co_return sent;
  } while (!rest.empty());
  sent_crc32_ = checksum.value();
  co_return Status();
}

async::Task<Status> SrpSession::await_state_ack(State state) {
  auto answer = co_await next_answer();
  if (!answer) co_return fail(std::move(answer).error());
  if (answer->frame.type == FrameType::Error) co_return fail(told_error(answer->frame));
  if (!answers_of(answer->frame, FrameType::Ack, "state")) {
    co_return exchange_violation(fmt::format("a {} frame came instead of the ACK of the state",
                                             frame_name(answer->frame.type)));
  }
  auto const object = parse_object(answer->frame);
  auto const bytes = number_field(*object, "bytes");
  auto const checksum = number_field(*object, "crc32c");
  auto const checksum_zlib = number_field(*object, "crc32");
  bool const same = bytes && *bytes == state.size() && (!checksum || *checksum == state.crc32c()) &&
                    (!checksum_zlib || *checksum_zlib == sent_crc32_) &&
                    (checksum || checksum_zlib);
  if (same) co_return Status();
  co_return fail(ErrorCode::ChecksumMismatch,
                 "the ACK of the state does not repeat the size and checksum that were sent");
}

async::Task<Status> SrpSession::resume(std::optional<State> state, Mechanism mechanism,
                                       Duration limit) {
  auto const self = shared_from_this();
  while (exchanging_) {
    give_up_.set();
    exchange_ended_.reset();
    co_await exchange_ended_.wait();
  }
  give_up_.reset();
  Exchange const exchange(this);
  Status given;
  bool attached = false;
  if (state) {
    async::Task<Status> giving = give_back(std::move(*state), mechanism);
    auto taken = co_await async::with_deadline(limit, std::move(giving));
    // One that is only slow to say that it has it finds it before the RESUME.
    attached = !taken || taken->has_value();
    given = taken ? std::move(*taken) : fail(too_late("giving memory back", limit));
  }
  // Whatever came of the memory, the child must not stand still for ever: it has its own copy.
  async::Task<Status> task = exchange_resume(attached);
  auto resumed = co_await async::with_deadline(limit, std::move(task));
  if (!resumed) {
    // It has stopped, or the stream is out of step (a frame that claims more than was sent). An end
    // is understood in either case: the child works on by itself, and comes back.
    close();
    co_return fail(too_late("RESUME", limit));
  }
  if (!*resumed) co_return std::move(*resumed);
  co_return given;
}

async::Task<Status> SrpSession::give_back(State state, Mechanism mechanism) {
  Status sent = co_await send_state(state, mechanism);
  if (!sent) co_return sent;
  co_return co_await await_state_ack(state);
}

async::Task<Status> SrpSession::exchange_resume(bool attached) {
  ++resumes_unanswered_;
  resumed_.reset();
  Status sent = co_await send(FrameType::Resume,
                              attached ? R"({"memory":"attached"})" : R"({"memory":"own"})");
  if (!sent) co_return sent;
  co_await resumed_.wait();
  if (closed()) co_return fail(ErrorCode::Unreachable, "the program left instead of resuming");
  co_return Status();
}

}  // namespace aether::relay
