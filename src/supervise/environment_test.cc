// SPDX-License-Identifier: Apache-2.0
#include "supervise/environment.h"

#include <algorithm>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aether::supervise {
namespace {

using ::testing::HasSubstr;

std::optional<std::string> value(std::vector<std::string> const& entries, std::string_view name) {
  std::optional<std::string> found;
  for (std::string const& entry : entries) {
    if (!entry.starts_with(name) || entry[name.size()] != '=') continue;
    EXPECT_FALSE(found) << name << " is there twice";
    found = entry.substr(name.size() + 1);
  }
  return found;
}

std::vector<PassedListener> two_listeners() {
  return {{.name = "http", .fd = 10, .address = *parse_address("127.0.0.1:8080")},
          {.name = "admin", .fd = 11, .address = *parse_address("unix:/run/x.sock")}};
}

TEST(Environment, GivesWhatTheContractNames) {
  auto const listeners = two_listeners();
  auto const entries = build_environment({}, {.service = "web",
                                              .revision = {3},
                                              .instance = {9},
                                              .listeners = listeners,
                                              .state_socket = "/run/s.sock",
                                              .notify_socket = "/run/n.sock",
                                              .watchdog = std::chrono::seconds(2)});
  EXPECT_EQ(value(entries, "LISTEN_FDS"), "2");
  EXPECT_EQ(value(entries, "LISTEN_FDNAMES"), "http:admin");
  EXPECT_EQ(value(entries, "LISTEN_PID"), std::nullopt);
  EXPECT_EQ(value(entries, "AETERNA_INHERITED_FDS"), "2");
  EXPECT_EQ(value(entries, "AETERNA_MANAGED"), "1");
  EXPECT_EQ(value(entries, "AETERNA_STATE_SOCK"), "/run/s.sock");
  EXPECT_EQ(value(entries, "NOTIFY_SOCKET"), "/run/n.sock");
  EXPECT_EQ(value(entries, "WATCHDOG_USEC"), "2000000");
  EXPECT_EQ(value(entries, "AETHER_SERVICE"), "web");
  EXPECT_EQ(value(entries, "AETHER_REVISION"), "3");
  EXPECT_EQ(value(entries, "AETHER_INSTANCE_ID"), "9");
  EXPECT_EQ(value(entries, "NGINX"), std::nullopt);
}

TEST(Environment, NamesStoredDescriptorsAfterTheListeners) {
  auto const listeners = two_listeners();
  auto const entries = build_environment({}, {.invocation_id = "0123456789abcdef",
                                              .listeners = listeners,
                                              .stored_names = {"stored", "cache"},
                                              .fd_store_max = 128});
  EXPECT_EQ(value(entries, "LISTEN_FDS"), "4");
  EXPECT_EQ(value(entries, "LISTEN_FDNAMES"), "http:admin:stored:cache");
  EXPECT_EQ(value(entries, "AETERNA_INHERITED_FDS"), "2") << "stored ones are no listeners";
  EXPECT_EQ(value(entries, "EINHORN_FD_COUNT"), "2");
  EXPECT_EQ(value(entries, "FDSTORE"), "128");
  EXPECT_EQ(value(entries, "INVOCATION_ID"), "0123456789abcdef");
  EXPECT_EQ(value(build_environment({}, {}), "FDSTORE"), std::nullopt);
}

TEST(Environment, TellsHooksWhoServesAndHowTheOtherEnded) {
  EXPECT_TRUE(hook_facts(0, std::nullopt).empty());
  EXPECT_EQ(hook_facts(12, EndFacts{}),
            (std::vector<std::string>{"MAINPID=12", "SERVICE_RESULT=success"}));
  EXPECT_EQ(
      hook_facts(0, EndFacts{.result = "exit-code", .status = os::ExitStatus{.code = 3}}),
      (std::vector<std::string>{"SERVICE_RESULT=exit-code", "EXIT_CODE=exited", "EXIT_STATUS=3"}));
  EXPECT_EQ(
      hook_facts(0, EndFacts{.result = "signal", .status = os::ExitStatus{.signal = 15}}),
      (std::vector<std::string>{"SERVICE_RESULT=signal", "EXIT_CODE=killed", "EXIT_STATUS=TERM"}));
}

TEST(Environment, SpeaksTheOtherConventionsToo) {
  auto const listeners = two_listeners();
  std::vector<config::Compat> const all = {config::Compat::Nginx};
  auto const entries = build_environment({}, {.listeners = listeners, .compat = all});
  EXPECT_EQ(value(entries, "NGINX"), "3;4;");
  EXPECT_EQ(value(entries, "SERVER_STARTER_PORT"), "127.0.0.1:8080=3;/run/x.sock=4");
  EXPECT_EQ(value(entries, "EINHORN_FD_COUNT"), "2");
  EXPECT_EQ(value(entries, "EINHORN_FD_0"), "3");
  EXPECT_EQ(value(entries, "EINHORN_FD_1"), "4");
}

TEST(Environment, KeepsWhatAnOuterManagerSaidToItself) {
  std::vector<std::string> const own = {
      "PATH=/bin",          "LISTEN_FDS=1",   "LISTEN_PID=1",       "NOTIFY_SOCKET=/run/systemd",
      "WATCHDOG_USEC=1",    "WATCHDOG_PID=1", "NGINX=9;",           "GUNICORN_FD=3",
      "GUNICORN_CMD_ARGS=", "AETHER_FAULT=x", "AETERNA_MANAGED=2",  "EINHORN_FD_0=7",
      "MAINPID=1",          "HOME=/root",     "LISTENER_OF_MINE=1", "malformed"};
  auto const entries = build_environment(own, {.service = "web"});
  EXPECT_EQ(value(entries, "PATH"), "/bin");
  EXPECT_EQ(value(entries, "HOME"), "/root");
  EXPECT_EQ(value(entries, "GUNICORN_CMD_ARGS"), "");
  EXPECT_EQ(value(entries, "LISTENER_OF_MINE"), "1");
  EXPECT_EQ(value(entries, "AETERNA_MANAGED"), "1");
  for (char const* name :
       {"LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "NGINX",
        "GUNICORN_FD", "AETHER_FAULT", "EINHORN_FD_0", "MAINPID"})
    EXPECT_EQ(value(entries, name), std::nullopt) << name;
}

TEST(Environment, LetsTheConfigurationWinOverOursAndUsAboutOurNames) {
  std::vector<std::string> const own = {"PATH=/bin", "HOME=/root"};
  auto const entries = build_environment(
      own,
      {.notify_socket = "/run/n",
       .user_defaults = {{"HOME", "/home/a"}, {"USER", "a"}},
       .configured = {
           {"PATH", "/opt"}, {"PORT", "8080"}, {"NOTIFY_SOCKET", "/tmp/trick"}, {"USER", "b"}}});
  EXPECT_EQ(value(entries, "PATH"), "/opt");
  EXPECT_EQ(value(entries, "PORT"), "8080");
  EXPECT_EQ(value(entries, "HOME"), "/home/a");
  EXPECT_EQ(value(entries, "USER"), "b");
  EXPECT_EQ(value(entries, "NOTIFY_SOCKET"), "/run/n");
}

TEST(Environment, DoesNotGrowWhenItIsItsOwnInput) {
  auto const listeners = two_listeners();
  ChildEnvironment const child{.service = "web", .listeners = listeners, .notify_socket = "/n"};
  auto entries = build_environment({}, child);
  for (int i = 0; i < 5; ++i) {
    auto const again = build_environment(entries, child);
    EXPECT_EQ(again.size(), entries.size());
    entries = again;
  }
}

TEST(Environment, GivesHooksNeitherListenersNorSockets) {
  auto const listeners = two_listeners();
  auto const entries = build_hook_environment({}, {.service = "web",
                                                   .listeners = listeners,
                                                   .state_socket = "/s",
                                                   .notify_socket = "/n",
                                                   .configured = {{"A", "1"}}});
  EXPECT_EQ(value(entries, "A"), "1");
  EXPECT_EQ(value(entries, "AETHER_SERVICE"), "web");
  for (char const* name : {"LISTEN_FDS", "NOTIFY_SOCKET", "AETERNA_STATE_SOCK"})
    EXPECT_EQ(value(entries, name), std::nullopt) << name;
}

TEST(Environment, MakesListenerNamesSafeForTheirList) {
  std::vector<PassedListener> const listeners = {{.name = "a:b", .address = *parse_address(":80")},
                                                 {.name = "", .address = *parse_address(":81")}};
  EXPECT_EQ(value(build_environment({}, {.listeners = listeners}), "LISTEN_FDNAMES"),
            "a_b:unknown");
}

TEST(SubstituteFds, TakesTheFormOfCircusToo) {
  auto const listeners = two_listeners();
  std::vector<std::string> const command = {"web", "--fd", "$(circus.sockets.admin)", "$(HOME)"};
  EXPECT_EQ(substitute_fds(command, listeners).value(),
            (std::vector<std::string>{"web", "--fd", "4", "$(HOME)"}));
}

TEST(SubstituteFds, PutsTheNumberOfANamedListener) {
  auto const listeners = two_listeners();
  std::vector<std::string> const command = {
      "uvicorn", "--fd", "{fd:http}", "fd@{fd:admin},{fd:http}", "{fd:open", "{other}"};
  EXPECT_EQ(*substitute_fds(command, listeners),
            (std::vector<std::string>{"uvicorn", "--fd", "3", "fd@4,3", "{fd:open", "{other}"}));
}

TEST(SubstituteFds, NamesTheListenersWhenThereIsNoneOfThatName) {
  auto const listeners = two_listeners();
  std::vector<std::string> const command = {"x", "{fd:web}"};
  auto const result = substitute_fds(command, listeners);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::ConfigInvalid);
  EXPECT_THAT(result.error().message(), HasSubstr("http, admin"));
}

}  // namespace
}  // namespace aether::supervise
