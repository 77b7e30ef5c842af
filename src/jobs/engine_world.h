// SPDX-License-Identifier: Apache-2.0
// What stands around an engine in tests: a clock to turn, a tool that obeys, the other side of the
// world that counts, and a journal that dies. Tests only.
#pragma once
#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "async/event.h"
#include "jobs/policy.h"
#include "journal/journal.h"
#include "tools/tool.h"

namespace aether::jobs::testing {

namespace json = boost::json;

/// Turned from the test's thread while the engine looks at it from its own.
class TurnedClock final : public Clock {
 public:
  [[nodiscard]] Instant now() const override { return Instant(Duration(at_.load())); }
  [[nodiscard]] WallTime wall() const override { return WallTime(Duration(at_.load())); }
  void advance(Duration by) { at_ += by.count(); }

 private:
  std::atomic<Duration::rep> at_{Duration(std::chrono::hours(1)).count()};
};

/// Rung when something may have changed; a waiting test looks again.
class Bell {
 public:
  void ring() {
    std::lock_guard const lock(mutex_);
    ++rings_;
    rung_.notify_all();
  }
  /// True when it has become so, false if it has not after a long time.
  template <class Condition>
  bool wait_for(Condition condition) {
    for (int looks = 0; looks < kLooksMax; ++looks) {
      std::uint64_t const before = rings();
      if (condition()) return true;
      std::unique_lock lock(mutex_);
      rung_.wait_for(lock, kLook, [this, before] { return rings_ != before; });
    }
    return condition();
  }

 private:
  static constexpr int kLooksMax = 3000;
  static constexpr Duration kLook = std::chrono::milliseconds(20);
  std::uint64_t rings() {
    std::lock_guard const lock(mutex_);
    return rings_;
  }
  std::mutex mutex_;
  std::condition_variable rung_;
  std::uint64_t rings_ = 0;
};

/// The other side of the world: counts, and outlives engines.
struct World {
  std::mutex mutex;
  std::map<std::string, int> calls;                  ///< By args.name.
  std::map<std::string, int> lookups;                ///< By key.
  std::vector<std::string> order;                    ///< Names of calls as they came.
  std::map<std::string, std::string> keys;           ///< By name: the last Idempotency-Key.
  std::map<std::string, tools::CallResult> answers;  ///< By name; else Ok.
  std::map<std::string, bool> hangs;  ///< Calls of that name wait for their cancellation.
  tools::CallResult lookup_answer{.outcome = EffectOutcome::Unknown, .result = {}, .error = {}};
  int running = 0;
  int running_max = 0;
  int drivers = 0;                             ///< That are held in memory.
  std::atomic<bool> has_lost_drivers = false;  ///< None can be made.
  Bell bell;

  int count(std::string const& name) {
    std::lock_guard const lock(mutex);
    return calls[name];
  }
  int lookups_of(std::string const& name) {
    std::lock_guard const lock(mutex);
    return lookups[keys[name]];
  }
  std::string key_of(std::string const& name) {
    std::lock_guard const lock(mutex);
    return keys[name];
  }
  std::vector<std::string> calls_in_order() {
    std::lock_guard const lock(mutex);
    return order;
  }
  int most_at_once() {
    std::lock_guard const lock(mutex);
    return running_max;
  }
  int drivers_held() {
    std::lock_guard const lock(mutex);
    return drivers;
  }
  void answer(std::string const& name, tools::CallResult result) {
    std::lock_guard const lock(mutex);
    answers[name] = std::move(result);
  }
  void answer_ok(std::string const& name) {
    std::lock_guard const lock(mutex);
    answers.erase(name);
  }
  void hang(std::string const& name, bool hangs_now = true) {
    std::lock_guard const lock(mutex);
    hangs[name] = hangs_now;
  }
};

class CountTool final : public tools::Tool {
 public:
  CountTool(World& world, std::string name) : world_(world), name_(std::move(name)) {}
  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] std::string_view description() const override { return "counts"; }
  [[nodiscard]] json::value schema() const override { return json::object{}; }
  [[nodiscard]] Status check(json::value const& args) const override {
    if (args.is_object() && args.as_object().contains("name")) return {};
    return fail(ErrorCode::RequestInvalid, "name: is missing");
  }
  [[nodiscard]] bool can_look_up(json::value const&) const override { return true; }
  [[nodiscard]] async::Task<tools::CallResult> call(tools::Call call) override {
    return perform(&world_, std::string(call.args.at("name").as_string()), std::move(call.key));
  }
  [[nodiscard]] async::Task<tools::CallResult> look_up(tools::Call call) override {
    return ask(&world_, std::move(call.key));
  }

 private:
  static bool begin(World* world, std::string const& name, std::string key,
                    tools::CallResult& result) {
    std::lock_guard const lock(world->mutex);
    ++world->calls[name];
    world->order.push_back(name);
    world->keys[name] = std::move(key);
    world->running_max = std::max(world->running_max, ++world->running);
    if (auto const answer = world->answers.find(name); answer != world->answers.end())
      result = answer->second;
    return world->hangs[name];
  }
  static async::Task<tools::CallResult> perform(World* world, std::string name, std::string key) {
    tools::CallResult result;
    bool const hangs = begin(world, name, std::move(key), result);
    world->bell.ring();
    async::Event never;
    if (hangs) {
      async::Task<async::WaitOutcome> waiting = never.wait_outcome(Instant::max());
      co_await std::move(waiting);
      result.outcome = EffectOutcome::Unknown;
      result.error = "cancelled";
    }
    std::lock_guard const lock(world->mutex);
    --world->running;
    co_return result;
  }
  static async::Task<tools::CallResult> ask(World* world, std::string key) {
    std::lock_guard const lock(world->mutex);
    ++world->lookups[key];
    co_return world->lookup_answer;
  }
  World& world_;
  std::string name_;
};

/// Passes everything on until it has appended so many batches; then it is as a process that was
/// killed: nothing is written or read through it any more.
class MortalJournal final : public journal::Journal {
 public:
  enum class Dies : std::uint8_t {
    Before,  ///< The next batch is not appended.
    After,   ///< The next batch is appended, and nobody hears of it.
  };
  MortalJournal(journal::Journal& real, int batches, Dies dies, Bell& bell)
      : real_(real), left_(batches), dies_(dies), bell_(bell) {}

  [[nodiscard]] bool is_dead() const { return left_ < 0; }
  void kill() { left_ = -1; }
  [[nodiscard]] int streams_read() const { return streams_read_; }

  void append(journal::Batch batch, journal::Answer answer) override {
    int const left = left_.fetch_sub(1);
    if (left > 0) return real_.append(std::move(batch), std::move(answer));
    if (left == 0 && dies_ == Dies::After) {
      return real_.append(std::move(batch),
                          [this, answer = std::move(answer)](auto const& /*outcome*/) mutable {
                            answer(dead());
                            bell_.ring();
                          });
    }
    answer(dead());
    bell_.ring();
  }
  [[nodiscard]] Result<std::vector<journal::Event>> read(journal::Position from,
                                                         std::size_t count) override {
    return is_dead() ? dead() : real_.read(from, count);
  }
  [[nodiscard]] Result<std::vector<journal::Event>> read_stream(std::string_view stream,
                                                                journal::Sequence from,
                                                                std::size_t count) override {
    ++streams_read_;
    return is_dead() ? dead() : real_.read_stream(stream, from, count);
  }
  [[nodiscard]] Result<journal::StreamState> stream(std::string_view stream) override {
    return is_dead() ? dead() : real_.stream(stream);
  }
  [[nodiscard]] Result<std::vector<std::string>> streams(std::string_view after,
                                                         std::size_t count) override {
    return real_.streams(after, count);
  }
  [[nodiscard]] Result<std::optional<journal::Position>> key_holder(std::string_view key) override {
    return is_dead() ? dead() : real_.key_holder(key);
  }
  [[nodiscard]] Result<std::optional<journal::Blob>> blob(journal::BlobHash const& hash) override {
    return is_dead() ? dead() : real_.blob(hash);
  }
  [[nodiscard]] Result<std::optional<std::string>> record(std::string_view view,
                                                          std::string_view key) override {
    return is_dead() ? dead() : real_.record(view, key);
  }
  [[nodiscard]] Result<std::vector<journal::Record>> records(std::string_view view,
                                                             std::string_view from,
                                                             std::string_view to,
                                                             std::size_t count) override {
    return is_dead() ? dead() : real_.records(view, from, to, count);
  }
  [[nodiscard]] Result<journal::TreeHead> tree_head() override { return real_.tree_head(); }
  [[nodiscard]] Result<std::vector<std::string>> checkpoints() override {
    return real_.checkpoints();
  }
  [[nodiscard]] Result<std::vector<journal::StorageFault>> check_storage() override {
    return real_.check_storage();
  }
  [[nodiscard]] Result<std::vector<journal::Hash>> leaves(std::uint64_t first,
                                                          std::size_t count) override {
    return real_.leaves(first, count);
  }
  [[nodiscard]] Result<std::optional<journal::Hash>> node(unsigned level,
                                                          std::uint64_t index) override {
    return real_.node(level, index);
  }

 private:
  static Failure dead() { return fail(ErrorCode::StoreUnavailable, "the process was killed"); }
  journal::Journal& real_;
  std::atomic<int> left_;
  std::atomic<int> streams_read_{0};
  Dies dies_;
  Bell& bell_;
};

}  // namespace aether::jobs::testing
