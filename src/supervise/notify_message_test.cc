// SPDX-License-Identifier: Apache-2.0
#include "supervise/notify_message.h"

#include <string>

#include <gtest/gtest.h>

namespace aether::supervise {
namespace {

using namespace std::string_literals;

TEST(NotifyMessage, UnderstandsWhatServersSay) {
  auto const haproxy = parse_notify_message("READY=1\nMAINPID=4242\n");
  EXPECT_TRUE(haproxy.ready);
  EXPECT_EQ(haproxy.main_pid, 4242);
  auto const gunicorn = parse_notify_message("READY=1\nSTATUS=Gunicorn arbiter booted");
  EXPECT_TRUE(gunicorn.ready);
  EXPECT_EQ(gunicorn.status, "Gunicorn arbiter booted");
  EXPECT_TRUE(parse_notify_message("RELOADING=1\nMONOTONIC_USEC=12").reloading);
  EXPECT_TRUE(parse_notify_message("STOPPING=1").stopping);
  EXPECT_TRUE(parse_notify_message("BARRIER=1").barrier);
  EXPECT_TRUE(parse_notify_message("WATCHDOG=1").watchdog);
  EXPECT_TRUE(parse_notify_message("WATCHDOG=trigger").watchdog_trigger);
  EXPECT_EQ(parse_notify_message("ERRNO=2").error_number, 2);
  auto const store = parse_notify_message("FDSTORE=1\nFDNAME=state");
  EXPECT_TRUE(store.fd_store);
  EXPECT_EQ(store.fd_name, "state");
  EXPECT_TRUE(parse_notify_message("FDSTOREREMOVE=1\nFDNAME=state").fd_store_remove);
}

TEST(NotifyMessage, UnderstandsTheRarerFields) {
  auto const main = parse_notify_message("MAINPID=77\nMAINPIDFDID=18446744073709551615");
  EXPECT_EQ(main.main_pid, 77);
  EXPECT_EQ(main.main_pidfd_id, 18446744073709551615U);
  auto const failed = parse_notify_message(
      "BUSERROR=org.freedesktop.DBus.Error.NoReply\nVARLINKERROR=io.systemd.Bad\nEXIT_STATUS=7");
  EXPECT_EQ(failed.bus_error, "org.freedesktop.DBus.Error.NoReply");
  EXPECT_EQ(failed.varlink_error, "io.systemd.Bad");
  EXPECT_EQ(failed.exit_status, 7);
  EXPECT_TRUE(parse_notify_message("FDSTORE=1").fd_poll);
  EXPECT_FALSE(parse_notify_message("FDSTORE=1\nFDPOLL=0").fd_poll);
  EXPECT_EQ(parse_notify_message("NOTIFYACCESS=main").access, config::NotifyAccess::Main);
  EXPECT_EQ(parse_notify_message("NOTIFYACCESS=exec").access, config::NotifyAccess::Main);
  EXPECT_EQ(parse_notify_message("NOTIFYACCESS=none").access, config::NotifyAccess::None);
  EXPECT_EQ(parse_notify_message("NOTIFYACCESS=all").access, config::NotifyAccess::All);
  EXPECT_EQ(parse_notify_message("RELOADING=1\nMONOTONIC_USEC=12").reloading_since,
            std::chrono::microseconds(12));
}

TEST(NotifyMessage, CountsTimesInMicroseconds) {
  auto const message = parse_notify_message("EXTEND_TIMEOUT_USEC=5000000\nWATCHDOG_USEC=250000");
  EXPECT_EQ(message.extend_timeout, std::chrono::seconds(5));
  EXPECT_EQ(message.watchdog_interval, std::chrono::milliseconds(250));
}

// Edge: B5
TEST(NotifyMessage, TakesALineWithoutNewlineAndLinesEndedByNul) {
  EXPECT_TRUE(parse_notify_message("READY=1").ready);
  auto const message = parse_notify_message("STATUS=a\0READY=1\0\0"s);
  EXPECT_TRUE(message.ready);
  EXPECT_EQ(message.status, "a");
}

TEST(NotifyMessage, IgnoresWhatItDoesNotKnowOrCannotBelieve) {
  EXPECT_EQ(parse_notify_message(""), NotifyMessage{});
  EXPECT_EQ(parse_notify_message("\n\n=\n==\nX_FOO=1\nREADY\nready=1\n READY=1"), NotifyMessage{});
  EXPECT_EQ(parse_notify_message("READY=0\nREADY=yes\nREADY=11"), NotifyMessage{});
  for (char const* text : {"MAINPID=1",
                           "MAINPID=0",
                           "MAINPID=-5",
                           "MAINPID=99999999999999",
                           "MAINPID=12x",
                           "MAINPID= 12",
                           "MAINPID=",
                           "ERRNO=99999",
                           "ERRNO=-1",
                           "EXTEND_TIMEOUT_USEC=18446744073709551615",
                           "EXTEND_TIMEOUT_USEC=0",
                           "WATCHDOG_USEC=-1",
                           "FDNAME=a:b",
                           "FDNAME=",
                           "FDNAME=a\tb",
                           "MAINPIDFDID=0",
                           "EXIT_STATUS=256",
                           "BUSERROR=a b",
                           "VARLINKERROR=",
                           "NOTIFYACCESS=everybody",
                           "FDPOLL=1"})
    EXPECT_EQ(parse_notify_message(text), NotifyMessage{}) << text;
}

TEST(NotifyMessage, KeepsAReadySaidTwice) {
  EXPECT_TRUE(parse_notify_message("READY=1\nREADY=1").ready);
  EXPECT_TRUE(parse_notify_message("READY=1\nREADY=0").ready);
}

TEST(NotifyMessage, CutsALongStatusAtACharacter) {
  std::string const status =
      parse_notify_message("STATUS=" + std::string(1023, 'a') + "é").status.value();
  EXPECT_EQ(status, std::string(1023, 'a'));
}

TEST(NotifyMessage, MakesAStatusFitForATerminal) {
  EXPECT_EQ(parse_notify_message("STATUS=a\x1b[31mb\xff!").status, "a [31mb\xEF\xBF\xBD!");
}

TEST(NotifyMessage, FindsItsLinesInSixtyFourKibibytes) {
  std::string datagram;
  while (datagram.size() < kNotifyBytesMax - 16) datagram += "X_NOISE=abcdefg\n";
  datagram += "READY=1\n";
  EXPECT_TRUE(parse_notify_message(datagram).ready);
}

}  // namespace
}  // namespace aether::supervise
