// SPDX-License-Identifier: Apache-2.0
// JobsPlane: what the API can ask of jobs. The daemon implements it over the engine and the
// journal; tests fake it. Loop thread only. Faults are thrown.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/job_counts.h"
#include "api/work_plane.h"
#include "async/event.h"
#include "async/task.h"
#include "base/json.h"
#include "base/result.h"
#include "base/time.h"
#include "jobs/engine.h"

namespace aether::api {

/// Tells those who follow a run that it has grown.
struct RunWatch {
  std::uint64_t latest = 0;  ///< The highest sequence that was told of.
  std::uint64_t ends = 0;    ///< How often it was told that it has, or may have, ended.
  async::Event grown;        ///< Set for a moment when there is more.
};

/// Values of a job that lay beside its events: taken away now, and before.
struct Erasure {
  std::uint64_t erased = 0;
  std::uint64_t gone = 0;
};

enum class TraceForm : std::uint8_t { Tree, Json, Otlp };

class JobsPlane : public WorkPlane {
 public:
  // Answered when durable.
  [[nodiscard]] virtual async::Task<jobs::Submitted> submit(jobs::Asker asker,
                                                            jobs::Submission submission) = 0;
  [[nodiscard]] virtual async::Task<jobs::RunStatus> control(jobs::Asker asker, jobs::RunId run,
                                                             jobs::Control control,
                                                             std::string reason) = 0;
  [[nodiscard]] virtual async::Task<jobs::RunStatus> signal(jobs::Asker asker, jobs::RunId run,
                                                            jobs::SignalReceived signal) = 0;
  [[nodiscard]] virtual async::Task<jobs::RunStatus> answer(jobs::Asker asker, jobs::RunId run,
                                                            std::string path, jobs::WaitEnd end,
                                                            boost::json::value payload) = 0;
  [[nodiscard]] virtual async::Task<jobs::RunStatus> resolve(jobs::Asker asker, jobs::RunId run,
                                                             std::string effect,
                                                             jobs::Resolution resolution,
                                                             boost::json::value result) = 0;
  /// @param spec Its graph and input, where they are not null, take the place of the recorded ones.
  [[nodiscard]] virtual async::Task<jobs::RunId> fork(jobs::Asker asker, jobs::RunId run,
                                                      std::string step, jobs::RunSpec spec) = 0;
  /// Takes the run's values away, and notes who did it, and why. Conflict: it has not ended.
  [[nodiscard]] virtual async::Task<Erasure> erase(jobs::Asker asker, jobs::RunId run,
                                                   std::string reason) = 0;
  /// A point in the stream "audit". Never waits.
  virtual void note(std::string actor, jobs::AuditNoted note) = 0;

  [[nodiscard]] virtual async::Task<std::vector<jobs::RunSummary>> list(jobs::ListQuery query) = 0;
  /// NotFound if there is no such run.
  [[nodiscard]] virtual async::Task<jobs::RunState> show(jobs::RunId run) = 0;
  /// Of a run, or of the stream "audit". Payloads that lie in blobs are put into the bodies.
  [[nodiscard]] virtual async::Task<std::vector<journal::Event>> events(jobs::RunId run,
                                                                        std::uint64_t after,
                                                                        std::size_t count) = 0;
  /// Text for a terminal, or JSON text.
  [[nodiscard]] virtual async::Task<std::string> trace(jobs::RunId run, TraceForm form) = 0;
  /// Runs what was recorded again, without any call; the JSON of what came of it.
  [[nodiscard]] virtual async::Task<boost::json::value> replay(jobs::RunId run) = 0;
  /// A file of evidence (docs/journal.md).
  [[nodiscard]] virtual async::Task<std::string> evidence(jobs::RunId run) = 0;
  /// Signed now; with the proof that the journal grew from the older one of that size.
  [[nodiscard]] virtual async::Task<std::string> checkpoint(
      std::optional<std::uint64_t> old_size) = 0;
  [[nodiscard]] virtual std::shared_ptr<RunWatch> watch(jobs::RunId const& run) = 0;
  [[nodiscard]] virtual JobCounts counts() const = 0;
};

}  // namespace aether::api
