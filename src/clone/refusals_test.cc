// SPDX-License-Identifier: Apache-2.0
// What cannot be copied is found in programs that have it, is told, and is left as it was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "clone/template.h"
#include "clone/testing.h"

namespace aether::clone {
namespace {

using os::testing::Program;
using os::testing::python;
using ::testing::Contains;
using ::testing::HasSubstr;

struct Refused {
  char const* name;
  char const* makes;  ///< Python; sets `missing` if this kernel or sandbox has it not.
  char const* why;    ///< Part of what is told.
};

void PrintTo(Refused const& refused, std::ostream* out) {
  *out << refused.name;
}

class Refusals : public ::testing::TestWithParam<Refused> {};

TEST_P(Refusals, AreToldOfAProgramThatHasIt) {
  auto const& refused = GetParam();
  Program program(python(std::string(R"(
import ctypes, fcntl, mmap, os, signal, socket, tempfile, time
libc = ctypes.CDLL(None, use_errno=True)
missing = ''
def made(number):
    global missing
    if number < 0: missing = os.strerror(ctypes.get_errno())
    return number
)") + refused.makes +
                         R"(
print(missing or 'made', flush=True)
def echo():
    while True: print(input(), flush=True)
echo()
)"));
  auto const made = program.read_line();
  if (made != "made") GTEST_SKIP() << refused.name << ": " << made;
  ASSERT_TRUE(os::testing::wait_until([&] { return is_at_rest(program.pid()); }));
  auto const reasons = why_not(program.pid());
  ASSERT_TRUE(reasons) << reasons.error().describe();
  EXPECT_THAT(*reasons, Contains(HasSubstr(refused.why)));
  ASSERT_TRUE(os::testing::wait_until([&] { return is_at_rest(program.pid()); }));
  auto const frozen = Template::freeze(program.pid());
  ASSERT_FALSE(frozen);
  EXPECT_EQ(frozen.error().code(), ErrorCode::Unsupported);
  EXPECT_THAT(frozen.error().message(), HasSubstr(refused.why));
  // Nobody holds it, and it goes on with what it did.
  program.write_line("go on");
  EXPECT_EQ(program.read_line(), "go on");
}

// System calls by their numbers on x86-64, for which the C library has no function.
INSTANTIATE_TEST_SUITE_P(
    Each, Refusals,
    ::testing::Values(
        Refused{"Inotify", "made(libc.inotify_init())", "an inotify instance"},
        Refused{"IoUring", "made(libc.syscall(425, 8, ctypes.create_string_buffer(120)))",
                "[io_uring]"},
        Refused{"Userfaultfd", "made(libc.syscall(323, 0))", "[userfaultfd]"},
        Refused{"PerfEvent",
                "attributes = ctypes.create_string_buffer(128)\n"
                "attributes[0] = 1\nattributes[4] = 112\n"
                "made(libc.syscall(298, attributes, 0, -1, -1, 0))",
                "[perf_event]"},
        Refused{"PosixTimer",
                "timer = ctypes.c_void_p()\n"
                "made(libc.timer_create(1, None, ctypes.byref(timer)))\n"
                "if not os.path.exists('/proc/self/timers'): missing = 'no /proc/self/timers'",
                "timers of timer_create()"},
        Refused{"IntervalTimer", "signal.setitimer(signal.ITIMER_REAL, 1000)",
                "a running timer of setitimer()"},
        Refused{"AsynchronousIo",
                "context = ctypes.c_ulong(0)\nmade(libc.syscall(206, 8, ctypes.byref(context)))",
                "it uses io_setup()"},
        Refused{"FileLockOfFlock",
                "file = tempfile.TemporaryFile()\nfcntl.flock(file, fcntl.LOCK_EX)",
                "a locked file"},
        Refused{"FileLockOfFcntl",
                "file = tempfile.TemporaryFile()\nfcntl.lockf(file, fcntl.LOCK_EX)",
                "a locked file"},
        Refused{"SignallingFile",
                "one, other = socket.socketpair()\n"
                "fcntl.fcntl(one, fcntl.F_SETFL, os.O_ASYNC)",
                "a file that sends signals (O_ASYNC)"},
        Refused{"MuchSharedMemory", "shared = mmap.mmap(-1, 32 << 20)", "it shares 32 MiB"},
        Refused{"TwiceMappedMemory",
                "file = os.memfd_create('twice')\nos.ftruncate(file, 4096)\n"
                "one, other = mmap.mmap(file, 4096), mmap.mmap(file, 4096)",
                "the same shared memory"},
        Refused{"FullPipe", "out, into = os.pipe()\nos.write(into, b'x' * 5000)",
                "a pipe with more than 4096 unread bytes"},
        Refused{"SocketPairWithBytes", "one, other = socket.socketpair()\none.send(b'x')",
                "a socket pair with 1 unread bytes"}),
    [](auto const& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace aether::clone
