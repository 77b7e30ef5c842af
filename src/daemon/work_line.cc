// SPDX-License-Identifier: Apache-2.0
#include "daemon/work_line.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <utility>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/work_frames.h"
#include "async/wait_fd.h"
#include "base/json.h"
#include "base/log.h"
#include "os/unix_socket.h"

namespace aether::daemon {
namespace {

namespace json = boost::json;

/// Of one read.
constexpr std::size_t kReadBytes = std::size_t{64} << 10U;
/// Answers that a worker has not taken: the line is closed when there are more. One answer to a
/// claim may have the inputs of 64 runs.
constexpr std::size_t kOutputMax = 64 * kLineBytesMax;
constexpr Duration kAnswersEnd = std::chrono::seconds(5);

std::string text_of(json::object const& object, std::string_view key) {
  auto const* const found = object.if_contains(key);
  return found != nullptr && found->is_string() ? std::string(found->get_string()) : "";
}

json::array const* list_of(json::object const& object, std::string_view key) {
  auto const* const found = object.if_contains(key);
  return found == nullptr ? nullptr : found->if_array();
}

/// Of a line that cannot be read, if its id is a number and its first member: whoever asked is told
/// then, where a worker that is cut off for it would come again and say the same.
std::optional<std::uint64_t> id_of(std::string_view line) {
  auto const past = [&line](std::string_view token) {
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    bool const is_there = line.starts_with(token);
    if (is_there) line.remove_prefix(token.size());
    return is_there;
  };
  if (!past("{") || !past("\"id\"") || !past(":") || !past("")) return std::nullopt;
  std::uint64_t id = 0;
  auto const [end, error] = std::from_chars(line.data(), line.data() + line.size(), id);
  bool const is_whole = error == std::errc() && end != line.data() + line.size() && *end == ',';
  return is_whole ? std::optional(id) : std::nullopt;
}

/// Waits for one fd again and again; async::readable() makes and closes a set of its own each time.
class LineWatch {
 public:
  LineWatch(async::Executor const& executor, int fd) : fd_(fd), descriptor_(executor) {
    // Asio closes what it is given, so it gets a number of its own.
    os::UniqueFd own(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    boost::system::error_code ec;
    if (own) descriptor_.assign(own.get(), ec);
    is_watched_ = own && !ec;
    if (is_watched_) (void)own.release();
  }

  async::Task<void> readable() {
    if (!is_watched_) co_return co_await async::readable(fd_);
    boost::system::error_code ec;
    co_await descriptor_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                                    boost::asio::redirect_error(boost::asio::use_awaitable, ec));
    if (ec == boost::asio::error::operation_aborted) async::throw_cancelled();
    if (ec) throw system_error_from(ec.value(), "waiting for", "a worker's line");
  }

 private:
  int fd_;
  bool is_watched_ = false;  ///< Not when no descriptor was to spare.
  boost::asio::posix::stream_descriptor descriptor_;
};

bool is_claim(json::value const& asked) {
  auto const* const object = asked.if_object();
  return object != nullptr && text_of(*object, "do") == "claim";
}

}  // namespace

Result<LineEnds> open_line_ends() {
  TRY_ASSIGN(auto ends, os::unix_pair(os::UnixKind::Stream, os::Blocking::Yes));
  // Each end has flags of its own.
  if (::fcntl(ends.first.get(), F_SETFL, O_NONBLOCK) != 0)
    return fail(system_error("fcntl", "a worker's line"));
  return LineEnds{std::move(ends.first), std::move(ends.second)};
}

WorkLine::WorkLine(async::Executor executor, std::string name, os::UniqueFd socket,
                   api::WorkPlane& jobs, Clock const& clock, Watch watch)
    : name_(std::move(name)),
      socket_(std::move(socket)),
      jobs_(jobs),
      clock_(clock),
      watch_(std::move(watch)),
      tasks_(executor, "line of " + name_) {}

async::Task<void> WorkLine::serve() {
  tasks_.spawn("write", write());
  std::exception_ptr thrown;
  try {
    co_await read();
  } catch (...) {
    thrown = std::current_exception();
  }
  co_await async::ignore_cancellation();
  ::shutdown(socket_.get(), SHUT_RDWR);
  async::Task<std::vector<std::string>> stopping = tasks_.stop(kAnswersEnd);
  co_await std::move(stopping);
  async::Task<void> letting_go = let_go();
  co_await std::move(letting_go);
  socket_.reset();
  co_await async::heed_cancellation();
  if (thrown) std::rethrow_exception(thrown);
}

async::Task<void> WorkLine::read() {
  std::array<char, kReadBytes> bytes{};
  async::Executor const executor = co_await async::this_executor;
  LineWatch watch(executor, socket_.get());
  while (!is_broken_) {
    co_await watch.readable();
    ssize_t const got = ::recv(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got <= 0) co_return;
    in_.append(bytes.data(), static_cast<std::size_t>(got));
    std::size_t start = 0;
    for (std::size_t end = in_.find('\n'); end != std::string::npos && !is_broken_;
         end = in_.find('\n', start)) {
      take_line(std::string_view(in_).substr(start, end - start));
      start = end + 1;
    }
    in_.erase(0, start);
    if (in_.size() <= kLineBytesMax) continue;
    log::warn("{}: its worker sent a line over {} bytes; the line to it is closed", name_,
              kLineBytesMax);
    co_return;
  }
}

void WorkLine::take_line(std::string_view line) {
  if (line.empty()) return;
  if (watch_) watch_(line, true);
  Result<json::value> asked = parse_json(line, "a line");
  if (!asked || !asked->is_object()) return refuse(line, asked);
  // The group is at its limit when a worker asks without end.
  is_broken_ = !tasks_.spawn("message", answer(std::move(*asked)));
}

void WorkLine::refuse(std::string_view line, Result<json::value> const& asked) {
  std::optional<std::uint64_t> const id = asked ? std::nullopt : id_of(line);
  if (!id) {
    log::warn("{}: its worker sent what is no line of JSON; the line to it is closed", name_);
    is_broken_ = true;
    return;
  }
  json::object told = api::refusal_of(Error(ErrorCode::RequestInvalid, asked.error().message()));
  told["id"] = *id;
  send(told);
}

async::Task<json::object> WorkLine::answer_of(json::value asked) {
  if (!is_claim(asked))
    co_return co_await api::answer_frame(&jobs_, std::move(asked), clock_.wall());
  api::ReadClaim claim = or_throw(api::read_claim(jobs_, asked));
  if (auto const heard = std::exchange(on_claim_, {})) heard();
  co_return co_await api::answer_claim(&jobs_, std::move(claim));
}

async::Task<void> WorkLine::answer(json::value asked) {
  Question const question = question_of(asked.get_object());
  json::object told;
  try {
    async::Task<json::object> answering = answer_of(std::move(asked));
    told = co_await std::move(answering);
  } catch (Error const& error) {
    told = api::refusal_of(error);
  }
  note_held(question, told);
  if (question.id) told["id"] = *question.id;
  send(told);
}

WorkLine::Question WorkLine::question_of(json::object const& asked) {
  Question question{.id = {}, .run = text_of(asked, "run"), .token = text_of(asked, "token")};
  if (auto const* const id = asked.if_contains("id")) question.id = *id;
  auto const* const messages = list_of(asked, "messages");
  bool const says_something = messages != nullptr && !messages->empty();
  auto const* const last = says_something ? messages->back().if_object() : nullptr;
  question.closes = last != nullptr && text_of(*last, "do") == "close";
  return question;
}

void WorkLine::note_held(Question const& asked, json::object const& answer) {
  if (auto const* const runs = list_of(answer, "runs")) {
    for (json::value const& run : *runs) {
      json::object const& claimed = run.get_object();
      held_[text_of(claimed, "run")] = text_of(claimed, "token");
    }
  }
  bool is_over = asked.closes;
  if (auto const* const answers = list_of(answer, "answers")) {
    is_over = is_over || std::ranges::any_of(*answers, [](json::value const& one) {
                return jobs::is_give_back(one.get_object());
              });
  }
  auto const found = held_.find(asked.run);
  bool const is_same = found != held_.end() && found->second == asked.token;
  if (is_over && is_same) held_.erase(found);
}

void WorkLine::send(json::object const& answer) {
  std::string const line = json::serialize(answer);
  if (watch_) watch_(line, false);
  if (out_.size() - sent_ > kOutputMax) {
    is_broken_ = true;
    ::shutdown(socket_.get(), SHUT_RDWR);
    return;
  }
  out_ += line;
  out_ += '\n';
  has_output_.set();
}

async::Task<void> WorkLine::write() {
  for (;;) {
    co_await has_output_.wait();
    std::string_view const rest = std::string_view(out_).substr(sent_);
    ssize_t const sent =
        ::send(socket_.get(), rest.data(), rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) sent_ += static_cast<std::size_t>(sent);
    // Not after each piece: what is behind it would be moved each time.
    if (sent_ > out_.size() / 2) out_.erase(0, std::exchange(sent_, 0));
    if (out_.empty()) has_output_.reset();
    bool const is_full = sent < 0 && (errno == EAGAIN || errno == EINTR);
    if (sent < 0 && !is_full) co_return;  // It is gone; the reader hears of it.
    if (!out_.empty()) co_await async::writable(socket_.get());
  }
}

/// Its runs need not wait for the end of their leases.
async::Task<void> WorkLine::let_go() {
  for (auto const& [run, token] : std::exchange(held_, {})) {
    std::vector<jobs::WorkMessage> messages(1);
    messages[0].verb = jobs::WorkVerb::Release;
    messages[0].why = "the worker is gone";
    try {
      async::Task<jobs::WorkAnswers> releasing =
          jobs_.work(jobs::RunId{run}, token, std::move(messages));
      co_await std::move(releasing);
    } catch (Error const& error) {
      log::debug("{}: {}", name_, error.describe());
    }
  }
}

}  // namespace aether::daemon
