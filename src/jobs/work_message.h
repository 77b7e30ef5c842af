// SPDX-License-Identifier: Apache-2.0
// What a worker says about a run that it holds, and what it is answered: the messages of
// docs/worker-protocol.md, whatever carries them. Pure.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "jobs/run_event.h"

namespace aether::jobs {

inline constexpr int kWorkVersion = 1;
inline constexpr std::size_t kWorkMessagesMax = 64;  ///< In one frame.
inline constexpr std::size_t kStepPathMax = 200;     ///< Bytes.

enum class WorkVerb : std::uint8_t {
  Beat,       ///< It is alive.
  StepBegin,  ///< May this function be called?
  StepEnd,    ///< It was, and this came of it.
  Call,       ///< Aether is to call one of its own tools.
  Wait,       ///< For a time, a signal, a person, or another run.
  Close,      ///< The code has come to its end.
  Release,    ///< The worker does not go on with this run; another one may.
  Stuck,      ///< The code sees that it is not what recorded the run.
};
[[nodiscard]] std::string_view text_of(WorkVerb verb);

/// Members that a verb does not have keep their defaults.
struct WorkMessage {
  WorkVerb verb = WorkVerb::Beat;
  std::string path;        ///< Of the step: its name in the run. Without / ~ #.
  bool is_strict = false;  ///< Nothing else of the run's code is under way.

  // step.begin, step.end, call
  std::string tool;              ///< Of the code's own function, or Aether's.
  boost::json::value args;       ///< Compared when the run is done again.
  std::optional<Policy> policy;  ///< Absent: once, or the tool's own.
  bool is_pure = false;          ///< The function touches nothing: no intent, nothing to settle.
  bool is_model = false;         ///< Shown as a call of a model.
  std::string business_key;
  std::optional<Duration> timeout;
  std::uint32_t attempts = 1;  ///< call: made again so often, if its policy allows it.
  Duration pause{};            ///< Before the second attempt; twice as long before each further.

  // step.end
  std::string effect;  ///< With turn and token: from "go".
  std::uint32_t turn = 0;
  std::string token;
  EffectOutcome outcome = EffectOutcome::Ok;
  boost::json::value result;
  std::string error;
  bool is_retryable = false;
  bool comes_again = false;  ///< The step stays open: its step.begin follows.

  // wait
  WaitKind wait = WaitKind::Timer;
  std::string name;
  std::optional<Duration> after;
  boost::json::value schema;
  std::optional<RunSpec> child;
  bool may_give_back = false;  ///< Nothing else can go on: the run may be taken from the worker.

  // close, release, stuck
  RunOutcome end = RunOutcome::Succeeded;
  std::string why;
};

/// Makes a run of what POST /v1/jobs takes.
using ReadJob = std::function<Result<RunSpec>(boost::json::value const& job)>;
/// RequestInvalid names the member that is wrong. Members that it does not know are left alone, so
/// that a newer SDK can say more.
[[nodiscard]] Result<WorkMessage> read_work_message(boost::json::value const& value,
                                                    ReadJob const& read_job);
[[nodiscard]] Result<std::vector<WorkMessage>> read_work_messages(boost::json::value const& value,
                                                                  ReadJob const& read_job);

/// The tool of an effect that is a function of the run's own code: no name of Aether's tools.
[[nodiscard]] std::string own_tool(std::string_view function);

/// Why a worker has to let go of a run.
enum class GiveBack : std::uint8_t {
  Parked,     ///< It waits, and holds nothing.
  Paused,     ///< A person paused it.
  Stuck,      ///< The code is not what recorded it.
  Cancelled,  ///< It is to end.
  Closed,     ///< It has ended.
  Lost,       ///< Another one has it, or may have it.
  Released,   ///< As it asked.
};
[[nodiscard]] std::string_view text_of(GiveBack why);
[[nodiscard]] boost::json::object give_back(GiveBack why, std::string_view detail = {});
[[nodiscard]] bool is_give_back(boost::json::object const& answer);

}  // namespace aether::jobs
