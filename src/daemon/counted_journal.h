// SPDX-License-Identifier: Apache-2.0
// CountedJournal: a journal that counts what is appended to it, for metrics. Thread-safe.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "api/job_counts.h"
#include "base/time.h"
#include "journal/journal.h"

namespace aether::daemon {

class CountedJournal final : public journal::Journal {
 public:
  /// @param clock Outlives it.
  CountedJournal(std::unique_ptr<journal::Journal> inner, Clock const& clock);

  /// Of this process. Without the size of the store.
  [[nodiscard]] api::JobCounts counts() const;

  void append(journal::Batch batch, journal::Answer answer) override;
  [[nodiscard]] journal::Sharing* sharing() override { return inner_->sharing(); }

  [[nodiscard]] Result<std::vector<journal::Event>> read(journal::Position from,
                                                         std::size_t count) override {
    return inner_->read(from, count);
  }
  [[nodiscard]] Result<std::vector<journal::Event>> read_stream(std::string_view stream,
                                                                journal::Sequence from,
                                                                std::size_t count) override {
    return inner_->read_stream(stream, from, count);
  }
  [[nodiscard]] Result<journal::StreamState> stream(std::string_view stream) override {
    return inner_->stream(stream);
  }
  [[nodiscard]] Result<std::vector<std::string>> streams(std::string_view after,
                                                         std::size_t count) override {
    return inner_->streams(after, count);
  }
  [[nodiscard]] Result<std::optional<journal::Position>> key_holder(std::string_view key) override {
    return inner_->key_holder(key);
  }
  [[nodiscard]] Result<std::optional<journal::Blob>> blob(journal::BlobHash const& hash) override {
    return inner_->blob(hash);
  }
  [[nodiscard]] Result<std::optional<std::string>> record(std::string_view view,
                                                          std::string_view key) override {
    return inner_->record(view, key);
  }
  [[nodiscard]] Result<std::vector<journal::Record>> records(std::string_view view,
                                                             std::string_view from,
                                                             std::string_view to,
                                                             std::size_t count) override {
    return inner_->records(view, from, to, count);
  }
  [[nodiscard]] Result<journal::TreeHead> tree_head() override { return inner_->tree_head(); }
  [[nodiscard]] Result<std::vector<std::string>> checkpoints() override {
    return inner_->checkpoints();
  }
  [[nodiscard]] Result<std::vector<journal::StorageFault>> check_storage() override {
    return inner_->check_storage();
  }
  [[nodiscard]] Result<std::vector<journal::Hash>> leaves(std::uint64_t first,
                                                          std::size_t count) override {
    return inner_->leaves(first, count);
  }
  [[nodiscard]] Result<std::optional<journal::Hash>> node(unsigned level,
                                                          std::uint64_t index) override {
    return inner_->node(level, index);
  }

 private:
  struct Tally {
    std::mutex mutex;
    api::JobCounts counts;
  };
  Clock const& clock_;
  std::shared_ptr<Tally> tally_;  ///< Answers that come late have it too.
  std::unique_ptr<journal::Journal> inner_;
};

}  // namespace aether::daemon
