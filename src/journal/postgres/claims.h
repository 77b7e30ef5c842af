// SPDX-License-Identifier: Apache-2.0
// Claims: Sharing over the table `claim`. A thread and a connection of their own, so that a busy
// process says in time that it lives, and hears what others tell. The only clock is the server's.
#pragma once
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/time.h"
#include "journal/postgres/connection.h"
#include "journal/sharing.h"
#include "os/unique_fd.h"

namespace aether::journal::postgres {

/// Without being told of anything, this often it is looked for work: what a process that died had
/// claimed is told by nobody.
inline constexpr Duration kLookEvery = std::chrono::seconds(1);
/// Of its term a claim is renewed when this share has passed.
inline constexpr int kRenewalShare = 3;

class Claims final : public Sharing {
 public:
  /// @param own_process The server's process that tells what this one appends.
  Claims(std::string url, std::function<int()> own_process);
  ~Claims() override;
  Claims(Claims const&) = delete;
  Claims& operator=(Claims const&) = delete;

  void begin(std::string view, Duration term, Ear ear) override;
  void want(std::vector<Wanted> wanted, std::uint64_t seen) override;
  void release(std::string key) override;
  void end() override;

 private:
  void serve();
  Status connect();
  Status exchange();
  Status hear();
  Status renew();
  Status give_back(std::vector<std::string> const& keys);
  Status look_for_work();
  Result<std::size_t> claim(Wanted const& wanted);
  Status keep();
  void wait(Instant until);
  [[nodiscard]] std::int64_t term() const;

  std::string const url_;
  std::string const holder_;
  std::function<int()> const own_process_;
  std::string view_;
  Duration term_{};
  Ear ear_;
  std::optional<Connection> connection_;  ///< As what follows: the thread's.
  std::set<std::string> held_;
  Instant renew_at_{};
  Instant look_at_{};
  bool may_have_work_ = true;
  std::uint64_t looks_ = 0;
  Duration pause_{};

  os::UniqueFd bell_;
  std::mutex mutex_;
  std::vector<Wanted> wanted_;
  std::uint64_t given_ = 0;  ///< Rows that the ear was told of.
  bool wants_more_ = false;  ///< Than when it was looked last.
  std::vector<std::string> released_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace aether::journal::postgres
