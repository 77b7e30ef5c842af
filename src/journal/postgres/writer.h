// SPDX-License-Identifier: Apache-2.0
// Writer: the one thread and the one connection by which this process appends. What waits together
// goes in one statement; the next group is sent before the last one is answered.
//
// The connection may be lost at any time, and with it the answer whether a group was appended. It
// is asked by sending the same group again: its number tells the store that it has it. So nobody is
// told of an append that it did not happen when it did, and nothing is appended twice. While the
// store is away, what was sent already waits for it, however long that takes.
#pragma once
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/time.h"
#include "journal/journal.h"
#include "journal/postgres/connection.h"
#include "journal/postgres/group.h"
#include "journal/postgres/postgres_journal.h"
#include "journal/postgres/reader.h"
#include "os/unique_fd.h"

namespace aether::journal::postgres {

/// Groups on their way to the server. A second one would only wait for the first one's sync there,
/// and take with it half of what could have gone together.
inline constexpr std::size_t kGroupsSent = 1;

class Writer {
 public:
  /// @param reader Asked why something was refused; outlives it.
  static Result<std::unique_ptr<Writer>> open(PostgresOptions options, Connection connection,
                                              Reader& reader);
  /// Appends what waits, if the server answers; else says of it that it is not known.
  ~Writer();
  Writer(Writer const&) = delete;
  Writer& operator=(Writer const&) = delete;

  void append(Batch batch, Answer answer);
  /// The server's process of the connection: who told what was told.
  [[nodiscard]] int process() const { return process_; }

 private:
  Writer(PostgresOptions options, Connection connection, Reader& reader, std::string id);
  /// Makes a new connection ready to append.
  Status begin();
  Status take_seat();
  void serve();
  void take_new();
  void connect();
  Status exchange();
  /// For how long the next group still waits for more.
  [[nodiscard]] Duration left_to_gather() const;
  Status send_groups();
  Status receive_answers();
  Status answered(Connection::Reply reply);
  void accept(Group& group, std::uint64_t base);
  /// The group was not appended: its batches, and those of the groups behind it, go again.
  void put_back(Group group, bool alone);
  void fail_group(Group group, Error const& why);
  void refuse_one(Group::Waiting waiting);
  [[nodiscard]] Result<std::optional<Refusal>> why_refused(Batch const& batch);
  void lose(Error const& why);
  void answer_all(std::deque<Group::Waiting>& batches, Error const& why);
  void answer(Group::Waiting& waiting, Result<AppendOutcome> outcome);
  void wait(Duration longest);
  /// True when the thread has nothing left to do.
  bool give_up_at_end();

  std::string const url_;
  Duration const patience_;
  bool const alone_;
  std::string const id_;
  Reader& reader_;
  std::optional<Connection> connection_;
  std::atomic<int> process_{0};
  std::uint64_t next_ = 1;               ///< Number of the next new group.
  std::deque<Group> sent_;               ///< Not answered yet, in their order.
  std::deque<Group::Waiting> pending_;   ///< To be sent, in their order.
  std::deque<Group::Waiting> put_back_;  ///< Of a refused group, and of those sent behind it.
  bool is_draining_ = false;             ///< What is on its way comes back unappended.
  std::optional<Instant> lost_;          ///< Since when there is no connection.
  Instant next_try_{};
  Instant heard_{};  ///< When the server last said something.
  Duration pause_{};
  Instant sent_at_{};       ///< When the last group went.
  std::size_t gather_ = 0;  ///< Batches that the next group waits for,
  Instant gather_until_{};  ///< at most until then.

  os::UniqueFd bell_;
  std::mutex mutex_;
  std::vector<Group::Waiting> queue_;
  std::size_t waiting_ = 0;    ///< Batches without an answer.
  std::optional<Error> away_;  ///< Why new batches are refused.
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace aether::journal::postgres
