// SPDX-License-Identifier: Apache-2.0
// WorkLine: the worker protocol as lines (docs/worker-protocol.md) on one end of a socket pair
// whose other end is a worker's. The worker is gone when its end is closed: then its runs are free
// at once. Loop thread only.
#pragma once
#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "api/work_plane.h"
#include "async/event.h"
#include "async/task.h"
#include "async/task_group.h"
#include "base/json.h"
#include "base/time.h"
#include "os/unique_fd.h"

namespace aether::daemon {

inline constexpr std::size_t kLineBytesMax = std::size_t{1} << 20U;

/// Both ends: ours does not block, the worker's does.
struct LineEnds {
  os::UniqueFd ours, theirs;
};
[[nodiscard]] Result<LineEnds> open_line_ends();

class WorkLine {
 public:
  /// What goes over it, before it is answered or sent: for who looks on.
  using Watch = std::function<void(std::string_view line, bool is_from_worker)>;

  WorkLine(async::Executor executor, std::string name, os::UniqueFd socket, api::WorkPlane& jobs,
           Clock const& clock, Watch watch = {});
  WorkLine(WorkLine const&) = delete;
  WorkLine& operator=(WorkLine const&) = delete;

  /// Called once, when the worker asks for work for the first time.
  void on_claim(std::function<void()> call) { on_claim_ = std::move(call); }

  /// Until the worker has closed its end, or what it sends is no line of ours. When it is
  /// cancelled, the line is closed. Once.
  [[nodiscard]] async::Task<void> serve();

 private:
  async::Task<void> read();
  async::Task<void> write();
  async::Task<void> answer(boost::json::value asked);
  async::Task<boost::json::object> answer_of(boost::json::value asked);
  async::Task<void> let_go();
  void take_line(std::string_view line);
  void refuse(std::string_view line, Result<boost::json::value> const& asked);
  void send(boost::json::object const& answer);
  /// What of a question is needed beside its answer.
  struct Question {
    std::optional<boost::json::value> id;
    std::string run, token;
    bool closes = false;  ///< It says that the run has ended.
  };
  [[nodiscard]] static Question question_of(boost::json::object const& asked);
  void note_held(Question const& asked, boost::json::object const& answer);

  std::string name_;
  os::UniqueFd socket_;
  api::WorkPlane& jobs_;
  Clock const& clock_;
  Watch watch_;
  std::function<void()> on_claim_;
  std::string in_, out_;
  std::size_t sent_ = 0;                     ///< Of out_.
  std::map<std::string, std::string> held_;  ///< Runs that the worker has, and their tokens.
  async::Event has_output_;
  bool is_broken_ = false;
  async::TaskGroup tasks_;
};

}  // namespace aether::daemon
