// SPDX-License-Identifier: Apache-2.0
// Instances that bind their own port: what is asked before they start, and when they are ready.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "supervise/instance.h"
#include "supervise/instance_rig.h"

namespace aether::supervise {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

/// What relay says, without a kernel: complete when the test says so.
struct ToldBinds {
  bool complete = false;
  int prepared = 0;
  std::optional<Error> refusal;

  OwnBinds binds() {
    return {.prepare = [this](os::Cgroup const&) -> Status {
              ++prepared;
              if (refusal) return fail(*refusal);
              return {};
            },
            .complete = [this](std::span<pid_t const>) { return complete; },
            .own_port = [](std::string const&, std::uint16_t) { return std::nullopt; },
            .addresses = "127.0.0.1:8080"};
  }
};

bool has_groups() {
  return os::Cgroup::create("aether-test-binds").has_value();
}

CORO_TEST(InstanceBinds, IsReadyWhenEverythingIsBoundAndNotBefore) {
  if (!has_groups()) CO_SKIP() << "needs a cgroup v2 tree that the test may write to";
  InstanceRig rig(loop);
  ToldBinds told;
  rig.own_binds = told.binds();
  rig.spec.ready = config::ReadyAuto{};
  auto const instance = rig.shell("echo up; exec sleep 60");
  bool const up = co_await rig.wait_line("up");
  CO_ASSERT_TRUE(up);
  EXPECT_EQ(told.prepared, 1);
  EXPECT_FALSE(instance->is_ready());
  told.complete = true;
  auto const ready = co_await rig.wait<event::BecameReady>();
  CO_ASSERT_TRUE(ready.has_value());
  EXPECT_EQ(ready->how, ReadyBy::Listening);
  co_await instance->close();
}

CORO_TEST(InstanceBinds, SaysWhatWasNotBoundWhenItIsLate) {
  if (!has_groups()) CO_SKIP() << "needs a cgroup v2 tree that the test may write to";
  InstanceRig rig(loop);
  ToldBinds told;
  rig.own_binds = told.binds();
  rig.spec.ready = config::ReadyAuto{};
  rig.spec.ready_timeout = 100ms;
  auto const instance = rig.shell("exec sleep 60");
  auto const ended = co_await rig.wait<event::Exited>();
  CO_ASSERT_TRUE(ended.has_value());
  EXPECT_THAT(ended->late, HasSubstr("127.0.0.1:8080 (steer: bpf)"));
  co_await instance->close();
}

CORO_TEST(InstanceBinds, IsNotStartedWhenItsGroupCannotBePrepared) {
  if (!has_groups()) CO_SKIP() << "needs a cgroup v2 tree that the test may write to";
  InstanceRig rig(loop);
  ToldBinds told;
  told.refusal = Error(ErrorCode::BpfUnavailable, "no");
  rig.own_binds = told.binds();
  auto const refused = rig.try_launch({"/bin/sh", "-c", "echo started"});
  CO_ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), ErrorCode::BpfUnavailable);
  EXPECT_TRUE(rig.lines().empty());
}

}  // namespace
}  // namespace aether::supervise
