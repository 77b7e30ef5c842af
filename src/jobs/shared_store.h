// SPDX-License-Identifier: Apache-2.0
// One memory journal that several engines share, with claims that the test ends as it likes. Tests
// only; what a database does of the same is in journal/postgres/claims_test.cc.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "journal/memory/memory_journal.h"
#include "journal/sharing.h"

namespace aether::jobs::testing {

class SharedStore {
 public:
  /// One engine's way to the store.
  class Member final : public journal::Journal, public journal::Sharing {
   public:
    explicit Member(SharedStore& store) : store_(store), inner_(*store.journal_) {
      store_.add(this);
    }

    // Journal
    void append(journal::Batch batch, journal::Answer answer) override {
      std::vector<std::string> told = batch.told;
      inner_.append(std::move(batch), [&](Result<journal::AppendOutcome> outcome) {
        bool const is_done = outcome && *outcome;
        answer(std::move(outcome));
        if (is_done) store_.tell(this, told);
      });
    }
    [[nodiscard]] journal::Sharing* sharing() override { return this; }
    Result<std::vector<journal::Event>> read(journal::Position from, std::size_t count) override {
      return inner_.read(from, count);
    }
    Result<std::vector<journal::Event>> read_stream(std::string_view stream, journal::Sequence from,
                                                    std::size_t count) override {
      return inner_.read_stream(stream, from, count);
    }
    Result<journal::StreamState> stream(std::string_view stream) override {
      return inner_.stream(stream);
    }
    Result<std::vector<std::string>> streams(std::string_view after, std::size_t count) override {
      return inner_.streams(after, count);
    }
    Result<std::optional<journal::Position>> key_holder(std::string_view key) override {
      return inner_.key_holder(key);
    }
    Result<std::optional<journal::Blob>> blob(journal::BlobHash const& hash) override {
      return inner_.blob(hash);
    }
    Result<std::optional<std::string>> record(std::string_view view,
                                              std::string_view key) override {
      return inner_.record(view, key);
    }
    Result<std::vector<journal::Record>> records(std::string_view view, std::string_view from,
                                                 std::string_view to, std::size_t count) override {
      return inner_.records(view, from, to, count);
    }
    Result<journal::TreeHead> tree_head() override { return inner_.tree_head(); }
    Result<std::vector<std::string>> checkpoints() override { return inner_.checkpoints(); }
    Result<std::vector<journal::StorageFault>> check_storage() override {
      return inner_.check_storage();
    }
    Result<std::vector<journal::Hash>> leaves(std::uint64_t first, std::size_t count) override {
      return inner_.leaves(first, count);
    }
    Result<std::optional<journal::Hash>> node(unsigned level, std::uint64_t index) override {
      return inner_.node(level, index);
    }

    // Sharing
    void begin(std::string view, Duration, Ear ear) override {
      std::lock_guard const lock(store_.mutex_);
      view_ = std::move(view);
      ear_ = std::move(ear);
      given_ = 0;
    }
    void want(std::vector<Wanted> wanted, std::uint64_t seen) override {
      std::lock_guard const lock(store_.mutex_);
      if (seen != given_) return;
      wanted_ = std::move(wanted);
      store_.claim_for(*this);
    }
    void release(std::string key) override {
      std::lock_guard const lock(store_.mutex_);
      auto const held = store_.claims_.find(key);
      if (held != store_.claims_.end() && held->second == this) store_.claims_.erase(held);
      store_.claim_for_all();
    }
    void end() override {
      std::lock_guard const lock(store_.mutex_);
      ear_ = {};
      wanted_.clear();
      std::erase_if(store_.claims_, [this](auto const& each) { return each.second == this; });
      store_.claim_for_all();
    }

    /// It stands still, as the others see it: claims nothing, and what it held may be claimed.
    void stand_still() {
      std::lock_guard const lock(store_.mutex_);
      is_still_ = true;
      for (auto const& [key, member] : store_.claims_) {
        if (member == this) lost_.push_back(key);
      }
      std::erase_if(store_.claims_, [this](auto const& each) { return each.second == this; });
      store_.claim_for_all();
    }
    /// It goes on, and hears what it lost meanwhile.
    void go_on() {
      std::lock_guard const lock(store_.mutex_);
      is_still_ = false;
      if (ear_.lost) ear_.lost(std::exchange(lost_, {}));
    }
    /// As the one that looks after what nobody owns.
    void keep() {
      std::lock_guard const lock(store_.mutex_);
      if (ear_.keep) ear_.keep();
    }

   private:
    friend class SharedStore;
    SharedStore& store_;
    journal::Journal& inner_;
    std::string view_;
    Ear ear_;
    std::vector<Wanted> wanted_;
    std::uint64_t given_ = 0;
    bool is_still_ = false;
    std::vector<std::string> lost_;
  };

  [[nodiscard]] journal::Journal& journal() { return *journal_; }
  [[nodiscard]] std::size_t claims() {
    std::lock_guard const lock(mutex_);
    return claims_.size();
  }

 private:
  void add(Member* member) {
    std::lock_guard const lock(mutex_);
    members_.push_back(member);
  }
  void tell(Member const* teller, std::vector<std::string> const& told) {
    std::lock_guard const lock(mutex_);
    for (Member* const member : members_) {
      for (std::string const& name : told) {
        if (member != teller && member->ear_.heard) member->ear_.heard(name);
      }
    }
    if (!told.empty()) claim_for_all();
  }
  void claim_for_all() {
    for (Member* const member : members_) claim_for(*member);
  }
  void claim_for(Member& member) {
    if (!member.ear_.claimed || member.is_still_) return;
    for (journal::Sharing::Wanted& wanted : member.wanted_) {
      std::vector<journal::Record> claimed;
      auto const rows = journal_->records(member.view_, wanted.from, wanted.to, 1000);
      for (journal::Record const& row : *rows) {
        if (claimed.size() < wanted.count && claims_.try_emplace(row.key, &member).second)
          claimed.push_back(row);
      }
      wanted.count -= claimed.size();
      member.given_ += claimed.size();
      if (!claimed.empty()) member.ear_.claimed(std::move(claimed));
    }
  }

  std::mutex mutex_;
  std::unique_ptr<journal::Journal> journal_ = journal::open_memory_journal();
  std::vector<Member*> members_;
  std::map<std::string, Member*> claims_;
};

}  // namespace aether::jobs::testing
